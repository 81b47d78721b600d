"""Mounted on real applications: from the request to what the sender is given, and through start and stop."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, HttpUrl
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from callback_middleware import CallbackMiddleware, EgressPolicy, MemoryOutbox, SQLiteOutbox, State, deliver
from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.errors import ConfigurationError, InvalidConfiguration, NotMounted
from callback_middleware.fastapi import Callbacks
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, outcome_of
from callback_middleware.ports import Batch, PutReport
from callback_middleware.retry import RetryPolicy

INVOICE = {"id": "2expen51ve", "customer": "Mr. Richie Rich", "total": 9999.1}
ASKED = "/invoices/?callback_url=https://ext.example/events"


class Invoice(BaseModel):
    id: str
    customer: str
    total: float


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


# What FileResponse does at its first use reads a file, and is not ours to move.
mimetypes.init()

PAID = InvoiceEvent(description="Payment celebration", paid=True)


class Receiver:
    """A sender that keeps what it was given. ``arrived`` is set by the first ones, as many as are ``expected``."""

    def __init__(self, expected: int = 1) -> None:
        self.requests: list[AttemptRequest] = []
        self.expected = expected
        self.arrived = anyio.Event()
        self.goes_on = anyio.Event()
        self.goes_on.set()
        self.closed = False

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.requests.append(request)
        if len(self.requests) >= self.expected:
            self.arrived.set()
        await self.goes_on.wait()
        return outcome_of(Answer(200))

    async def aclose(self) -> None:
        self.closed = True


def invoices(expression: str = "{$callback_url}/invoices/{$request.body.id}", **options: Any) -> FastAPI:
    router = APIRouter()

    @router.post(expression)
    def invoice_notification(body: InvoiceEvent) -> None: ...

    app = FastAPI()
    app.add_middleware(CallbackMiddleware, **options)

    @app.post("/invoices/", callbacks=router.routes)
    async def create_invoice(
        invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None
    ) -> dict[str, str]:
        callbacks.send(invoice_notification, PAID)
        if invoice.total < 0:
            raise HTTPException(422, "negative")
        return {"msg": "Invoice received"}

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"msg": "plain"}

    return app


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://api.example") as client:
        yield client


@asynccontextmanager
async def alive(app: ASGIApp) -> AsyncIterator[list[Message]]:
    """The application between start-up and shutdown, as a server keeps it. Yields what the server hears."""
    heard: list[Message] = []
    started, stopping, stopped = anyio.Event(), anyio.Event(), anyio.Event()
    startup = [True]

    async def receive() -> Message:
        if startup:
            startup.clear()
            return {"type": "lifespan.startup"}
        await stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        heard.append(message)
        started.set()

    async def live() -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await app(scope, receive, send)
        stopped.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await started.wait()
        yield heard
        stopping.set()
        await stopped.wait()


# The main job


@pytest.mark.parametrize(
    "expression",
    [
        "${callback_url}/invoices/${request.body.id}",
        "{$callback_url}/invoices/{$request.body.id}",
        "{$request.query.callback_url}/invoices/{$request.body#/id}",
    ],
)
async def test_the_seed_example_is_sent_in_each_of_its_spellings(expression: str) -> None:
    receiver = Receiver()
    app = invoices(expression, sender=receiver)
    async with alive(app), client_of(app) as client:
        answer = await client.post(ASKED, json=INVOICE)
        assert (answer.status_code, answer.json()) == (200, {"msg": "Invoice received"})
        await receiver.arrived.wait()
    (request,) = receiver.requests
    assert request.method == "POST"
    assert request.url == "https://ext.example/events/invoices/2expen51ve"
    assert request.body == b'{"description":"Payment celebration","paid":true}'
    assert ("content-type", "application/json") in request.headers


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(("/invoices/", INVOICE), id="the client asked for no callback"),
        pytest.param((ASKED, {**INVOICE, "total": -1}), id="the response is no success"),
        pytest.param((ASKED, {"id": 1}), id="the request is not valid"),
    ],
)
async def test_nothing_is_sent_where_nothing_is_owed(asked: tuple[str, Any]) -> None:
    receiver = Receiver()
    app = invoices(sender=receiver)
    async with alive(app), client_of(app) as client:
        await client.post(asked[0], json=asked[1])
        await client.post(ASKED, json={**INVOICE, "id": "witness"})
        await receiver.arrived.wait()
    assert [request.url for request in receiver.requests] == ["https://ext.example/events/invoices/witness"]


async def test_without_a_lifespan_it_is_sent_all_the_same() -> None:
    receiver = Receiver()
    async with client_of(invoices(sender=receiver)) as client:
        await client.post(ASKED, json=INVOICE)
        await receiver.arrived.wait()


async def test_with_dispatch_off_it_is_only_put() -> None:
    outbox, receiver = MemoryOutbox(), Receiver()
    app = invoices(outbox=outbox, sender=receiver, dispatch=False)
    async with alive(app), client_of(app) as client:
        await client.post(ASKED, json=INVOICE)
    assert (await outbox.counts())[State.PENDING] == 1
    assert receiver.requests == []


async def test_a_def_handler_and_a_nested_dependency_stage_too() -> None:
    from fastapi import Depends

    # Which has never accepted anything, and so is sent one at a time.
    receiver = Receiver(expected=2)
    router = APIRouter()

    @router.post("{$callback_url}/{$request.query.n}")
    def paid(body: InvoiceEvent) -> None: ...

    def service(callbacks: Callbacks) -> None:
        callbacks.send(paid, PAID)

    app = FastAPI()
    app.add_middleware(CallbackMiddleware, sender=receiver)

    @app.post("/", callbacks=router.routes, dependencies=[Depends(service)])
    def handler(callbacks: Callbacks, callback_url: str, n: int) -> None:
        callbacks.send("paid", {"description": "from a def handler", "paid": False})

    async with alive(app), client_of(app) as client:
        assert (await client.post("/?callback_url=https://ext.example&n=1")).status_code == 200
        await receiver.arrived.wait()
    assert len(receiver.requests) == 2


# Start and stop


async def test_what_is_in_flight_ends_before_the_application_stops() -> None:
    outbox, receiver = MemoryOutbox(), Receiver()
    receiver.goes_on = anyio.Event()
    app = invoices(outbox=outbox, sender=receiver)

    async def answer_late() -> None:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        receiver.goes_on.set()

    async with anyio.create_task_group() as tasks:
        async with alive(app), client_of(app) as client:
            await client.post(ASKED, json=INVOICE)
            await receiver.arrived.wait()
            tasks.start_soon(answer_late)
        assert (await outbox.counts())[State.DELIVERED] == 1
    assert receiver.closed


async def test_what_is_stopped_before_it_began_never_begins() -> None:
    receiver, outbox = Receiver(), MemoryOutbox()
    middleware = CallbackMiddleware(FastAPI(), outbox=outbox, sender=receiver)
    middleware.start()
    await middleware.stop()
    now = SystemClock().now()
    due = Delivery(
        id=uuid4(),
        operation="POST /",
        callback="paid",
        method="POST",
        url="https://ext.example/e",
        origin="https://ext.example:443",
        created_at=now,
        due_at=now,
        retry=RetryPolicy(),
        deadline=DEADLINE,
    )
    await outbox.put(Batch([due]))
    for _ in range(50):
        await anyio.lowlevel.checkpoint()
    assert receiver.requests == []


async def test_start_up_says_how_many_callbacks_there_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    async with alive(invoices(sender=Receiver())) as heard:
        assert heard == [{"type": "lifespan.startup.complete"}]
    assert "1 callbacks on 1 operations" in caplog.messages


async def test_start_up_warns_where_there_are_none(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware)
    async with alive(app):
        pass
    (record,) = [record for record in caplog.records if "callbacks on" in record.getMessage()]
    assert (record.levelname, record.getMessage()) == ("WARNING", "0 callbacks on 0 operations")


class Deranged(MemoryOutbox):
    """An outbox that fails as no outbox may."""

    async def put(self, batch: Batch) -> PutReport:
        raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("outbox", "says"),
    [
        (lambda folder: SQLiteOutbox(folder / "missing" / "callbacks.db"), "there is no folder"),
        (lambda folder: Deranged(), "callbacks cannot be stored"),
    ],
)
async def test_start_up_says_that_an_outbox_does_not_work_and_serves_what_it_can(
    outbox: Callable[[Path], Any], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with alive(invoices(outbox=outbox(tmp_path), dispatch=False)) as heard:
        assert heard == [{"type": "lifespan.startup.complete"}]
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert says in error


class Outdated(MemoryOutbox):
    """An outbox with a schema that is older than the library, until somebody migrates it."""

    def __init__(self) -> None:
        super().__init__()
        self.outdated = True
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        if self.outdated:
            raise ConfigurationError("its schema is old: callback-middleware migrate")


async def test_an_outbox_with_an_old_schema_stops_the_start_with_the_command_to_run() -> None:
    async with alive(invoices(outbox=Outdated(), dispatch=False)) as heard:
        assert heard == [
            {"type": "lifespan.startup.failed", "message": "its schema is old: callback-middleware migrate"}
        ]


async def test_without_a_lifespan_requests_say_that_the_schema_is_old_until_it_is_not() -> None:
    outbox = Outdated()
    async with client_of(invoices(outbox=outbox, dispatch=False)) as client:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="callback-middleware migrate"):
                await client.get("/plain")
        outbox.outdated = False
        assert (await client.get("/plain")).status_code == 200
        assert (await client.get("/plain")).status_code == 200
    assert outbox.starts == 3


async def test_an_outbox_that_was_started_is_not_started_again_by_the_first_request() -> None:
    outbox = Outdated()
    outbox.outdated = False
    app = invoices(outbox=outbox, dispatch=False)
    async with alive(app), client_of(app) as client:
        assert (await client.get("/plain")).status_code == 200
    assert outbox.starts == 1


async def test_start_up_names_the_callbacks_that_nobody_will_ever_send(caplog: pytest.LogCaptureFixture) -> None:
    router = APIRouter()

    @router.post("{$callback_url}")
    def forgotten(body: InvoiceEvent) -> None: ...

    @router.post("{$callback_url}/declared")
    @deliver(payload={"description": "declared", "paid": True})
    def declared(body: InvoiceEvent) -> None: ...

    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/invoices/", callbacks=router.routes)
    async def create(callback_url: str) -> None: ...

    async with alive(app):
        pass
    said = [message for message in caplog.messages if "nobody will ever send it" in message]
    assert len(said) == 1
    assert said[0].startswith("POST /invoices/ → forgotten")


async def test_every_mistake_is_listed_at_once_and_stops_the_start() -> None:
    router = APIRouter()

    @router.post("{$request.body.}")
    def first(body: InvoiceEvent) -> None: ...

    @router.post("{$no_such_name}")
    def second(body: InvoiceEvent) -> None: ...

    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/invoices/", callbacks=router.routes)
    async def create(callback_url: str) -> None: ...

    async with alive(app) as heard:
        (failed,) = heard
    assert failed["type"] == "lifespan.startup.failed"
    assert "2 errors" in failed["message"]
    assert "{$request.body.}" in failed["message"]
    assert "{$no_such_name}" in failed["message"]


async def test_without_a_lifespan_every_request_says_what_is_wrong() -> None:
    app = invoices("{$no_such_name}")
    async with client_of(app) as client:
        for _ in range(2):
            with pytest.raises(InvalidConfiguration, match="no_such_name"):
                await client.get("/plain")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"on_outbox_failure": "ignore"}, "on_outbox_failure='ignore'"), ({"concurrency": 0}, "concurrency=0")],
)
def test_an_argument_that_makes_no_sense_is_refused_at_once(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        CallbackMiddleware(FastAPI(), **wrong)


async def test_disabled_it_passes_everything_and_handlers_may_send() -> None:
    receiver = Receiver()
    app = invoices("{$no_such_name}", sender=receiver, enabled=False)
    async with alive(app) as heard, client_of(app) as client:
        assert heard == [{"type": "lifespan.startup.complete"}]
        assert (await client.post(ASKED, json=INVOICE)).json() == {"msg": "Invoice received"}
    assert receiver.requests == []


async def test_a_handler_that_asks_for_callbacks_without_the_middleware_is_told() -> None:
    app = FastAPI()

    @app.post("/")
    async def handler(callbacks: Callbacks) -> None: ...

    async with client_of(app) as client:
        with pytest.raises(NotMounted, match="add_middleware"):
            await client.post("/")


async def test_mounted_twice_it_sends_once() -> None:
    receiver = Receiver()
    app = invoices(sender=receiver)
    app.add_middleware(CallbackMiddleware, sender=receiver)
    async with alive(app), client_of(app) as client:
        await client.post(ASKED, json=INVOICE)
        await client.post(ASKED, json={**INVOICE, "id": "witness"})
        await receiver.arrived.wait()
    assert len(receiver.requests) == 2


# What passes through


def streaming_app() -> FastAPI:  # noqa: C901 - a list of routes, not a tangle of branches
    """The shapes a response may have, each on an operation that documents a callback."""
    router = APIRouter()

    @router.post("{$request.query.callback_url}")
    @deliver(payload={"paid": True})
    def done(body: dict[str, Any]) -> None: ...

    app = FastAPI(callbacks=router.routes)

    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number

    @app.get("/sse")
    async def sse() -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/sized")
    async def sized() -> Response:
        return StreamingResponse(events(), headers={"content-length": "27"})

    @app.get("/file")
    async def file() -> Response:
        return FileResponse(Path(__file__))

    @app.get("/empty", status_code=204)
    async def empty() -> None: ...

    @app.get("/raises")
    async def fails() -> None:
        raise KeyError("gone")

    @app.api_route("/head", methods=["HEAD"])
    async def head() -> Response:
        return Response(headers={"content-length": "9"})

    @app.websocket("/ws")
    async def websocket(socket: Any) -> None:
        await socket.accept()

    return app


async def messages_of(app: ASGIApp, method: str, path: str) -> list[Message]:
    heard: list[Message] = []
    asked = [True]

    async def receive() -> Message:
        if asked:
            asked.clear()
            return {"type": "http.request", "body": b"", "more_body": False}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        heard.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"callback_url=https://ext.example/e",
        "headers": [(b"host", b"api.example")],
        "client": ("127.0.0.1", 1),
        "server": ("api.example", 443),
        "state": {},
        "extensions": {"http.response.pathsend": {}},
    }
    try:
        await app(scope, receive, send)
    except KeyError as error:
        heard.append({"type": "raised", "error": repr(error)})
    return heard


class Base(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


@pytest.mark.parametrize("inside", [None, Base], ids=["bare", "BaseHTTPMiddleware inside"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sse"),
        ("GET", "/sized"),
        ("GET", "/file"),
        ("GET", "/empty"),
        ("GET", "/raises"),
        ("HEAD", "/head"),
        ("GET", "/missing"),
        ("POST", "/sse"),
    ],
)
async def test_messages_are_those_of_the_application_without_the_middleware(
    method: str, path: str, inside: type[Base] | None
) -> None:
    bare, wrapped = streaming_app(), streaming_app()
    if inside is not None:
        bare.add_middleware(inside)
        wrapped.add_middleware(inside)
    wrapped.add_middleware(CallbackMiddleware, sender=Receiver())
    assert await messages_of(wrapped, method, path) == await messages_of(bare, method, path)


async def test_a_websocket_passes_untouched() -> None:
    scope: Scope = {"type": "websocket", "path": "/ws"}
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, receive, send])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    await CallbackMiddleware(app)(scope, receive, send)
    assert seen == [scope, receive, send]
    assert scope == {"type": "websocket", "path": "/ws"}

"""One request on its way through, in raw ASGI messages, and everything around it as doubles that take notes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar, Final
from uuid import UUID

import anyio
import pytest

from callback_middleware import jsontext
from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.capture import Capture
from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import CallbackError, OutboxUnavailable
from callback_middleware.operations import Body, Operation, compile_callback
from callback_middleware.options import delivery_options
from callback_middleware.planning import Skip
from callback_middleware.ports import Batch, PutReport
from callback_middleware.recording import CaptureLimits
from callback_middleware.responder import respond
from callback_middleware.retry import RetryPolicy
from callback_middleware.sources.discovery import UNROUTED, Unrouted
from callback_middleware.staging import Catalogue, callbacks_of
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BODY = Body("application/json", required=True, encode=jsontext.dumps)


def operation(expression: str = "{$request.query.callback_url}/paid", **options: Any) -> Operation:
    """One operation with one callback ``paid``, which takes any JSON."""
    callback = compile_callback(
        name="paid", method="POST", expression=expression, options=delivery_options(**options), body=BODY
    )
    return Operation("POST", "/invoices", [callback])


class OneOperation:
    """A directory whose requests are all for one operation.

    Args:
        known: It; None for one that documents nothing.
        routed: Whether a router has run.
        elsewhere: What other operations of the application document.
    """

    def __init__(self, known: Operation | None, *, routed: bool = True, elsewhere: Sequence[Operation] = ()) -> None:
        self.known = known
        self.routed = routed
        self.operations = (*(() if known is None else (known,)), *elsewhere)
        self.warnings = ()

    def find(self, scope: Scope) -> Operation | Unrouted | None:
        return self.known if self.routed else UNROUTED

    def rematch(self, scope: Scope) -> Operation | None:
        return self.known

    def path_params(self, scope: Scope, operation: Operation) -> dict[str, Any]:
        return {"from": "the directory"}


@dataclass
class Recorder:
    """Outbox, observer and both ends of the connection, in one list of what happened.

    Attributes:
        fails: What a put raises.
        outage: What the outbox is known to fail with.
        subscribed: Keys that notifications find.
        told: What the observer was told is in the outbox.
    """

    durable: ClassVar[bool] = False
    patience: ClassVar[float | None] = None

    requests: list[Message] = field(default_factory=lambda: [request_body(b"")])
    fails: CallbackError | None = None
    outage: OutboxUnavailable | None = None
    subscribed: Collection[SubscriptionKey] = ()
    happened: list[Any] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    ends: list[SubscriptionKey] = field(default_factory=list)
    told: list[Batch] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    losses: list[Exception] = field(default_factory=list)

    async def start(self) -> None: ...

    async def put(self, batch: Batch) -> PutReport:
        if self.fails is not None:
            raise self.fails
        self.happened.append("put")
        self.deliveries.extend(batch.deliveries)
        self.subscriptions.extend(batch.subscribe)
        self.notifications.extend(batch.notify)
        self.ends.extend(batch.end)
        return PutReport(
            [one.id for one in batch.deliveries],
            unsubscribed=[one.id for one in batch.notify if one.key not in self.subscribed],
        )

    async def receive(self) -> Message:
        await anyio.lowlevel.checkpoint()
        return self.requests.pop(0) if self.requests else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self.happened.append(message)

    @property
    def sent(self) -> list[Message]:
        return [one for one in self.happened if one != "put"]


class Watching:
    """An observer that writes into a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def put(self, batch: Batch) -> None:
        self.recorder.told.append(batch)

    def skipped(self, skip: Skip) -> None:
        self.recorder.skips.append(skip)

    def lost(self, batch: Batch, error: Exception) -> None:
        self.recorder.losses.append(error)

    def attempted(self, delivery: Any, attempt: Any) -> None: ...

    def settled(self, delivery: Any, verdict: Any) -> None: ...


class Fixed:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def capture_for(recorder: Recorder, directory: OneOperation, **changes: Any) -> Capture:
    ids = count(1)
    parts: dict[str, Any] = {
        "directory": directory,
        "catalogue": Catalogue(lambda: directory.operations),
        "outbox": recorder,
        "egress": EgressPolicy(),
        "retry": RetryPolicy(),
        "deadline": DEADLINE,
        "limits": CaptureLimits(),
        "observer": Watching(recorder),
        "clock": Fixed(),
        "new_id": lambda: UUID(int=next(ids)),
        "put_timeout": 5.0,
        "respond": True,
        "on_put": lambda: None,
    }
    return Capture(**{**parts, **changes})


def scope_of(method: str = "POST", query: bytes = b"callback_url=https://ext.example/e") -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": "/invoices",
        "raw_path": b"/invoices",
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"api.example"), (b"content-type", b"application/json")],
        "server": ("api.example", 443),
        "client": ("127.0.0.1", 1),
    }


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes = b"", *, more: bool | None = None) -> Message:
    message: Message = {"type": "http.response.body", "body": content}
    return message if more is None else {**message, "more_body": more}


def request_body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def answering(*messages: Message, sends: bool = True) -> ASGIApp:
    """An application that stages ``paid`` and answers with these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if sends:
            callbacks_of(scope).send("paid", {"paid": True})
        for message in messages:
            await send(message)

    return app


async def run(
    app: ASGIApp, recorder: Recorder, known: Operation | None = None, scope: Scope | None = None, **changes: Any
) -> Recorder:
    directory = OneOperation(operation() if known is None else known)
    scope = scope_of() if scope is None else scope
    await respond(capture_for(recorder, directory, **changes), app, scope, recorder.receive, recorder.send)
    return recorder


HELD_AT: Final = [
    pytest.param("POST", [start(), body(b"{}")], 0, id="one body message: before the start"),
    pytest.param("POST", [start(), body(b"a", more=True), body(b"b")], 2, id="chunked: before the last chunk"),
    pytest.param(
        "POST", [start(), body(b"{}", more=True), body()], 2, id="as BaseHTTPMiddleware sends it: before the empty end"
    ),
    pytest.param(
        "POST",
        [start(200, (b"Content-Length", b"2")), body(b"{}", more=True), body()],
        0,
        id="with a Content-Length: before its last byte, not the last message",
    ),
    pytest.param(
        "POST",
        [start(200, (b"content-length", b"4")), body(b"ab", more=True), body(b"cd", more=True), body()],
        2,
        id="streamed with a Content-Length: before the chunk that has its last byte",
    ),
    pytest.param(
        "HEAD", [start(200, (b"content-length", b"9")), body(more=True), body()], 0, id="HEAD: before the start"
    ),
    pytest.param("POST", [start(204), body(more=True), body()], 0, id="204: before the start"),
    pytest.param("POST", [start(200, (b"content-length", b"0")), body()], 0, id="Content-Length 0: before the start"),
    pytest.param(
        "POST", [start(), {"type": "http.response.pathsend", "path": "/f"}], 0, id="pathsend: before it and its start"
    ),
    pytest.param(
        "POST",
        [start(), {"type": "http.response.zerocopysend", "file": 3, "more_body": True}, body()],
        0,
        id="zerocopysend: before the first",
    ),
    pytest.param(
        "POST",
        [
            {**start(), "trailers": True},
            body(b"a", more=True),
            body(b"b"),
            {"type": "http.response.trailers", "headers": [], "more_trailers": False},
        ],
        2,
        id="trailers: before the end of the body",
    ),
    pytest.param(
        "POST", [start(), body(b"", more=True), body(b"", more=True), body()], 3, id="empty chunks complete nothing"
    ),
]
"""A method, the messages of an application, and after how many of them the put comes."""

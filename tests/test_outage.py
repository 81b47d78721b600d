"""While its outbox is known to be down an application does nothing that it could not announce, and all the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from callback_middleware import CallbackMiddleware, MemoryOutbox
from callback_middleware.asgi import ASGIApp, Receive, Scope, Send
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.fastapi import Callbacks
from callback_middleware.ports import Batch, PutReport
from callback_middleware.starlette import callback, callbacks_of


class Event(BaseModel):
    paid: bool


router = APIRouter()


@router.post("{$callback_url}")
def paid(body: Event) -> None: ...


class Failing(MemoryOutbox):
    """An outbox that can be down."""

    outage: OutboxUnavailable | None = None  # type: ignore[misc, assignment]

    async def put(self, batch: Batch) -> PutReport:
        if self.outage is not None:
            raise self.outage
        return await super().put(batch)


@pytest.fixture
def outbox() -> Failing:
    failing = Failing()
    failing.outage = OutboxUnavailable("the disk is full")
    return failing


class Handled:
    """Counts what handlers did."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def handled() -> Handled:
    return Handled()


async def ask(app: ASGIApp, method: str, path: str, **named: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://api.example") as client:
        return await client.request(method, path, **named)


def invoices(handled: Handled) -> FastAPI:
    app = FastAPI()
    inner = APIRouter(prefix="/invoices")

    @inner.post("/{id}", callbacks=router.routes)
    async def create(id: str, callbacks: Callbacks, callback_url: str | None = None) -> None:  # noqa: A002 - its name in the path
        handled.count += 1
        callbacks.send(paid, Event(paid=True))

    @inner.post("/{id}/payments")
    async def pay(id: str, callbacks: Callbacks) -> None:  # noqa: A002 - likewise
        handled.count += 1
        callbacks.notify(paid, Event(paid=True), key=id, owner=None)

    @inner.get("/{id}")
    async def show(id: str) -> dict[str, str]:  # noqa: A002 - likewise
        return {"id": id}

    app.include_router(inner, prefix="/v1")
    return app


def added(app: FastAPI, outbox: Failing) -> ASGIApp:
    app.add_middleware(CallbackMiddleware, outbox=outbox, dispatch=False)
    return app


def around(app: FastAPI, outbox: Failing) -> ASGIApp:
    return CallbackMiddleware(app, outbox=outbox, dispatch=False)


def mounted(app: FastAPI, outbox: Failing) -> ASGIApp:
    inner = CallbackMiddleware(app, outbox=outbox, dispatch=False)
    return Starlette(routes=[Mount("/api", inner), Mount("/", inner)])


@pytest.mark.parametrize("mount", [added, around, mounted])
async def test_a_route_that_documents_callbacks_is_refused_before_its_handler_and_others_are_served(
    mount: Any, outbox: Failing, handled: Handled
) -> None:
    app = mount(invoices(handled), outbox)
    refused = await ask(app, "POST", "/v1/invoices/7")
    assert (refused.status_code, handled.count) == (503, 0)
    assert int(refused.headers["retry-after"]) > 0
    assert "not carried out" in refused.json()["detail"]
    assert (await ask(app, "GET", "/v1/invoices/7")).json() == {"id": "7"}
    assert (await ask(app, "DELETE", "/v1/invoices/7")).status_code == 405
    assert (await ask(app, "POST", "/v1/nowhere")).status_code == 404


async def test_a_route_under_another_prefix_is_refused_too(outbox: Failing, handled: Handled) -> None:
    app = mounted(invoices(handled), outbox)
    assert (await ask(app, "POST", "/api/v1/invoices/7")).status_code == 503


async def test_it_is_served_again_as_soon_as_the_outbox_is_back(outbox: Failing, handled: Handled) -> None:
    app = added(invoices(handled), outbox)
    assert (await ask(app, "POST", "/v1/invoices/7")).status_code == 503
    outbox.outage = None
    assert (await ask(app, "POST", "/v1/invoices/7?callback_url=https://ext.example/e")).status_code == 200
    assert handled.count == 1


async def test_a_route_that_only_notifies_is_served_and_its_loss_told(
    outbox: Failing, handled: Handled, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(added(invoices(handled), outbox), "POST", "/v1/invoices/7/payments")
    assert (answer.status_code, handled.count) == (503, 1)
    assert "retry-after" not in answer.headers
    assert "CALLBACKS LOST" in caplog.text


async def test_the_log_has_one_line_for_many_refusals(
    outbox: Failing, handled: Handled, caplog: pytest.LogCaptureFixture
) -> None:
    app = added(invoices(handled), outbox)
    for _ in range(3):
        await ask(app, "POST", "/v1/invoices/7")
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in told] == [
        (
            "the outbox is down, and requests that document callbacks are answered 503 until it works again "
            "('the disk is full')"
        )
    ]


async def test_told_to_log_alone_nobody_is_refused(outbox: Failing, handled: Handled) -> None:
    app = invoices(handled)
    app.add_middleware(CallbackMiddleware, outbox=outbox, dispatch=False, on_outbox_failure="log")
    assert (await ask(app, "POST", "/v1/invoices/7?callback_url=https://ext.example/e")).status_code == 200
    assert handled.count == 1


async def test_a_starlette_endpoint_that_declares_a_callback_is_refused(outbox: Failing, handled: Handled) -> None:
    @callback("paid", "POST", "{$request.query.callback_url}", body={})
    async def create(request: Request) -> Response:
        handled.count += 1
        callbacks_of(request).send("paid", {})
        return JSONResponse({})

    app = Starlette(routes=[Route("/invoices", create, methods=["POST"])])
    app.add_middleware(CallbackMiddleware, outbox=outbox, dispatch=False)
    assert (await ask(app, "POST", "/invoices")).status_code == 503
    assert handled.count == 0


DOCUMENT: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Invoices", "version": "1"},
    "paths": {
        "/invoices/{id}": {
            "put": {
                "responses": {"200": {"description": "Stored"}},
                "callbacks": {
                    "paid": {
                        "{$request.query.callback_url}": {
                            "post": {
                                "requestBody": {"content": {"application/json": {}}},
                                "responses": {"200": {"description": "OK"}},
                            }
                        }
                    }
                },
            },
            "get": {"responses": {"200": {"description": "Found"}}},
        }
    },
}


async def test_what_a_document_describes_is_refused(outbox: Failing, handled: Handled) -> None:
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        handled.count += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = CallbackMiddleware(raw, openapi=DOCUMENT, outbox=outbox, dispatch=False)
    assert (await ask(app, "PUT", "/invoices/7")).status_code == 503
    assert handled.count == 0
    assert (await ask(app, "GET", "/invoices/7")).status_code == 200
    assert handled.count == 1

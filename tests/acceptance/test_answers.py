"""A receiver on a socket answers as the callback declares, and otherwise: accepted, and told to operators alone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import ByteStream
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from callback_middleware import CallbackMiddleware, EgressPolicy, MemoryOutbox, SQLiteOutbox, State, deliver
from callback_middleware.selection import Selection
from callback_middleware.starlette import callback

EXPRESSION = "{$request.query.callback_url}"
PATIENCE = 30.0


def said(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(body)) + body


RIGHT = said(b'{"ok":true}')
WRONG = said(b'{"ok":"secret"}')
TOO_LONG = said(b"[" * 20_000)
ANOTHER_STATUS = said(b'{"ok":true}', b"202 Accepted")


class Ack(BaseModel):
    ok: bool


ACK = {"type": "object", "properties": {"ok": {"type": "boolean"}}}


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """A receiver that gives each caller the next of these answers. Its URL."""
    script = list(answers)

    async def serve(stream: ByteStream) -> None:
        async with stream:
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += await stream.receive()
            await stream.send(script.pop(0))
            await stream.send_eof()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django here
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


def of_fastapi(**options: Any) -> CallbackMiddleware:
    router = APIRouter()

    @router.post(EXPRESSION, response_model=Ack)
    @deliver(payload={})
    def paid(body: dict[str, Any]) -> None: ...

    app = FastAPI()

    @app.post("/", callbacks=router.routes)
    def create(callback_url: str) -> None: ...

    return CallbackMiddleware(app, **options)


def of_starlette(**options: Any) -> CallbackMiddleware:
    @callback("paid", "POST", EXPRESSION, payload={}, response=Ack)
    async def create(request: Request) -> JSONResponse:
        return JSONResponse({})

    return CallbackMiddleware(Starlette(routes=[Route("/", create, methods=["POST"])]), **options)


def of_a_document(**options: Any) -> CallbackMiddleware:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    operation = {
        "requestBody": {"content": {"application/json": {}}},
        "responses": {"200": {"content": {"application/json": {"schema": ACK}}}},
        "x-callback": {"payload": {}},
    }
    post = {"callbacks": {"paid": {EXPRESSION: {"post": operation}}}, "responses": {}}
    return CallbackMiddleware(app, openapi={"openapi": "3.1.0", "paths": {"/": {"post": post}}}, **options)


@pytest.fixture(params=["memory", "sqlite"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryOutbox | SQLiteOutbox]:
    outbox = MemoryOutbox() if request.param == "memory" else SQLiteOutbox(tmp_path / "callbacks.db")
    yield outbox
    await outbox.aclose()


async def mismatches(
    app: CallbackMiddleware, outbox: MemoryOutbox | SQLiteOutbox, *answers: bytes
) -> Sequence[tuple[State, Sequence[str]]]:
    """What became of one callback for each of these answers, and how each of its answers differed; oldest first."""
    with anyio.fail_after(PATIENCE):
        async with answering(*answers) as url, httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            for _ in answers:
                answer = await client.post("http://api.example/", params={"callback_url": url})
                assert answer.status_code == 200
                await app.dispatcher().deliver_due()
        await app.aclose()
        page = await outbox.search(Selection())
        return [
            (one.state, [attempt.mismatch for attempt in await outbox.attempts(one.id)])
            for one in reversed(page.deliveries)
        ]


@pytest.mark.parametrize("mount", [of_fastapi, of_starlette, of_a_document])
async def test_an_answer_that_differs_is_accepted_and_noted(
    mount: Any, outbox: MemoryOutbox | SQLiteOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    app = mount(outbox=outbox, egress=EgressPolicy.development(), dispatch=False)

    came = await mismatches(app, outbox, RIGHT, WRONG, TOO_LONG)

    assert [state for state, _ in came] == [State.DELIVERED] * 3
    (right,), (wrong,), (too_long,) = (noted for _, noted in came)
    assert right == ""
    assert "ok" in wrong
    assert too_long == "", "what was not read whole is not judged"
    (told,) = (one for one in caplog.messages if "not as its callback declares" in one)
    assert "attempt 1 of delivery " in told
    assert "secret" not in caplog.text


@pytest.mark.parametrize("mount", [of_fastapi, of_a_document])
async def test_another_success_than_the_declared_one_is_noted(mount: Any, outbox: MemoryOutbox | SQLiteOutbox) -> None:
    app = mount(outbox=outbox, egress=EgressPolicy.development(), dispatch=False)

    came = await mismatches(app, outbox, ANOTHER_STATUS)

    assert came == [(State.DELIVERED, ["answered 202; declared: 200"])]

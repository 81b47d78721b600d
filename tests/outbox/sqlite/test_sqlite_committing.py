"""A handler that commits its invoice and its callback in one transaction: the whole middleware, on every loop."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlite_setting import ask, tell
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from callback_middleware import CallbackMiddleware, EgressPolicy, SQLiteOutbox, State
from callback_middleware.starlette import callback, callbacks_of
from receivers import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[SQLiteOutbox]:
    outbox = SQLiteOutbox(tmp_path / "callbacks.db")
    await outbox.start()
    tell(outbox.path, "CREATE TABLE invoice (id TEXT)")
    yield outbox
    await outbox.aclose()


@pytest.fixture
def left_open() -> Iterator[list[sqlite3.Connection]]:
    """Connections that a handler has not closed."""
    connections: list[sqlite3.Connection] = []
    yield connections
    for connection in connections:
        connection.close()


@pytest.fixture
def app(outbox: SQLiteOutbox, left_open: list[sqlite3.Connection]) -> CallbackMiddleware:
    """Its one endpoint blocks, in a thread; the query says how its transaction ends."""

    @callback("paid", "POST", "{$request.query.callback_url}")
    def create(request: Request) -> Response:
        connection = sqlite3.connect(outbox.path, check_same_thread=False)
        if request.query_params["ends"] == "later":
            left_open.append(connection)
            store(request, connection)
        else:
            with closing(connection), connection:
                store(request, connection)
                if request.query_params["ends"] == "rolled back":
                    raise HTTPException(409)
        return JSONResponse({})

    def store(request: Request, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO invoice VALUES ('7')")
        callbacks = callbacks_of(request)
        callbacks.send("paid")
        callbacks.commit_with_sync(connection)

    routes = [Route("/", create, methods=["POST"])]
    return CallbackMiddleware(
        Starlette(routes=routes), outbox=outbox, egress=EgressPolicy.development(), dispatch=False
    )


async def post(app: CallbackMiddleware, receiver: Receiver, ends: str) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        answer = await client.post("http://api.example/", params={"callback_url": receiver.url, "ends": ends})
    await app.dispatcher().deliver_due()
    return answer.status_code


async def test_committed_it_is_delivered_once(
    app: CallbackMiddleware, outbox: SQLiteOutbox, receiver: Receiver
) -> None:
    assert await post(app, receiver, "committed") == 200
    await app.dispatcher().deliver_due()
    assert len(receiver.heard) == 1
    assert (await outbox.counts())[State.DELIVERED] == 1
    assert ask(outbox.path, "SELECT count(*) FROM invoice") == [(1,)]


async def test_rolled_back_there_is_nothing(app: CallbackMiddleware, outbox: SQLiteOutbox, receiver: Receiver) -> None:
    assert await post(app, receiver, "rolled back") == 409
    assert not receiver.heard
    assert sum((await outbox.counts()).values()) == 0
    assert ask(outbox.path, "SELECT count(*) FROM invoice") == [(0,)]


async def test_left_open_it_is_a_500_and_what_is_committed_later_is_delivered_all_the_same(
    app: CallbackMiddleware,
    outbox: SQLiteOutbox,
    receiver: Receiver,
    left_open: list[sqlite3.Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        answer = await client.post("http://api.example/", params={"callback_url": receiver.url, "ends": "later"})
    assert answer.status_code == 500
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert 'Depends(…, scope="function")' in caplog.text

    left_open[0].commit()
    await app.dispatcher().deliver_due()
    assert len(receiver.heard) == 1

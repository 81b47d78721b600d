"""The recorder notes what a client owns, and no byte earlier; and knows what is in flight."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from crashing import clients
from crashing.clients import Clients
from crashing.news import News
from crashing.receiver import receiving

SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Scripted:
    """A server of one connection at a time, which says what a test has it say."""

    def __init__(self) -> None:
        self._news = News()
        self._streams: list[SocketStream] = []

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            self._streams.append(stream)
            self._news.tell()
            await anyio.sleep_forever()

    async def connection(self, number: int = 0) -> SocketStream:
        await self._news.until(lambda: len(self._streams) > number, "a client connects")
        return self._streams[number]


async def asked(stream: SocketStream) -> None:
    """Return when a request has come whole."""
    request = b""
    while not request.endswith(b"}"):
        request += await stream.receive()


@asynccontextmanager
async def one_client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Clients, Scripted]]:
    monkeypatch.setattr(clients, "CLIENTS", 1)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server = Scripted()
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - it is no query of Django's
    recorder = Clients([port], ["http://127.0.0.1:1"], Random(1))  # noqa: S311 - any will do
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        tasks.start_soon(recorder.run)
        yield recorder, server
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("response", [SIZED, CHUNKED], ids=["by its length", "by its last chunk"])
async def test_a_request_is_acknowledged_by_the_last_byte_of_its_response(
    response: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_client(monkeypatch) as (recorder, server):
        stream = await server.connection()
        await asked(stream)
        await stream.send(response[:-1])
        await anyio.wait_all_tasks_blocked()
        assert not recorder.acknowledged
        await stream.send(response[-1:])
        await recorder.news.until(lambda: len(recorder.acknowledged) == 1, "it is acknowledged")


async def test_a_response_that_breaks_off_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with one_client(monkeypatch) as (recorder, server):
        stream = await server.connection()
        await asked(stream)
        await stream.send(SIZED[:-1])
        await stream.aclose()
        # It asks again, on another connection, under another id.
        second = await server.connection(1)
        await asked(second)
        await second.send(LAST)
        await recorder.news.until(lambda: len(recorder.acknowledged) == 1, "the second is acknowledged")
        ((request, shape),) = recorder.acknowledged.items()
        assert request == f"{shape}-1"


async def test_a_refusal_is_an_answer_and_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    async with one_client(monkeypatch) as (recorder, server):
        stream = await server.connection()
        await asked(stream)
        await stream.send(REFUSED)
        await asked(stream)
        assert not recorder.acknowledged
        assert recorder.answers == {503: 1}


async def test_a_request_is_in_flight_where_the_same_process_has_answered_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_client(monkeypatch) as (recorder, server):
        stream = await server.connection()
        await asked(stream)
        # Perhaps nobody has taken it yet: the port outlives every process.
        assert recorder.in_flight == 0
        await stream.send(SIZED)
        await recorder.news.until(lambda: recorder.in_flight == 1, "the next request is in flight")
        await stream.aclose()
        await server.connection(1)
        assert recorder.in_flight == 0


async def test_a_receiver_has_noted_what_it_has_not_answered() -> None:
    async with receiving() as receiver:
        receiver.hold()
        port = int(receiver.urls[0].rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as caller:
            await caller.send(
                b"POST /invoices/1 HTTP/1.1\r\nhost: ext.example\r\ncontent-length: 15\r\n"
                b"webhook-id: 00000000-0000-0000-0000-000000000001\r\n\r\n" + b'{"invoice":"a"}'
            )
            await receiver.keeps(1)
            (reception,) = receiver.received
            assert (reception.delivery.int, reception.request) == (1, "a")
            receiver.release()
            assert (await caller.receive()).startswith(b"HTTP/1.1 200")
        await receiver.silence()
        assert not receiver.waiting


async def test_nobody_asks_while_nobody_may(monkeypatch: pytest.MonkeyPatch) -> None:
    async with one_client(monkeypatch) as (recorder, server):
        may = False
        recorder.may_ask = lambda: may
        stream = await server.connection()
        await anyio.wait_all_tasks_blocked()
        may = True
        recorder.news.tell()
        await asked(stream)
        may = False
        await stream.send(SIZED)
        await recorder.news.until(lambda: len(recorder.acknowledged) == 1, "it is acknowledged")
        await recorder.end()
        assert recorder.acknowledged.keys() == recorder.acknowledged_at.keys()


async def test_every_place_has_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "CLIENTS", 4)
    async with AsyncExitStack() as stack:
        servers = [Scripted(), Scripted()]
        listeners = [
            await stack.enter_async_context(await anyio.create_tcp_listener(local_host="127.0.0.1")) for _ in servers
        ]
        ports = [listener.extra(SocketAttribute.local_port) for listener in listeners]  # noqa: S610 - it is no query of Django's
        recorder = Clients(ports, ["http://127.0.0.1:1"], Random(1))  # noqa: S311 - any will do
        async with anyio.create_task_group() as tasks:
            for listener, server in zip(listeners, servers, strict=True):
                tasks.start_soon(listener.serve, server.serve)
            tasks.start_soon(recorder.run)
            for server in servers:
                await asked(await server.connection(1))
            tasks.cancel_scope.cancel()

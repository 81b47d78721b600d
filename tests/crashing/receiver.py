"""A receiver that outlives every service: hears on several ports, and answers when it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final
from uuid import UUID

import anyio
import h11
from anyio.abc import SocketAttribute, SocketStream

from crashing.news import News
from crashing.verdict import Reception

ORIGINS: Final = 4
"""Ports: a dispatcher has so many at once in flight to each."""


class Receiver:
    """Hears callbacks, and answers 200.

    Attributes:
        received: Every callback that came whole, noted before it is answered.
        requests: Those that caused them.
        waiting: The deliveries whose callers wait for an answer.
        urls: Without a path.
        slowness: Seconds that pass before each answer.
    """

    def __init__(self) -> None:
        self.received: list[Reception] = []
        self.requests: set[str] = set()
        self.slowness = 0.0
        self.waiting: list[UUID] = []
        self.urls: Sequence[str] = ()
        self.news = News()
        self._connections = 0
        self._may_answer = anyio.Event()
        self._may_answer.set()

    def hold(self) -> None:
        """Hear, and let every caller wait until :meth:`release`."""
        self._may_answer = anyio.Event()

    def release(self) -> None:
        """Answer those who wait, and everybody from now on."""
        self._may_answer.set()

    async def keeps(self, count: int) -> None:
        """Return when at least so many callers wait for an answer."""
        await self.news.until(lambda: len(self.waiting) >= count, f"{count} callers wait for an answer")

    async def hears_again(self, deliveries: Collection[UUID]) -> None:
        """Return when one of these has come from now on."""
        before = len(self.received)
        await self.news.until(
            lambda: any(one.delivery in deliveries for one in self.received[before:]), "a delivery comes again"
        )

    async def silence(self) -> None:
        """Return when nobody is connected any more: what the dead have sent is heard."""
        await self.news.until(lambda: not self._connections, "every caller has hung up")

    async def serve(self, stream: SocketStream) -> None:
        """One connection, until its caller hangs up or dies."""
        self._connections += 1
        try:
            async with stream:
                with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream, h11.RemoteProtocolError):
                    await self._converse(stream)
        finally:
            self._connections -= 1
            self.news.tell()

    async def _converse(self, stream: SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            reception = await _next_request(stream, connection)
            self.received.append(reception)
            self.requests.add(reception.request)
            self.waiting.append(reception.delivery)
            self.news.tell()
            try:
                await self._may_answer.wait()
                if self.slowness:
                    await anyio.sleep(self.slowness)
                await stream.send(_answer(connection))
            finally:
                self.waiting.remove(reception.delivery)
            connection.start_next_cycle()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(await anyio.create_tcp_listener(local_host="127.0.0.1"))
            for _ in range(ORIGINS)
        ]
        ports = [listener.extra(SocketAttribute.local_port) for listener in listeners]  # noqa: S610 - no query of Django's
        receiver.urls = [f"http://127.0.0.1:{port}" for port in ports]
        async with anyio.create_task_group() as tasks:
            for listener in listeners:
                tasks.start_soon(listener.serve, receiver.serve)
            yield receiver
            tasks.cancel_scope.cancel()


async def _next_request(stream: SocketStream, connection: h11.Connection) -> Reception:
    delivery, body = "", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive())
        elif isinstance(event, h11.Request):
            delivery = dict(event.headers)[b"webhook-id"].decode()
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Reception(UUID(delivery), json.loads(body)["invoice"])


def _answer(connection: h11.Connection) -> bytes:
    head = h11.Response(status_code=200, headers=[("content-length", "0")])
    return b"".join(connection.send(event) or b"" for event in (head, h11.EndOfMessage()))

"""Clients that ask without pause, and note what they own: the recorder."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Final

import anyio
import h11
from anyio.abc import ByteStream

from crashing.news import News
from crashing.settings import CROWD

SHAPES: Final = ("single", "wrapped", "chunked", "sized")
"""The paths of the service: how their responses come."""

CLIENTS: Final = 48
"""Connections, each with a request in flight but for moments."""

_REFUSED: Final = 503

_HEED: Final = 0.1
"""Seconds for which a client that was refused asks nothing."""


class Clients:
    """Many clients of a few ports, behind which processes come and go.

    Args:
        ports: Where the service listens; each has as many clients as the others.
        receivers: Where callbacks are asked for, one or the other.
        chance: Which shape and which receiver.
        news: Told of what happens here; and of what ``may_ask`` hangs on, if that is set.

    Attributes:
        acknowledged: Each request whose whole 2xx response was read, by its id, and its shape.
        acknowledged_at: When that was, in seconds of the machine's monotonic clock.
        answers: How many whole responses had each status.
        slowest: Seconds that passed before any of them at the most.
        receivers: Where callbacks are asked for from now on.
        may_ask: Whether there may be another request; those who would ask wait as long as not.
    """

    def __init__(
        self, ports: Sequence[int], receivers: Sequence[str], chance: Random, news: News | None = None
    ) -> None:
        self.acknowledged: dict[str, str] = {}
        self.acknowledged_at: dict[str, float] = {}
        self.answers: Counter[int] = Counter()
        self.slowest = 0.0
        self.may_ask: Callable[[], bool] = lambda: True
        self.news = news or News()
        self._ports = ports
        self.receivers = receivers
        self._chance = chance
        self._numbers = itertools.count()
        self._ending = False
        self._ended = 0
        # Requests that are sent and not answered, on connections that this service process has answered before: so
        # it has taken them, and they do not merely wait until a process is there.
        self.in_flight = 0

    async def run(self) -> None:
        """Ask until :meth:`end`."""
        async with anyio.create_task_group() as tasks:
            for number in range(CLIENTS):
                tasks.start_soon(self._client, self._ports[number % len(self._ports)])

    async def end(self) -> None:
        """Ask no more, and return when everything that was asked is answered."""
        self._ending = True
        self.news.tell()
        await self.news.until(lambda: self._ended == CLIENTS, "all clients are answered")

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nobody asks for as long as the block lasts; what was asked is answered."""
        before, self.may_ask = self.may_ask, lambda: False
        try:
            yield
        finally:
            self.may_ask = before
            self.news.tell()

    async def acknowledge(self, count: int) -> None:
        """Return when so many more requests are acknowledged."""
        goal = len(self.acknowledged) + count
        await self.news.until(lambda: len(self.acknowledged) >= goal, f"{goal} requests are acknowledged")

    async def be_refused(self, count: int) -> None:
        """Return when so many more requests are refused, because the outbox cannot take them."""
        goal = self.answers[_REFUSED] + count
        await self.news.until(lambda: self.answers[_REFUSED] >= goal, f"{goal} requests are refused")

    async def crowd(self) -> int:
        """How many requests are in flight, at the next moment with enough of them; and that moment is now."""
        await self.news.until(lambda: self.in_flight >= CROWD, f"{CROWD} requests are in flight")
        return self.in_flight

    async def _client(self, port: int) -> None:
        while not self._ending:
            # Whatever way a connection to a process ends that is killed: what was not read whole, nobody owns.
            with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream, h11.RemoteProtocolError):
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await self._ask_on(stream)
        self._ended += 1
        self.news.tell()

    async def _ask_on(self, stream: ByteStream) -> None:
        connection = h11.Connection(h11.CLIENT)
        known = False
        while True:
            if not self.may_ask():
                await self.news.until(lambda: self._ending or self.may_ask(), "there may be another request")
            if self._ending:
                return
            shape = self._chance.choice(SHAPES)
            request = f"{shape}-{next(self._numbers)}"
            asked_at = time.monotonic()
            await stream.send(_request(connection, shape, request, self._chance.choice(self.receivers)))
            self.in_flight += known
            try:
                self.news.tell()
                status = await _whole_response(stream, connection)
            finally:
                self.in_flight -= known
            answered_at = time.monotonic()
            self.slowest = max(self.slowest, answered_at - asked_at)
            self.answers[status] += 1
            if 200 <= status < 300:
                self.acknowledged[request] = shape
                self.acknowledged_at[request] = answered_at
            self.news.tell()
            if status == _REFUSED:
                await anyio.sleep(_HEED)
            known = True
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()


def _request(connection: h11.Connection, shape: str, request: str, receiver: str) -> bytes:
    body = json.dumps({"id": request}).encode()
    head = h11.Request(
        method="POST",
        target=f"/{shape}?callback_url={receiver}",
        headers=[("host", "api.example"), ("content-type", "application/json"), ("content-length", str(len(body)))],
    )
    return b"".join(connection.send(event) or b"" for event in (head, h11.Data(body), h11.EndOfMessage()))


async def _whole_response(stream: ByteStream, connection: h11.Connection) -> int:
    """The status, as soon as the last byte is read that makes the response whole, by its length or its last chunk."""
    status = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return status

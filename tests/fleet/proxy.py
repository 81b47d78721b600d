"""A proxy between a process and PostgreSQL: passes everything on, nothing at all, or all but one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream

from crashing.news import News
from fleet.wire import KEY, READY, Message, Messages, Statements, backend

_NO_ENCRYPTION: Final = b"N"
_ENDS: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Packet(NamedTuple):
    """A message that is about to be passed on.

    Attributes:
        number: Of all that this proxy passed on, from 1.
        backend: The server's process; 0 until that is known.
        client: Whether the client sent it.
        statement: The one that it executes, if it does.
    """

    number: int
    backend: int
    client: bool
    kind: bytes
    statement: str | None = None


Watch: TypeAlias = Callable[[Packet], None]
Ends: TypeAlias = Callable[[int], Awaitable[object]]


class _Way:
    """What connections take: open, or a black hole."""

    def __init__(self) -> None:
        self._opened = anyio.Event()
        self._opened.set()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened = anyio.Event()

    async def is_open(self) -> None:
        """Return when it is."""
        await self._opened.wait()


class _Loss(NamedTuple):
    """An answer that will not arrive: of the next statement with this text; and what ends its connection then."""

    text: str
    ends: Ends | None


class Proxy:
    """Between any number of connections and one server.

    A message that a client has written is passed on whatever becomes of the client then, as its kernel would.

    Attributes:
        lost: The statements whose answers were lost.
        backends: The server's process of every connection that is open, and that it has let in.
    """

    def __init__(self, server: tuple[str, int], port: int) -> None:
        self.lost: list[str] = []
        self.backends: set[int] = set()
        self.news = News()
        self.number = 0
        self._server = server
        self._port = port
        self._way = _Way()
        self._watches: list[Watch] = []
        self._loss: _Loss | None = None

    def through(self, url: str) -> str:
        """The same URL of a database, by way of this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    def black_hole(self) -> None:
        """Pass nothing on in either direction, not even that somebody has hung up, until :meth:`heal`.

        Whoever connects is accepted, and whoever writes finds it taken.
        """
        self._way.close()

    def heal(self, *, forget: bool = False) -> None:
        """Pass on everything that has gathered, and everything from now on.

        Args:
            forget: Whether those who are connected by now stay in the black hole for ever, as behind a router that has
                forgotten them: only who connects from now on is passed on.
        """
        if forget:
            self._way = _Way()
        else:
            self._way.open()

    def lose_answer(self, text: str, *, ends: Ends | None = None) -> None:
        """Have the next statement that has this text in it done, and its answer lost, and the connection with it.

        Args:
            text: Of the statement.
            ends: Called with the server's process when it has answered, and before its connection ends; what it makes
                the server say then is passed on. Without it, the connection is cut.
        """
        self._loss = _Loss(text, ends)

    async def has_lost(self, count: int = 1) -> None:
        """Return when so many answers are lost."""
        await self.news.until(lambda: len(self.lost) >= count, f"{count} answers are lost")

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Have this called with each message before it is passed on."""
        self._watches.append(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)

    async def serve(self, client: SocketStream) -> None:
        """One connection, until either side ends it."""
        way = self._way
        with suppress(*_ENDS):
            async with client:
                await way.is_open()
                async with await anyio.connect_tcp(*self._server) as server:
                    connection = _Connection(self, way, client, server)
                    try:
                        await connection.converse()
                    finally:
                        self.backends.discard(connection.backend)

    def tell(self, backend: int, message: Message, *, client: bool, statement: str | None = None) -> None:
        """This message is about to be passed on."""
        self.number += 1
        for watch in tuple(self._watches):
            watch(Packet(self.number, backend, client, message.kind, statement))

    def loss_of(self, statement: str) -> _Loss | None:
        """What is to happen to the answer to this one. Asked once."""
        loss = self._loss
        if loss is None or loss.text not in statement:
            return None
        self._loss = None
        return loss


class _Connection:
    """One client's."""

    def __init__(self, proxy: Proxy, way: _Way, client: SocketStream, server: SocketStream) -> None:
        self.backend = 0
        self._proxy = proxy
        self._way = way
        self._client = client
        self._server = server
        self._statements = Statements()
        # How many times the server is still to say that it is ready.
        self._owed = 0
        self._losing: tuple[_Loss, str] | None = None
        # Of those, how many it says before the answer that is lost.
        self._before_loss = 0

    async def converse(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_it_ends, self._ask, tasks.cancel_scope)
            tasks.start_soon(self._until_it_ends, self._answer, tasks.cancel_scope)

    async def _until_it_ends(self, passes: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        with suppress(*_ENDS):
            await passes()
        # Nobody hears of it before.
        await self._way.is_open()
        scope.cancel()

    async def _ask(self) -> None:
        messages = Messages(begins=True)
        while True:
            received = await self._client.receive()
            await self._way.is_open()
            # What was sent at once, with the Sync at its end, a network does not take apart.
            for message in messages.cut(received):
                if message.asks_for_encryption:
                    await self._client.send(_NO_ENCRYPTION)
                    continue
                statement = self._statements.executed(message)
                self._proxy.tell(self.backend, message, client=True, statement=statement)
                loss = None if statement is None else self._proxy.loss_of(statement)
                if loss is not None:
                    self._losing, self._before_loss = (loss, statement or ""), self._owed
                self._owed += message.expects_ready
                await self._server.send(message.data)

    async def _answer(self) -> None:
        messages = Messages()
        while True:
            received = await self._server.receive()
            await self._way.is_open()
            for message in messages.cut(received):
                self._proxy.tell(self.backend, message, client=False)
                if message.kind == KEY:
                    self.backend = backend(message)
                    self._proxy.backends.add(self.backend)
                ready = message.kind == READY
                self._owed -= ready
                if self._losing is None or self._before_loss:
                    self._before_loss -= ready and self._losing is not None
                    await self._client.send(message.data)
                elif ready:
                    await self._lose(*self._losing)

    async def _lose(self, loss: _Loss, statement: str) -> None:
        """The server has done it, and says nothing more of it."""
        self._losing = None
        self._proxy.lost.append(statement)
        self._proxy.news.tell()
        if loss.ends is None:
            raise anyio.EndOfStream
        await loss.ends(self.backend)


@asynccontextmanager
async def proxying(server: tuple[str, int]) -> AsyncIterator[Proxy]:
    """A proxy for as long as the block lasts.

    Args:
        server: PostgreSQL's address and port.
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = Proxy(server, listener.extra(SocketAttribute.local_port))  # noqa: S610 - it is no query of Django's
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()

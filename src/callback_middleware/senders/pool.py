"""Kept-alive connections to receivers: few per receiver, found at once, and never to an address that is not allowed.

A pool belongs to whoever made it; its connections belong to the event loop that opened them.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Sequence

import anyio

from callback_middleware.egress import EgressPolicy
from callback_middleware.eventloop import LoopLocal
from callback_middleware.outcomes import Answer, Phase
from callback_middleware.senders.http11 import HttpConnection
from callback_middleware.senders.idle import ConnectionKey, IdleConnections, PoolLimits
from callback_middleware.senders.progress import Progress
from callback_middleware.senders.resolver import ADDRESSES_TRIED, Lookup, Resolver, system_lookup
from callback_middleware.senders.streams import Stream
from callback_middleware.senders.tls import checked_context, default_context
from callback_middleware.senders.wire import WireRequest

__all__ = ["Pool"]


class Pool:
    """Carries requests to receivers, over connections that it opens, checks, keeps and closes."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - frozen
        lookup: Lookup = system_lookup,
    ) -> None:
        self._ssl_context = None if ssl_context is None else checked_context(ssl_context)
        self._limits = limits
        self._lookup = lookup
        # A test client runs a new loop for every request, and what an old loop opened is of no use to the next.
        self._of_this_loop: LoopLocal[_LoopConnections] = LoopLocal()

    async def exchange(
        self, request: WireRequest, *, egress: EgressPolicy, progress: Progress, max_answer: int
    ) -> Answer:
        """Send a request and read its answer.

        The host is resolved and every address checked first, whether or not a connection is waiting. Only a
        connection whose address is among those is used again, and only a finished exchange leaves one behind.

        Raises:
            EgressRefused: An address of the host is not allowed.
            AttemptFailed: There is no answer.
            OSError: A connection failed.
        """
        connections = self._connections()
        async with connections.slots:
            addresses = await connections.resolver.checked(request.authority, egress)
            authority = request.authority
            keys = [ConnectionKey(authority.scheme, authority.host, authority.port, address) for address in addresses]
            key, connection = connections.take(keys) or await self._open(keys, progress)
            try:
                answer = await connection.exchange(request, progress, max_answer)
            except BaseException:
                connection.close()  # a cancellation leaves half an exchange behind
                raise
            connections.give_back(key, connection)
            return answer

    async def aclose(self) -> None:
        """Close the connections of the running event loop: idle ones now, others when their exchange ends."""
        connections = self._of_this_loop.get()
        if connections is not None:
            self._of_this_loop.set(None)
            connections.close()

    def _connections(self) -> _LoopConnections:
        connections = self._of_this_loop.get()
        if connections is None:
            connections = _LoopConnections(self._limits, Resolver(self._lookup))
            self._of_this_loop.set(connections)
        return connections

    async def _open(self, keys: Sequence[ConnectionKey], progress: Progress) -> tuple[ConnectionKey, HttpConnection]:
        progress.phase = Phase.CONNECT
        key, stream = await _first_connected(keys[:ADDRESSES_TRIED])
        try:
            if key.scheme == "https":
                progress.phase = Phase.TLS
                await stream.secure(self._ssl_context or await default_context(), key.host)
        except BaseException:
            stream.close()
            raise
        return key, HttpConnection(stream)


async def _first_connected(keys: Sequence[ConnectionKey]) -> tuple[ConnectionKey, Stream]:
    """Connect to one address after another. One that swallows packets costs its share of the time, not all of it."""
    for untried, key in zip(range(len(keys) - 1, 0, -1), keys, strict=False):
        left = anyio.current_effective_deadline() - anyio.current_time()
        try:
            with anyio.fail_after(left / (untried + 1)):
                return key, await Stream.connect(key.address, key.port)
        except OSError:
            continue
    return keys[-1], await Stream.connect(keys[-1].address, keys[-1].port)


class _LoopConnections:
    """What one event loop has open."""

    def __init__(self, limits: PoolLimits, resolver: Resolver) -> None:
        self.resolver = resolver
        self.slots = anyio.Semaphore(limits.connections, fast_acquire=True)
        self._idle: IdleConnections[HttpConnection] = IdleConnections(limits)
        self._closed = False
        # A loop may end without telling anybody. Closing needs no loop.
        weakref.finalize(self, _close_all, self._idle)

    def take(self, keys: Sequence[ConnectionKey]) -> tuple[ConnectionKey, HttpConnection] | None:
        """A connection that was idle and still is, to any of these."""
        for expired in self._idle.expired(now=anyio.current_time()):
            expired.close()
        for key in keys:
            while (connection := self._idle.take(key)) is not None:
                # Whatever came meanwhile answers nothing that was asked: a 200 sent in advance would accept the
                # next delivery unread.
                if connection.is_quiet():
                    return key, connection
                connection.close()
        # One more will be open than before: an idle one makes room when that would be too many.
        if len(self._idle) > self.slots.value:
            self._idle.take_oldest().close()
        return None

    def give_back(self, key: ConnectionKey, connection: HttpConnection) -> None:
        """Keep a connection for the next attempt, or close it."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        for surplus in self._idle.put(key, connection, now=anyio.current_time()):
            surplus.close()

    def close(self) -> None:
        self._closed = True
        _close_all(self._idle)


def _close_all(idle: IdleConnections[HttpConnection]) -> None:
    while idle:
        idle.take_oldest().close()

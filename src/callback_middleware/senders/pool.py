"""Kept-alive connections to receivers: few per receiver, found at once, and never to an address that is not allowed.

A pool belongs to whoever made it; its connections belong to the event loop that opened them.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Mapping, Sequence

import anyio

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.eventloop import LoopLocal
from callback_middleware.outcomes import Answer, Phase
from callback_middleware.senders.http11 import HttpConnection
from callback_middleware.senders.idle import ConnectionKey, IdleConnections, PoolLimits
from callback_middleware.senders.occupancy import Occupancy
from callback_middleware.senders.progress import Progress
from callback_middleware.senders.resolver import ADDRESSES_TRIED, Lookup, Resolver, system_lookup
from callback_middleware.senders.streams import Stream
from callback_middleware.senders.tls import NO_CONTEXTS, Identities
from callback_middleware.senders.wire import WireRequest

__all__ = ["Pool"]


class Pool:
    """Carries requests to receivers, over connections that it opens, checks, keeps and closes."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        ssl_contexts: Mapping[str, ssl.SSLContext] = NO_CONTEXTS,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - frozen
        lookup: Lookup = system_lookup,
    ) -> None:
        self._identities = Identities(ssl_context, ssl_contexts)
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
            AddressBusy: As many attempts as may are under way to the addresses of the host.
            EgressRefused: An address of the host is not allowed.
            AttemptFailed: There is no answer.
            OSError: A connection failed.
        """
        connections = self._connections()
        async with connections.slots:
            addresses = await connections.resolver.checked(request.authority, egress)
            authority = request.authority
            keys = [ConnectionKey(authority.scheme, authority.host, authority.port, address) for address in addresses]
            key, connection = connections.take(keys) or await self._open(connections.occupancy, keys, progress)
            try:
                answer = await connection.exchange(request, progress, max_answer)
            except BaseException:
                connection.close()  # a cancellation leaves half an exchange behind
                raise
            finally:
                connections.occupancy.leave(key.address)
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

    async def _open(
        self, occupancy: Occupancy, keys: Sequence[ConnectionKey], progress: Progress
    ) -> tuple[ConnectionKey, HttpConnection]:
        """A new connection, and with it a place at its address."""
        progress.phase = Phase.CONNECT
        key, stream = await _first_connected(occupancy, keys[:ADDRESSES_TRIED])
        try:
            if key.scheme == "https":
                progress.phase = Phase.TLS
                await stream.secure(await self._identities.towards(key.host), key.host)
        except BaseException:
            stream.close()
            occupancy.leave(key.address)
            raise
        return key, HttpConnection(stream)


async def _first_connected(occupancy: Occupancy, keys: Sequence[ConnectionKey]) -> tuple[ConnectionKey, Stream]:
    """Connect to one address after another, each time taking a place there first.

    One that swallows packets costs its share of the time, not all of it. Where one had no place left, the failures of
    the others are no attempt: with a place it might have been reached.
    """
    full: Address | None = None
    failure: OSError | None = None
    for untried, key in zip(range(len(keys) - 1, -1, -1), keys, strict=True):
        if not occupancy.enter(key.address):
            full = key.address
            continue
        try:
            with anyio.fail_after(_share(untried + (full is not None))):
                return key, await Stream.connect(key.address, key.port)
        except OSError as error:
            occupancy.leave(key.address)
            failure = error
        except BaseException:
            occupancy.leave(key.address)
            raise
    if full is not None:
        raise occupancy.turn_away(full)
    assert failure is not None  # noqa: S101 - every name has an address
    raise failure


def _share(others: int) -> float | None:
    """Of the time that is left, in seconds, where so many others may need some; None for all of it."""
    if not others:
        return None
    return (anyio.current_effective_deadline() - anyio.current_time()) / (others + 1)


class _LoopConnections:
    """What one event loop has open."""

    def __init__(self, limits: PoolLimits, resolver: Resolver) -> None:
        self.resolver = resolver
        self.slots = anyio.Semaphore(limits.connections, fast_acquire=True)
        self.occupancy = Occupancy(limits.per_address)
        self._idle: IdleConnections[HttpConnection] = IdleConnections(limits)
        self._closed = False
        # A loop may end without telling anybody. Closing needs no loop.
        weakref.finalize(self, _close_all, self._idle)

    def take(self, keys: Sequence[ConnectionKey]) -> tuple[ConnectionKey, HttpConnection] | None:
        """A connection that was idle and still is, to any of these, and with it a place at its address."""
        for expired in self._idle.expired(now=anyio.current_time()):
            expired.close()
        for key in keys:
            if not self.occupancy.has_room(key.address):
                continue
            while (connection := self._idle.take(key)) is not None:
                # Whatever came meanwhile answers nothing that was asked: a 200 sent in advance would accept the
                # next delivery unread.
                if connection.is_quiet():
                    self.occupancy.enter(key.address)
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

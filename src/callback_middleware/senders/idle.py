"""Connections kept for the next attempt: found by key, forgotten by age, each in constant time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from callback_middleware.egress.addresses import Address
from callback_middleware.errors import ConfigurationError

__all__ = ["ConnectionKey", "IdleConnections", "PoolLimits"]

C = TypeVar("C")


class ConnectionKey(NamedTuple):
    """What two attempts must share to share a connection.

    ``host`` is in it beside ``address``: two names that lead to one machine are two receivers. It is the TLS
    identity too, because a pool has one ``SSLContext`` for each host and verifies the certificate against the host.
    """

    scheme: str
    host: str
    port: int
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How much a pool holds, for each event loop.

    Attributes:
        connections: In use and idle together. An attempt that finds no room waits, and its deadline passes meanwhile:
            keep it above the dispatcher's ``concurrency``.
        idle: Idle ones.
        idle_per_key: Idle ones to one address of one origin.
        per_address: Attempts at once to one address, whatever names and ports lead to it. One that finds no room is
            not made, and not charged (:class:`~callback_middleware.outcomes.AddressBusy`).
        keepalive: Seconds after which an idle connection is not used again. Common servers close after five:
            being earlier avoids sending into a connection that is being closed.
    """

    connections: int = 1024
    idle: int = 256
    idle_per_key: int = 32
    per_address: int = 32
    keepalive: float = 4.0

    def __post_init__(self) -> None:
        for name in ("connections", "per_address"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"PoolLimits.{name}={getattr(self, name)!r} must be at least 1")


class IdleConnections(Generic[C]):
    """Only a structure: it closes nothing, and returns what its owner must close."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._stacks: dict[ConnectionKey, deque[C]] = {}
        # In the order in which they became idle, so that the oldest of all is also the oldest of its stack.
        self._since: OrderedDict[C, tuple[ConnectionKey, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def take(self, key: ConnectionKey) -> C | None:
        """The most recently used connection of a key, or None."""
        stack = self._stacks.get(key)
        if stack is None:
            return None
        connection = stack.pop()
        if not stack:
            del self._stacks[key]
        del self._since[connection]
        return connection

    def put(self, key: ConnectionKey, connection: C, *, now: float) -> Sequence[C]:
        """Keep a connection. Returns those that the limits leave no room for."""
        stack = self._stacks.setdefault(key, deque())
        stack.append(connection)
        self._since[connection] = (key, now)
        surplus = []
        if len(stack) > self._limits.idle_per_key:
            oldest = stack.popleft()
            del self._since[oldest]
            surplus.append(oldest)
        if len(self._since) > self._limits.idle:
            surplus.append(self.take_oldest())
        return surplus

    def expired(self, *, now: float) -> Sequence[C]:
        """Forget and return those that have been idle for too long."""
        too_old = []
        while self._since:
            _, since = next(iter(self._since.values()))
            if now - since < self._limits.keepalive:
                break
            too_old.append(self.take_oldest())
        return too_old

    def take_oldest(self) -> C:
        """Forget and return the one that has been idle for longest. Raises ``KeyError`` when there is none."""
        connection, (key, _) = self._since.popitem(last=False)
        stack = self._stacks[key]
        stack.popleft()
        if not stack:
            del self._stacks[key]
        return connection

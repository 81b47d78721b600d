"""How many deliveries are live in an outbox in memory, of whom; and which receivers have ever accepted one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from datetime import datetime
from typing import Final
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal, is_newcomer, refusal
from callback_middleware.delivery import Delivery
from callback_middleware.destinations import Origin

MOST_IDLE: Final = 10_000
"""Receivers with nothing live that are remembered to have accepted something: those who had something live last."""


class Tally:
    """Counts by origin and owner, of whoever has something live. Not safe between threads: its owner has the lock.

    Args:
        limits: What is allowed; None for everything.
    """

    def __init__(self, limits: BacklogLimits | None = None) -> None:
        self._limits = limits
        self._origins: Counter[Origin] = Counter()
        self._owners: Counter[str] = Counter()
        # Of a newcomer, what was claimed last.
        self._asked: dict[Origin, UUID] = {}
        # When it last did.
        self._accepted: dict[Origin, datetime] = {}
        self._idle: OrderedDict[Origin, None] = OrderedDict()

    def __len__(self) -> int:
        """How many origins and owners are known."""
        return len(self._origins.keys() | self._accepted.keys()) + len(self._owners)

    def begin(self, delivery: Delivery) -> None:
        """A delivery has come to be live."""
        self._origins[delivery.origin] += 1
        self._idle.pop(delivery.origin, None)
        owner = _owner(delivery)
        if owner is not None:
            self._owners[owner] += 1

    def end(self, delivery: Delivery) -> None:
        """One that was live is so no longer."""
        origin, owner = delivery.origin, _owner(delivery)
        _count_off(self._origins, origin)
        if origin not in self._origins:
            self._asked.pop(origin, None)
            if origin in self._accepted:
                self._idle[origin] = None
                if len(self._idle) > MOST_IDLE:
                    self._forget(next(iter(self._idle)))
        if owner is not None:
            _count_off(self._owners, owner)

    def refusal(self, delivery: Delivery) -> Refusal | None:
        """Why one more finds no room; None if it does."""
        origin, owner = delivery.origin, _owner(delivery)
        return refusal(
            self._limits,
            origin,
            accepted=origin in self._accepted,
            live=self._origins[origin],
            owned=0 if owner is None else self._owners[owner],
        )

    def is_newcomer(self, origin: Origin) -> bool:
        return is_newcomer(self._limits, accepted=origin in self._accepted)

    def asked(self, origin: Origin) -> UUID | None:
        """Of a newcomer, the delivery that was claimed last."""
        return self._asked.get(origin)

    def ask(self, delivery: Delivery) -> None:
        """One of a newcomer is claimed."""
        self._asked[delivery.origin] = delivery.id

    def accept(self, origin: Origin, now: datetime) -> None:
        """An origin with something live has accepted something."""
        self._accepted[origin] = now
        self._asked.pop(origin, None)

    def others_wait(self, delivery: Delivery) -> bool:
        """Whether others of its origin wait for this one, which is over, or about to be."""
        others = self._origins[delivery.origin] - (not delivery.state.terminal)
        return self._asked.get(delivery.origin) == delivery.id and others > 0

    def forget(self, before: datetime) -> None:
        """Forget the receivers that accepted last before this time, and have nothing live."""
        for origin in [origin for origin in self._idle if self._accepted[origin] < before]:
            self._forget(origin)

    def _forget(self, origin: Origin) -> None:
        del self._idle[origin], self._accepted[origin]


def _owner(delivery: Delivery) -> str | None:
    return None if delivery.subscription is None else delivery.subscription.key.owner


def _count_off(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]

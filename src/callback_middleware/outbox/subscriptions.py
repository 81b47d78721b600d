"""The subscriptions that an outbox in memory knows, and how far their generations were counted.

The generation of a key is remembered while a subscription of it is in force, and while a delivery that was sent to one
is remembered. That is as long as anybody can say of an old one that its receiver is gone: who says it names a delivery.
Then the key is forgotten, and counting begins anew; so the keys that are kept are bounded by what else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from callback_middleware.outbox.taken import taken
from callback_middleware.subscription import Subscription, SubscriptionKey, SubscriptionVersion

_Place: TypeAlias = tuple[str, str]
"""Callback and key: what one owner has at a time."""

_FEW: Final = 1000
"""Places that are not worth looking through."""


@dataclass(slots=True, eq=False)
class _Holding:
    """What is known of a place: who has it, if it is not over, and what was counted.

    ``deliveries`` are those that are remembered and were sent to it.
    """

    subscription: Subscription | None = None
    generation: int = 0
    deliveries: int = 0


_NOTHING: Final = _Holding()
"""Of a place that nobody knows. Nothing is written into it."""


class Subscriptions:
    """Who has subscribed what. Not safe between threads: its owner has the lock."""

    def __init__(self) -> None:
        self._holdings: dict[_Place, _Holding] = {}
        # What expires is noticed when somebody asks for it. Now and then all are looked through: when there are twice
        # as many as the last time, so that it costs each of them little, and the expired are never most of them.
        self._look_at = _FEW

    def __len__(self) -> int:
        """How many keys are known, of whatever callback."""
        return len(self._holdings)

    def subscribe(self, subscriptions: Iterable[Subscription], now: datetime) -> None:
        """Make or replace these, in their order: all, or none of them.

        Raises:
            SubscriptionExists: A key is another owner's.
        """
        made: dict[_Place, Subscription] = {}
        for subscription in subscriptions:
            place = _place(subscription.key)
            holding = self._holdings.get(place, _NOTHING)
            current = made.get(place, holding.subscription)
            if current is not None and current.key != subscription.key and not current.expired(now):
                raise taken(subscription.key)
            before = made[place].generation if place in made else holding.generation
            made[place] = replace(subscription, generation=before + 1)
        for place, subscription in made.items():
            holding = self._holdings.setdefault(place, _Holding())
            holding.subscription, holding.generation = subscription, subscription.generation
        if len(self._holdings) >= self._look_at:
            self.forget_expired(now)

    def find(self, key: SubscriptionKey, now: datetime) -> Subscription | None:
        """The owner's subscription in force, if there is one."""
        subscription = self._holdings.get(_place(key), _NOTHING).subscription
        if subscription is None or subscription.key != key or subscription.expired(now):
            return None
        return subscription

    def end(self, key: SubscriptionKey) -> None:
        """End the owner's subscription, if there is one."""
        self._end(key, None)

    def end_version(self, version: SubscriptionVersion) -> None:
        """End a subscription, unless it was ended or replaced since it was this one."""
        self._end(version.key, version.generation)

    def in_force(self, now: datetime) -> Sequence[Subscription]:
        """All of them, in the order of callback and key."""
        held = [holding.subscription for holding in self._holdings.values()]
        current = [one for one in held if one is not None and not one.expired(now)]
        return sorted(current, key=lambda one: _place(one.key))

    def remember(self, version: SubscriptionVersion) -> None:
        """A delivery is remembered that was sent to this."""
        self._holdings.setdefault(_place(version.key), _Holding()).deliveries += 1

    def forget(self, version: SubscriptionVersion) -> None:
        """One that was remembered is so no longer."""
        place = _place(version.key)
        self._holdings[place].deliveries -= 1
        self._tidy(place)

    def forget_expired(self, now: datetime) -> None:
        """Let go of what expired, and of its generations unless deliveries remember it."""
        for place, holding in list(self._holdings.items()):
            if holding.subscription is not None and holding.subscription.expired(now):
                holding.subscription = None
                self._tidy(place)
        self._look_at = max(_FEW, 2 * len(self._holdings))

    def _end(self, key: SubscriptionKey, generation: int | None) -> None:
        place = _place(key)
        holding = self._holdings.get(place, _NOTHING)
        subscription = holding.subscription
        if subscription is not None and subscription.key == key and generation in {None, subscription.generation}:
            holding.subscription = None
            self._tidy(place)

    def _tidy(self, place: _Place) -> None:
        holding = self._holdings[place]
        if holding.subscription is None and not holding.deliveries:
            del self._holdings[place]


def _place(key: SubscriptionKey) -> _Place:
    return key.callback, key.key

"""Keys under which a notification is sent only once in a while."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from callback_middleware.delivery import Delivery
from callback_middleware.subscription import SubscriptionKey

REMEMBERED_FOR: Final = timedelta(hours=24)

_Key: TypeAlias = tuple[str, str, str, SubscriptionKey | None]


class RecentKeys:
    """The dedupe keys of the last 24 hours, each of one callback of one operation, or of one subscription to it."""

    def __init__(self) -> None:
        self._keys: set[_Key] = set()
        self._ends: deque[tuple[datetime, _Key]] = deque()

    def admit(self, delivery: Delivery, now: datetime) -> bool:
        """Remember a delivery's key. False if it is remembered already; True if it has none."""
        if delivery.dedupe is None:
            return True
        if self.knows(delivery, now):
            return False
        key = _key(delivery, delivery.dedupe)
        self._keys.add(key)
        self._ends.append((now + REMEMBERED_FOR, key))
        return True

    def knows(self, delivery: Delivery, now: datetime) -> bool:
        """Whether a delivery's key is remembered; it is not, if it has none."""
        while self._ends and self._ends[0][0] <= now:
            self._keys.discard(self._ends.popleft()[1])
        return delivery.dedupe is not None and _key(delivery, delivery.dedupe) in self._keys


def _key(delivery: Delivery, dedupe: str) -> _Key:
    # Two operations may name their callbacks alike, and two owners choose the same key: none silences another.
    subscribed = None if delivery.subscription is None else delivery.subscription.key
    return delivery.operation, delivery.callback, dedupe, subscribed

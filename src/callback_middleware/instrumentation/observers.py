"""Several observers as one, that never raises: what is told must not change what happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from callback_middleware.delivery import Delivery, Verdict
from callback_middleware.outcomes import Attempt
from callback_middleware.planning import Skip
from callback_middleware.ports import Batch, Observer

logger = logging.getLogger("callback_middleware")


class Observers:
    """Tells each in turn. What one raises is logged, and the next is told all the same."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def put(self, batch: Batch) -> None:
        self._tell(lambda observer: observer.put(batch))

    def skipped(self, skip: Skip) -> None:
        self._tell(lambda observer: observer.skipped(skip))

    def lost(self, batch: Batch, error: Exception) -> None:
        self._tell(lambda observer: observer.lost(batch, error))

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        self._tell(lambda observer: observer.attempted(delivery, attempt))

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        self._tell(lambda observer: observer.settled(delivery, verdict))

    def _tell(self, say: Callable[[Observer], Any]) -> None:
        for observer in self._observers:
            try:
                say(observer)
            except Exception:
                logger.exception("an observer raised, which changes nothing else (%s)", type(observer).__qualname__)

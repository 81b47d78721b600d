"""What one thread is told to do, in the order in which it was told."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Order: TypeAlias = Callable[[], object]


class Orders:
    """Given by any thread, in the middle of anything: a finalizer too gives one, and it waits for no lock.

    One thread takes them. ``queue.SimpleQueue`` would be this, but its ``get(timeout=…)`` waits for ever if the thread
    is held up for as long as its timeout at the wrong moment (CPython 3.11 to 3.13): whoever only looks around when
    nothing comes would not look any more.
    """

    def __init__(self) -> None:
        self._given: deque[Order] = deque()
        # Locked while nobody has rung: a lock's own timeout is sound, and releasing it waits for nothing.
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, order: Order) -> None:
        """Give an order."""
        self._given.append(order)
        try:
            self._bell.release()
        except RuntimeError:
            # It has rung already.
            return

    def take(self, timeout: float | None) -> Order | None:
        """The next order; None if none came in so many seconds, or a moment earlier. Without a timeout it waits."""
        while not self._given:
            if not self._bell.acquire(timeout=-1 if timeout is None else timeout) or timeout is not None:
                break
        return self._given.popleft() if self._given else None

    def empty(self) -> bool:
        """Whether there is none."""
        return not self._given

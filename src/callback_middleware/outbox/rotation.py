"""What is due, origin by origin: the order in which an outbox in memory hands deliveries out.

Every origin has a heap of its own, by due time. Origins whose first item is due stand in a ring and take turns; the
others are parked in one heap of origins, by the time of their first item. So taking costs what is taken, the origins
visited for it, and the origins that came due since; of 100,000 items parked, or due at one busy origin, it sees one.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from heapq import heapify, heappop, heappush
from uuid import UUID

from callback_middleware.destinations import Origin


class _Queue:
    """One origin's items, the first due first."""

    __slots__ = ("discarded", "heap", "looks", "origin", "ready")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.heap: list[tuple[datetime, int, UUID]] = []
        # How many were taken out since the heap was rebuilt, and may be in it: never most of it.
        self.discarded = 0
        self.ready = False
        # When the heap of origins will look at this one, the next look last. Several, because an earlier item leaves
        # the later look where it is; none twice, and each for an item that waits until then: they cannot pile up.
        self.looks: list[datetime] = []


class Rotation:
    """Items by due time, taken origin by origin. Not safe between threads: its owner has the lock."""

    def __init__(self) -> None:
        self._queues: dict[Origin, _Queue] = {}
        self._ring: deque[_Queue] = deque()
        self._parked: list[tuple[datetime, int, _Queue]] = []
        # An item that was taken out in the middle stays in its heap for a while; its ticket tells.
        self._tickets: dict[UUID, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, item: UUID, origin: Origin, due: datetime, now: datetime) -> bool:
        """Add an item that is not in it. True if an origin that had nothing due has now."""
        queue = self._queues.get(origin)
        if queue is None:
            queue = self._queues[origin] = _Queue(origin)
        ticket = self._tickets[item] = next(self._numbers)
        heappush(queue.heap, (due, ticket, item))
        return self._place(queue, due, now)

    def discard(self, item: UUID, origin: Origin, now: datetime) -> None:
        """Take an item out, wherever it stands, if it is in it."""
        queue = self._queues.get(origin)
        if queue is None or self._tickets.pop(item, None) is None:
            return
        queue.discarded += 1
        if 2 * queue.discarded > len(queue.heap):
            self._rebuild(queue)
        if self._due(queue, now):
            return
        if queue.ready:
            # As long as the ring, but rare: an operator cancels, or a result comes after its lease had ended and before
            # the next claim.
            self._ring.remove(queue)
            queue.ready = False
        self._place_head(queue, now)

    def take(
        self, limit: int, now: datetime, *, room: Callable[[Origin, int], int], busy: Counter[Origin]
    ) -> list[UUID]:
        """Take at most ``limit`` items that are due, one of each origin in turn, going on where the last call ended.

        Args:
            limit: At least 1.
            now: What is due later stays.
            room: How many may be taken of an origin with so many in ``busy``. Without room it is left out, and keeps
                its turn.
            busy: How many of each origin are out; what is taken is added.
        """
        self._wake(now)
        taken: list[UUID] = []
        left_out: list[_Queue] = []
        while self._ring and len(taken) < limit:
            queue = self._ring.popleft()
            if room(queue.origin, busy[queue.origin]) <= 0:
                left_out.append(queue)
                continue
            # Not, if the clock was set back.
            if self._due(queue, now):
                _, _, item = heappop(queue.heap)
                del self._tickets[item]
                taken.append(item)
                busy[queue.origin] += 1
            # Only who has something due stands in the ring: `add` tells by it whether it brought news.
            queue.ready = False
            self._place_head(queue, now)
        self._ring.extendleft(reversed(left_out))
        return taken

    def next_due(self) -> datetime | None:
        """When the next origin that had nothing due at the last :meth:`take` has something, or had since."""
        return self._parked[0][0] if self._parked else None

    def _place(self, queue: _Queue, due: datetime, now: datetime) -> bool:
        if queue.ready:
            return False
        if due <= now:
            queue.ready = True
            self._ring.append(queue)
            return True
        if not queue.looks or due < queue.looks[-1]:
            queue.looks.append(due)
            heappush(self._parked, (due, next(self._numbers), queue))
        return False

    def _wake(self, now: datetime) -> None:
        """Let the origins into the ring whose first item has come due."""
        while self._parked and self._parked[0][0] <= now:
            _, _, queue = heappop(self._parked)
            queue.looks.pop()
            if not queue.ready:
                self._place_head(queue, now)

    def _place_head(self, queue: _Queue, now: datetime) -> None:
        """Put an origin that is not in the ring where its first item belongs; forget it if it has none."""
        self._surface(queue)
        if queue.heap:
            self._place(queue, queue.heap[0][0], now)
        elif not queue.looks:
            # Otherwise the last look forgets it. Or every item that is put and taken out again would leave one behind.
            del self._queues[queue.origin]

    def _due(self, queue: _Queue, now: datetime) -> bool:
        self._surface(queue)
        return bool(queue.heap) and queue.heap[0][0] <= now

    def _surface(self, queue: _Queue) -> None:
        heap = queue.heap
        while heap and self._tickets.get(heap[0][2]) != heap[0][1]:
            heappop(heap)

    def _rebuild(self, queue: _Queue) -> None:
        queue.heap = [entry for entry in queue.heap if self._tickets.get(entry[2]) == entry[1]]
        heapify(queue.heap)
        queue.discarded = 0

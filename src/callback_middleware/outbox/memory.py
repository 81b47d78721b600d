"""An outbox in memory: the default, for tests and first steps. What is in it ends with the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import islice
from typing import ClassVar
from uuid import UUID

import anyio

from callback_middleware.backlog import BACKLOG, BacklogLimits
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Delivery, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.eventloop import Bell, LoopLocal
from callback_middleware.outbox.claims import NEVER
from callback_middleware.outbox.ledger import Ledger
from callback_middleware.outcomes import Attempt
from callback_middleware.ports import Batch, Clock, PutReport
from callback_middleware.selection import Page, Selection
from callback_middleware.states import State
from callback_middleware.subscription import Subscription, SubscriptionKey
from callback_middleware.verdicts import SUSPICIONS

logger = logging.getLogger("callback_middleware")


@dataclass(slots=True, eq=False)
class _Room:
    """Where one event loop waits for news, and until when it would without."""

    bell: Bell
    until: datetime


class MemoryOutbox:
    """An :class:`~callback_middleware.ports.Outbox` and its log that keep nothing beyond the process.

    Safe between threads and event loops; a loop that ended while it waited harms nobody. It never raises
    :class:`~callback_middleware.errors.OutboxUnavailable`.

    Args:
        clock: Says what is due and which leases have ended; default the system's.
        keep: How many deliveries that are delivered, dead or cancelled the log remembers, with their attempts: the
            last ones. An id is known as long.
        backlog: How many deliveries may be live; None for as many as come, and nobody is a newcomer.
    """

    durable: ClassVar[bool] = False
    outage: ClassVar[None] = None
    # It never waits.
    patience: ClassVar[float | None] = 0.0

    def __init__(
        self, *, clock: Clock | None = None, keep: int = 1000, backlog: BacklogLimits | None = BACKLOG
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._ledger = Ledger(keep, backlog)
        # Held for moments, and never while waiting: any thread and any loop may put.
        self._lock = threading.Lock()
        self._room: LoopLocal[_Room] = LoopLocal()
        self._rooms: list[_Room] = []
        self._warned = False

    async def start(self) -> None:
        """Nothing can be wrong with it."""

    async def put(self, batch: Batch) -> PutReport:
        now = self._clock.now()
        with self._lock:
            report = self._ledger.put(batch, now)
            self._tell_news(now)
        if not self._warned and (report.stored or batch.subscribe):
            self._warned = True
            logger.warning(
                "callbacks and subscriptions are kept in memory: "
                "what is not delivered when the process ends is lost (MemoryOutbox)"
            )
        return report

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        now = self._clock.now()
        with self._lock:
            claimed = self._ledger.claim(limit, now, now + lease, per_origin=per_origin, busy=busy)
        for delivery in claimed.killers:
            logger.error(
                "delivery %s of %s to %s is dead: it %s %d times",
                *(delivery.id, delivery.callback, delivery.origin, delivery.reason, SUSPICIONS),
            )
        return claimed.claims

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        now = self._clock.now()
        with self._lock:
            return self._ledger.extend([claim.fence for claim in claims], now, now + lease)

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        now = self._clock.now()
        with self._lock:
            applied = self._ledger.settle(settlements, now)
            self._tell_news(now)
        return applied

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's: reaching it is no error
        """Return when something was put or came due, or a lease ended, since the last wait on this event loop.

        What was due before and was not claimed is no news: its caller had no room for it.
        """
        room = self._room.get()
        if room is None:
            room = _Room(Bell(), NEVER)
            self._room.set(room)
            # For what was put before anybody waited here.
            room.bell.ring()
            with self._lock:
                self._rooms.append(room)
        with self._lock:
            room.until = self._ledger.next_due
        pause = min(timeout, room.until - self._clock.now())
        with anyio.move_on_after(max(pause.total_seconds(), 0)):
            await room.bell.wait()

    async def aclose(self) -> None:
        """Nothing is held open, and nothing is forgotten."""

    async def get(self, delivery: UUID) -> Delivery:
        with self._lock:
            return self._ledger.get(delivery)

    async def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        with self._lock:
            return self._ledger.attempts(delivery)

    async def counts(self) -> Mapping[State, int]:
        """How many deliveries are in each state; of terminal ones, those that are still remembered."""
        with self._lock:
            return self._ledger.counts()

    async def search(self, selection: Selection, *, limit: int = 100, after: UUID | None = None) -> Page:
        with self._lock:
            deliveries = self._ledger.deliveries()
        found = (one for one in deliveries if (after is None or one.id < after) and selection.matches(one))
        # One more than asked for tells whether there are more.
        newest = nlargest(limit + 1, found, key=lambda one: one.id)
        return Page(newest[:limit], newest[limit - 1].id if len(newest) > limit else None)

    async def cancel(self, delivery: UUID) -> Delivery:
        now = self._clock.now()
        with self._lock:
            cancelled = self._ledger.cancel(delivery, now)
            self._tell_news(now)
        return cancelled

    async def replay(self, delivery: UUID) -> Delivery:
        now = self._clock.now()
        with self._lock:
            replayed = self._ledger.replay(delivery, now)
            self._tell_news(now)
        return replayed

    async def replay_all(
        self, selection: Selection, *, dry_run: bool = False, spacing: timedelta = timedelta(milliseconds=100)
    ) -> int:
        """As the port says. Of one origin the oldest come first."""
        now = self._clock.now()
        with self._lock:
            count = self._ledger.replay_all(selection, now, spacing, dry_run=dry_run)
            self._tell_news(now)
        return count

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        now = self._clock.now()
        with self._lock:
            return self._ledger.prune(before, now, limit)

    async def subscriptions(
        self, *, callback: str | None = None, limit: int = 100, after: SubscriptionKey | None = None
    ) -> Sequence[Subscription]:
        now = self._clock.now()
        with self._lock:
            subscriptions = self._ledger.subscriptions(now)
        found = (
            one
            for one in subscriptions
            if callback in (None, one.callback) and (after is None or one.key[:2] > after[:2])
        )
        return list(islice(found, limit))

    def _tell_news(self, now: datetime) -> None:
        """Wake every event loop that would sleep beyond the news: once, however much was put."""
        news = self._ledger.take_news()
        if news is NEVER:
            return
        self._rooms = [room for room in self._rooms if not (news <= now or news < room.until) or room.bell.ring()]

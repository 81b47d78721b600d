"""What an outbox in memory knows, and how it changes. No lock, no loop, no clock: its owner has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal
from callback_middleware.delivery import Dead, Delivered, Delivery, Fence, Released, Retry, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.outbox.claims import NEVER, Claimed, Claims
from callback_middleware.outbox.dedupe import RecentKeys
from callback_middleware.outbox.register import Register, Row
from callback_middleware.outbox.subscriptions import Subscriptions
from callback_middleware.outbox.tally import Tally
from callback_middleware.outcomes import Attempt
from callback_middleware.ports import Batch, PutReport
from callback_middleware.selection import Selection
from callback_middleware.states import Event, State
from callback_middleware.subscription import Subscription


class Ledger:
    """Deliveries with their attempts, what is to be sent of them, subscriptions and dedupe keys.

    Args:
        keep: How many terminal deliveries, with their attempts, are remembered: the last ones.
        limits: How many may be live; None for as many as come.
    """

    def __init__(self, keep: int, limits: BacklogLimits | None = None) -> None:
        self._tally = Tally(limits)
        self._register = Register(keep, self._forgotten, self._tally)
        self._claims = Claims(self._register, self._tally)
        self._subscriptions = Subscriptions()
        self._keys = RecentKeys()

    @property
    def next_due(self) -> datetime:
        """When something comes due by itself, or a lease ends, or a little earlier. What was left is not counted."""
        return self._claims.next_due

    def take_news(self) -> datetime:
        """When the first of what came to be due, since this was last asked, is due; ``NEVER`` for nothing."""
        news, self._claims.news = self._claims.news, NEVER
        return news

    def put(self, batch: Batch, now: datetime) -> PutReport:
        """Store a batch.

        Raises:
            SubscriptionExists: A key is another owner's; nothing is changed.
        """
        # What can be refused comes first; after it nothing fails.
        if batch.subscribe:
            self._subscriptions.subscribe(batch.subscribe, now)
        wanted = list(batch.deliveries)
        unsubscribed: list[UUID] = []
        for notification in batch.notify:
            subscription = self._subscriptions.find(notification.key, now)
            if subscription is not None:
                wanted.append(Delivery.notified(notification, subscription))
            elif notification.id not in self._register:
                unsubscribed.append(notification.id)
        stored: list[UUID] = []
        duplicates: list[UUID] = []
        refused: dict[UUID, Refusal] = {}
        for delivery in wanted:
            if delivery.id in self._register:
                continue
            full = self._tally.refusal(delivery)
            if full is not None and not self._keys.knows(delivery, now):
                refused[delivery.id] = full
            elif not self._keys.admit(delivery, now):
                duplicates.append(delivery.id)
            else:
                self._add(delivery, now)
                stored.append(delivery.id)
        for key in batch.end:
            self._subscriptions.end(key)
        return PutReport(stored, duplicates, unsubscribed, refused)

    def claim(
        self, limit: int, now: datetime, until: datetime, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Claimed:
        """Lease what is due until ``until``."""
        return self._claims.claim(limit, now, until, per_origin=per_origin, busy=busy)

    def extend(self, fences: Iterable[Fence], now: datetime, until: datetime) -> frozenset[Fence]:
        """Lease afresh, until ``until``, what these fences still own."""
        return self._claims.extend(fences, now, until)

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Fence]:
        """Apply what fences still own; keep the attempts of the others."""
        applied: list[Fence] = []
        for settlement in settlements:
            owned = self._claims.owner(settlement.fence)
            row = owned or self._register.find(settlement.fence.delivery)
            if row is not None and settlement.attempt is not None:
                # Who was not told whether a settlement applied settles again.
                row.attempts.setdefault(settlement.fence.number, settlement.attempt)
            if owned is not None:
                self._apply(owned, settlement, now)
                applied.append(settlement.fence)
        return frozenset(applied)

    def cancel(self, delivery: UUID, now: datetime) -> Delivery:
        """End a delivery that is pending or sending.

        Raises:
            DeliveryNotFound: No delivery has this id.
            IllegalTransition: It has ended.
        """
        row = self._register.row(delivery)
        self._register.move(row, Event.CANCEL, now)
        self._claims.withdraw(row.delivery, now)
        return row.delivery

    def replay(self, delivery: UUID, now: datetime) -> Delivery:
        """Begin a new run, due now.

        Raises:
            DeliveryNotFound: No delivery has this id.
            IllegalTransition: It has not ended.
        """
        row = self._register.row(delivery)
        self._begin_run(row, now, now)
        return row.delivery

    def replay_all(self, selection: Selection, now: datetime, spacing: timedelta, *, dry_run: bool) -> int:
        """Begin new runs of the selected ones that have ended: of each origin the oldest now, and the others later."""
        chosen = [row for row in self._register.ended() if selection.matches(row.delivery)]
        if not dry_run:
            begun: Counter[Origin] = Counter()
            for row in sorted(chosen, key=lambda row: row.delivery.id):
                origin = row.delivery.origin
                self._begin_run(row, now, now + begun[origin] * spacing)
                begun[origin] += 1
        return len(chosen)

    def prune(self, before: datetime, now: datetime, limit: int) -> int:
        """Forget what ended and what expired before; at most ``limit`` deliveries. Returns how many of these."""
        self._tally.forget(min(before, now))
        self._subscriptions.forget_expired(min(before, now))
        return self._register.prune(before, limit)

    def get(self, delivery: UUID) -> Delivery:
        """Raises ``DeliveryNotFound``."""
        return self._register.row(delivery).delivery

    def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        """Raises ``DeliveryNotFound``."""
        attempts = self._register.row(delivery).attempts
        return [attempts[fence] for fence in sorted(attempts, key=lambda fence: (attempts[fence].started_at, fence))]

    def deliveries(self) -> Sequence[Delivery]:
        """All that are remembered, in no order."""
        return self._register.deliveries()

    def subscriptions(self, now: datetime) -> Sequence[Subscription]:
        """All that are in force, in the order of callback and key."""
        return self._subscriptions.in_force(now)

    def counts(self) -> Mapping[State, int]:
        return self._register.counts()

    def _add(self, delivery: Delivery, now: datetime) -> None:
        """Store one whose id is new."""
        self._register.add(delivery)
        self._claims.schedule(delivery, now)
        if delivery.subscription is not None:
            self._subscriptions.remember(delivery.subscription)

    def _forgotten(self, delivery: Delivery) -> None:
        if delivery.subscription is not None:
            self._subscriptions.forget(delivery.subscription)

    def _apply(self, row: Row, settlement: Settlement, now: datetime) -> None:
        verdict, attempted, move = settlement.verdict, settlement.attempt is not None, self._register.move
        self._claims.withdraw(row.delivery, now)
        made = row.delivery.attempts + attempted
        if attempted:
            row.claims = made
        elif isinstance(verdict, Released):
            row.claims -= 1
        match verdict:
            case Retry(after, reason):
                move(row, Event.RETRY, now, due_at=now + after, reason=reason, attempts=made)
            case Released(after):
                move(row, Event.RELEASE, now, due_at=now + after, attempts=made)
            case Dead(reason, gone):
                if gone and row.delivery.subscription is not None:
                    self._subscriptions.end_version(row.delivery.subscription)
                move(row, Event.GIVE_UP, now, reason=reason, attempts=made)
            case Delivered():
                self._tally.accept(row.delivery.origin, now)
                move(row, Event.SUCCEED, now, reason="", attempts=made)
            case _:
                assert_never(verdict)
        if row.delivery.state is State.PENDING:
            self._claims.schedule(row.delivery, now)

    def _begin_run(self, row: Row, now: datetime, due: datetime) -> None:
        before = row.delivery
        age = before.retry.max_age
        self._register.move(
            row,
            Event.REPLAY,
            now,
            run=before.run + 1,
            attempts=0,
            reason="",
            due_at=due,
            expires_at=None if age is None else due + age,
        )
        row.claims = 0
        self._claims.schedule(row.delivery, now)

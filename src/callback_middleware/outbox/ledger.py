"""What an outbox in memory knows, and how it changes. No lock, no loop, no clock: its owner has them.

Every change of a state goes through :func:`~callback_middleware.states.advance`.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from callback_middleware.delivery import Claim, Dead, Delivered, Delivery, Fence, Released, Retry, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.dedupe import RecentKeys
from callback_middleware.outbox.rotation import Rotation
from callback_middleware.outcomes import Attempt
from callback_middleware.ports import PutReport
from callback_middleware.states import Event, State, advance
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class _Row:
    """A delivery and what only the outbox knows of it.

    ``claims`` counts the attempts that were settled, and the claims since: where it is the higher of the two, a worker
    claimed and was never heard of again.
    """

    delivery: Delivery
    fence: int = 0
    claims: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def suspicions(self) -> int:
        return self.claims - self.delivery.attempts


class Claimed(NamedTuple):
    """What one call claimed, and the suspects that it settled dead instead."""

    claims: Sequence[Claim]
    killers: Sequence[Delivery] = ()


class Ledger:
    """Deliveries, leases and fences, dedupe keys and attempts.

    A suspect, a delivery whose last claim ended with its lease, is claimed alone: by a call that claims nothing else,
    and while no other suspect is leased. So what kills its worker takes no other suspect with it, and nobody twice.
    A settled attempt clears it.

    Args:
        keep: How many terminal deliveries, with their attempts, are remembered: the last ones.

    Attributes:
        news: The earliest time at which something is due that was not before, since it was last set to ``NEVER``.
    """

    def __init__(self, keep: int) -> None:
        self.news = NEVER
        self._keep = keep
        self._rows: dict[UUID, _Row] = {}
        self._counts: Counter[State] = Counter()
        self._terminal: deque[UUID] = deque()
        self._fences = itertools.count(1)
        self._rotation = Rotation()
        # A dict, because one may be taken out of the middle.
        self._suspects: dict[UUID, None] = {}
        self._leased_suspect: UUID | None = None
        self._leases: dict[UUID, datetime] = {}
        # No lease ends before this. It may lag behind; then all leases, as many as are in flight, are looked at once.
        self._first_lease_end = NEVER
        self._keys = RecentKeys()

    @property
    def next_due(self) -> datetime:
        """When something comes due by itself, or a lease ends, or a little earlier. What was left is not counted."""
        return min(self._first_lease_end, self._rotation.next_due() or NEVER)

    def put(self, deliveries: Iterable[Delivery], now: datetime) -> PutReport:
        """Store those whose id is new and whose dedupe key is not in use."""
        stored: list[UUID] = []
        duplicates: list[UUID] = []
        for delivery in deliveries:
            if delivery.id in self._rows:
                continue
            if not self._keys.admit(delivery, now):
                duplicates.append(delivery.id)
                continue
            self._rows[delivery.id] = _Row(delivery)
            self._counts[delivery.state] += 1
            self._schedule(delivery, now)
            stored.append(delivery.id)
        return PutReport(stored, duplicates)

    def claim(
        self, limit: int, now: datetime, until: datetime, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Claimed:
        """Lease what is due until ``until``.

        It costs what it claims and the origins that it visits: an origin is visited without a claim only while the
        caller itself has ``per_origin`` of it. What is parked, or waits behind the first of its origin, is not seen.
        """
        self._return_lapsed(now)
        out = Counter(busy)
        alone = self._claim_suspect(until, per_origin, out)
        if alone:
            return Claimed(alone)
        claims: list[Claim] = []
        killers: list[Delivery] = []
        while len(claims) < limit:
            items = self._rotation.take(limit - len(claims), now, per_origin=per_origin, busy=out)
            if not items:
                break
            for row in map(self._rows.__getitem__, items):
                if not row.suspicions:
                    claims.append(self._lease(row, until))
                    continue
                out[row.delivery.origin] -= 1
                if row.suspicions < SUSPICIONS:
                    self._suspects[row.delivery.id] = None
                else:
                    self._move(row, Event.GIVE_UP, reason=KILLED_ITS_WORKER.reason)
                    killers.append(row.delivery)
        return Claimed(claims or self._claim_suspect(until, per_origin, out), killers)

    def extend(self, fences: Iterable[Fence], now: datetime, until: datetime) -> frozenset[Fence]:
        """Lease afresh, until ``until``, what these fences still own."""
        owned = frozenset(fence for fence in fences if self._owner(fence) is not None)
        for fence in owned:
            # The lease may have ended, and nobody else have claimed it yet.
            self._take_out(self._rows[fence.delivery].delivery, now)
            self._note_lease(fence.delivery, until)
        return owned

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Fence]:
        """Apply what fences still own; keep the attempts of the others."""
        applied: list[Fence] = []
        for settlement in settlements:
            row = self._owner(settlement.fence)
            if row is not None:
                self._apply(row, settlement, now)
                applied.append(settlement.fence)
            elif settlement.attempt is not None:
                self._note_late(settlement.fence.delivery, settlement.attempt)
        return frozenset(applied)

    def get(self, delivery: UUID) -> Delivery:
        return self._row(delivery).delivery

    def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        return sorted(self._row(delivery).attempts, key=lambda attempt: attempt.started_at)

    def counts(self) -> Mapping[State, int]:
        return {state: self._counts[state] for state in State}

    def _row(self, delivery: UUID) -> _Row:
        row = self._rows.get(delivery)
        if row is None:
            raise DeliveryNotFound(f"no delivery has the id {delivery}")
        return row

    def _owner(self, fence: Fence) -> _Row | None:
        """The row that a fence still owns. A lease that ended takes nothing away until somebody else claims."""
        row = self._rows.get(fence.delivery)
        owns = row is not None and row.fence == fence.number and row.delivery.state is State.SENDING
        return row if owns else None

    def _schedule(self, delivery: Delivery, now: datetime) -> None:
        due = delivery.due_at
        # Behind others of its origin that are due and were left, it is no news.
        if self._rotation.add(delivery.id, delivery.origin, due, now) or due > now:
            self.news = min(self.news, due)

    def _take_out(self, delivery: Delivery, now: datetime) -> None:
        """Make what lapsed no longer due."""
        self._rotation.discard(delivery.id, delivery.origin, now)
        self._suspects.pop(delivery.id, None)

    def _return_lapsed(self, now: datetime) -> None:
        """Make what is leased due again where its lease ended. It stays its owner's until somebody else claims it."""
        if self._first_lease_end > now:
            return
        for delivery in [delivery for delivery, until in self._leases.items() if until <= now]:
            self._end_lease(delivery)
            self._rotation.add(delivery, self._rows[delivery].delivery.origin, now, now)
        self._first_lease_end = min(self._leases.values(), default=NEVER)

    def _claim_suspect(self, until: datetime, per_origin: int, out: Mapping[Origin, int]) -> list[Claim]:
        if not self._suspects or self._leased_suspect is not None:
            return []
        suspect = next(iter(self._suspects))
        del self._suspects[suspect]
        row = self._rows[suspect]
        if out.get(row.delivery.origin, 0) >= per_origin:
            # Another one gets the next chance.
            self._suspects[suspect] = None
            return []
        self._leased_suspect = suspect
        return [self._lease(row, until)]

    def _lease(self, row: _Row, until: datetime) -> Claim:
        if row.delivery.state is State.SENDING:
            self._move(row, Event.LEASE_EXPIRED)
        self._move(row, Event.CLAIM, due_at=until)
        row.fence = next(self._fences)
        row.claims += 1
        self._note_lease(row.delivery.id, until)
        return Claim(Fence(row.delivery.id, row.fence), row.delivery)

    def _note_lease(self, delivery: UUID, until: datetime) -> None:
        self._leases[delivery] = until
        self._first_lease_end = min(self._first_lease_end, until)

    def _end_lease(self, delivery: UUID) -> None:
        self._leases.pop(delivery, None)
        if delivery == self._leased_suspect:
            self._leased_suspect = None

    def _apply(self, row: _Row, settlement: Settlement, now: datetime) -> None:
        delivery, verdict, attempt = row.delivery.id, settlement.verdict, settlement.attempt
        if delivery == self._leased_suspect and self._suspects:
            self.news = min(self.news, now)
        self._end_lease(delivery)
        self._take_out(row.delivery, now)
        if attempt is not None:
            row.attempts.append(attempt)
        made = row.delivery.attempts + (attempt is not None)
        match verdict:
            case Retry(after, reason):
                self._move(row, Event.RETRY, due_at=now + after, reason=reason, attempts=made)
            case Released(after):
                self._move(row, Event.RELEASE, due_at=now + after, attempts=made)
            case Dead(reason):
                self._move(row, Event.GIVE_UP, reason=reason, attempts=made)
            case Delivered():
                self._move(row, Event.SUCCEED, reason="", attempts=made)
            case _:
                assert_never(verdict)
        if row.delivery.state is State.PENDING:
            self._schedule(row.delivery, now)
        if attempt is not None:
            row.claims = made
        elif isinstance(verdict, Released):
            row.claims -= 1

    def _note_late(self, delivery: UUID, attempt: Attempt) -> None:
        row = self._rows.get(delivery)
        # Who was not told whether a settlement applied settles again.
        if row is not None and attempt not in row.attempts:
            row.attempts.append(attempt)

    def _move(
        self,
        row: _Row,
        event: Event,
        *,
        due_at: datetime | None = None,
        reason: str | None = None,
        attempts: int | None = None,
    ) -> None:
        before = row.delivery
        state = advance(before.state, event)
        row.delivery = replace(
            before,
            state=state,
            due_at=before.due_at if due_at is None else due_at,
            reason=before.reason if reason is None else reason,
            attempts=before.attempts if attempts is None else attempts,
        )
        self._counts[before.state] -= 1
        self._counts[state] += 1
        if state.terminal:
            self._terminal.append(before.id)
            if len(self._terminal) > self._keep:
                forgotten = self._rows.pop(self._terminal.popleft())
                self._counts[forgotten.delivery.state] -= 1

"""What is to be sent, as an outbox in memory hands it out: due, leased, or suspected of killing its worker."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from callback_middleware.backlog import claimable
from callback_middleware.delivery import Claim, Delivery, Fence
from callback_middleware.destinations import Origin
from callback_middleware.outbox.register import Register, Row
from callback_middleware.outbox.rotation import Rotation
from callback_middleware.outbox.tally import Tally
from callback_middleware.states import Event, State
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Claimed(NamedTuple):
    """What one call claimed, and the suspects that it settled dead instead."""

    claims: Sequence[Claim]
    killers: Sequence[Delivery] = ()


class Claims:
    """Due times, leases and fences.

    A suspect, a delivery whose last claim ended with its lease, is claimed alone: by a call that claims nothing else,
    and while no other suspect is leased. So what kills its worker takes no other suspect with it, and nobody twice.
    A settled attempt clears it.

    Args:
        register: Where the rows stand.
        tally: Which origins are newcomers.

    Attributes:
        news: The earliest time at which something is due that was not before, since it was last set to ``NEVER``.
    """

    def __init__(self, register: Register, tally: Tally) -> None:
        self.news = NEVER
        self._register = register
        self._tally = tally
        self._fences = itertools.count(1)
        self._rotation = Rotation()
        # A dict, because one may be taken out of the middle.
        self._suspects: dict[UUID, None] = {}
        self._leased_suspect: UUID | None = None
        self._leases: dict[UUID, datetime] = {}
        # No lease ends before this. It may lag behind; then all leases, as many as are in flight, are looked at once.
        self._first_lease_end = NEVER

    @property
    def next_due(self) -> datetime:
        """When something comes due by itself, or a lease ends, or a little earlier. What was left is not counted."""
        return min(self._first_lease_end, self._rotation.next_due() or NEVER)

    def schedule(self, delivery: Delivery, now: datetime) -> None:
        """Hand out a pending delivery when it is due."""
        due = delivery.due_at
        # Behind others of its origin that are due and were left, it is no news.
        if self._rotation.add(delivery.id, delivery.origin, due, now) or due > now:
            self.news = min(self.news, due)

    def withdraw(self, delivery: Delivery, now: datetime) -> None:
        """Hand it out no longer, and end its lease."""
        if (delivery.id == self._leased_suspect and self._suspects) or self._tally.others_wait(delivery):
            self.news = min(self.news, now)
        self._end_lease(delivery.id)
        self._take_out(delivery, now)

    def owner(self, fence: Fence) -> Row | None:
        """The row that a fence still owns. A lease that ended takes nothing away until somebody else claims."""
        row = self._register.find(fence.delivery)
        owns = row is not None and row.fence == fence.number and row.delivery.state is State.SENDING
        return row if owns else None

    def claim(
        self, limit: int, now: datetime, until: datetime, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Claimed:
        """Lease what is due until ``until``.

        It costs what it claims and the origins that it visits: an origin is visited without a claim only while the
        caller itself has ``per_origin`` of it, or any caller one of a newcomer. What is parked, or waits behind the
        first of its origin, is not seen.
        """
        self._return_lapsed(now)
        out = Counter(busy)
        room = partial(self._room, per_origin)
        alone = self._claim_suspect(now, until, per_origin, out)
        if alone:
            return Claimed(alone)
        claims: list[Claim] = []
        killers: list[Delivery] = []
        while len(claims) < limit:
            items = self._rotation.take(limit - len(claims), now, room=room, busy=out)
            if not items:
                break
            for row in map(self._register.row, items):
                if not row.suspicions:
                    claims.append(self._lease(row, now, until))
                    continue
                out[row.delivery.origin] -= 1
                if row.suspicions < SUSPICIONS:
                    self._suspects[row.delivery.id] = None
                else:
                    self._register.move(row, Event.GIVE_UP, now, reason=KILLED_ITS_WORKER.reason)
                    killers.append(row.delivery)
        return Claimed(claims or self._claim_suspect(now, until, per_origin, out), killers)

    def extend(self, fences: Iterable[Fence], now: datetime, until: datetime) -> frozenset[Fence]:
        """Lease afresh, until ``until``, what these fences still own."""
        owned = []
        for fence in fences:
            row = self.owner(fence)
            if row is not None:
                # The lease may have ended, and nobody else have claimed it yet.
                self._take_out(row.delivery, now)
                self._note_lease(fence.delivery, until)
                if row.suspicions > 1 and self._leased_suspect is None:
                    self._leased_suspect = fence.delivery
                owned.append(fence)
        return frozenset(owned)

    def _room(self, per_origin: int, origin: Origin, busy: int) -> int:
        """How many may be claimed of an origin of which the caller has so many."""
        newcomer = self._tally.is_newcomer(origin)
        out = newcomer and self._tally.asked(origin) in self._leases
        return claimable(per_origin, newcomer=newcomer, out=out, busy=busy)

    def _take_out(self, delivery: Delivery, now: datetime) -> None:
        """Make what is due no longer due."""
        self._rotation.discard(delivery.id, delivery.origin, now)
        self._suspects.pop(delivery.id, None)

    def _return_lapsed(self, now: datetime) -> None:
        """Make what is leased due again where its lease ended. It stays its owner's until somebody else claims it."""
        if self._first_lease_end > now:
            return
        for delivery in [delivery for delivery, until in self._leases.items() if until <= now]:
            self._end_lease(delivery)
            self._rotation.add(delivery, self._register.row(delivery).delivery.origin, now, now)
        self._first_lease_end = min(self._leases.values(), default=NEVER)

    def _claim_suspect(
        self, now: datetime, until: datetime, per_origin: int, out: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        if not self._suspects or self._leased_suspect is not None:
            return []
        suspect = next(iter(self._suspects))
        del self._suspects[suspect]
        row = self._register.row(suspect)
        if self._room(per_origin, row.delivery.origin, out.get(row.delivery.origin, 0)) <= 0:
            # Another one gets the next chance.
            self._suspects[suspect] = None
            return []
        self._leased_suspect = suspect
        return [self._lease(row, now, until)]

    def _lease(self, row: Row, now: datetime, until: datetime) -> Claim:
        if row.delivery.state is State.SENDING:
            self._register.move(row, Event.LEASE_EXPIRED, now)
        self._register.move(row, Event.CLAIM, now, due_at=until)
        row.fence = next(self._fences)
        row.claims += 1
        self._note_lease(row.delivery.id, until)
        newcomer = self._tally.is_newcomer(row.delivery.origin)
        if newcomer:
            self._tally.ask(row.delivery)
        return Claim(Fence(row.delivery.id, row.fence), row.delivery, newcomer)

    def _note_lease(self, delivery: UUID, until: datetime) -> None:
        self._leases[delivery] = until
        self._first_lease_end = min(self._first_lease_end, until)

    def _end_lease(self, delivery: UUID) -> None:
        self._leases.pop(delivery, None)
        if delivery == self._leased_suspect:
            self._leased_suspect = None

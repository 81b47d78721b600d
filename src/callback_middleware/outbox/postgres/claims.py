"""Claiming: the schema's functions, asked; what they lease is read by its ids afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, is_newcomer
from callback_middleware.delivery import Claim, Fence
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.rows import delivery_of
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.ports import Clock
from callback_middleware.states import State
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

logger = logging.getLogger("callback_middleware")

MOST_CLAIMED: Final = 1000
"""In one call, whatever is asked for."""

_LOWEST: Final = -(2**63)

_ALL: Final = 2**64
"""How many origins there may be."""


class Leased(NamedTuple):
    """What one call leased, before it is read.

    Attributes:
        ids: In the order in which they were chosen.
        fences: The number of the fence of each.
        counts: Of each the attempts, the run, why the last attempt failed, and whether its receiver is a newcomer.
        ends: When the leases end, by the database's clock.
        next_due: Seconds until something that is not due comes due; None for nothing.
        ahead: What this process' clock is ahead of the database's, by which all times in it are told.
    """

    ids: Sequence[UUID] = ()
    fences: Sequence[int] = ()
    counts: Sequence[tuple[int, int, str, bool]] = ()
    ends: datetime | None = None
    next_due: float | None = None
    ahead: timedelta = timedelta()


class Claims:
    """Leases what is due, beginning where this process' last claim ended.

    Args:
        schema: Where.
        retries: The numbers of retry policies.
        limits: Whether there are newcomers.
        clock: By which this process decides what has expired.
    """

    def __init__(self, schema: Schema, retries: Retries, limits: BacklogLimits | None, clock: Clock) -> None:
        self._schema = schema
        self._retries = retries
        self._clock = clock
        self._welcoming = is_newcomer(limits, accepted=False)
        self._cursor = _LOWEST
        self._passed = 0

    async def lease(
        self, connection: Connection, limit: int, lease: timedelta, per_origin: int, busy: Mapping[Origin, int]
    ) -> Leased:
        """Lease what is due, in one call of the database."""
        out = dict(sorted((origin_key(origin), count) for origin, count in busy.items()))
        (row,) = await connection.fetch(
            self._schema.claim,
            *(min(limit, MOST_CLAIMED), lease, per_origin, list(out), list(out.values())),
            *(self._welcoming, self._cursor, SUSPICIONS, KILLED_ITS_WORKER.reason),
        )
        for id_ in row["buried"] or ():
            logger.error("delivery %s is dead: it %s %d times", id_, KILLED_ITS_WORKER.reason, SUSPICIONS)
        next_due = None if row["later"] is None else row["later"] / 1_000_000
        reached = row["reached"]
        if row["ids"] is None:
            return Leased(next_due=0.0 if reached is not None and self._goes_on(reached) else next_due)
        self._cursor, self._passed = reached, 0
        counts = list(zip(row["made"], row["runs"], row["reasons"], row["newcomers"], strict=True))
        ahead = self._clock.now() - (row["ends"] - lease)
        return Leased(row["ids"], row["fences"], counts, row["ends"], next_due, ahead)

    def _goes_on(self, reached: int) -> bool:
        """Begin the next claim where this one ended, because so many had no room; until all were passed once."""
        self._passed += (reached - self._cursor) % _ALL
        self._cursor = reached
        goes_on = self._passed < _ALL
        self._passed %= _ALL
        return goes_on

    async def read(self, connection: Connection, leased: Leased) -> Sequence[Claim]:
        """The claims, whole and in their order."""
        ids = leased.ids
        if not ids:
            return ()
        asked = {row[0]: row for row in await connection.fetch(self._schema.read, ids, min(ids), max(ids))}
        policies = await self._retries.policies(connection, {row[12] for row in asked.values()})
        claims = []
        for id_, fence, (attempts, run, reason, newcomer) in zip(ids, leased.fences, leased.counts, strict=True):
            what = asked.get(id_)
            if what is None or what[12] not in policies:
                # It stays leased, is claimed again, and ends as any that nobody can deliver.
                logger.error("delivery %s cannot be sent: what was asked for is not there any more", id_)
                continue
            delivery = delivery_of(
                what,
                policies[what[12]],
                state=State.SENDING,
                due_at=leased.ends,
                attempts=attempts,
                run=run,
                reason=reason,
            )
            if delivery.expires_at is not None:
                # Whoever attempts it looks at its own clock, which may be off by hours.
                delivery = replace(delivery, expires_at=delivery.expires_at + leased.ahead)
            claims.append(Claim(Fence(id_, fence), delivery, newcomer))
        return claims

    async def unclaim(self, connection: Connection, leased: Leased) -> None:
        """Take back claims that reached nobody."""
        await connection.execute(self._schema.unclaim, leased.ids, leased.fences)

    async def extend(self, connection: Connection, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        """Lease afresh what these claims still own."""
        ids, numbers = [one.fence.delivery for one in claims], [one.fence.number for one in claims]
        return frozenset(Fence(*row) for row in await connection.fetch(self._schema.extend, ids, numbers, lease))

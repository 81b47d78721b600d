"""Who finds room: what a put brings against what is live already, looked at before its commit and not under a lock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal, refusal, tightest
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.plenty import Plenty
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.schema import Schema


class Room:
    """Asks how much is live of an origin, unless it is known to have plenty of room."""

    def __init__(self, schema: Schema, limits: BacklogLimits | None) -> None:
        self._schema = schema
        self._limits = limits
        self._plenty = Plenty()

    def forget(self) -> None:
        """Something was put that was not taken off."""
        self._plenty = Plenty()

    async def refusals(self, connection: Connection, deliveries: Sequence[Delivery]) -> Mapping[UUID, Refusal]:
        """Which of these, all sent at once, find no room, and why. An id that is known needs none."""
        limits = self._limits
        if limits is None:
            return {}
        wanted = Counter(origin_key(delivery.origin) for delivery in deliveries)
        unsure = self._plenty.unsure(wanted)
        crowded = await self._crowded(connection, limits, wanted, unsure) if unsure else {}
        if not crowded:
            return {}
        ids = [delivery.id for delivery in deliveries if origin_key(delivery.origin) in crowded]
        there = {record[0] for record in await connection.fetch(self._schema.known, ids)}
        refused: dict[UUID, Refusal] = {}
        for delivery in deliveries:
            key = origin_key(delivery.origin)
            if key not in crowded or delivery.id in there:
                continue
            live, accepted = crowded[key]
            full = refusal(limits, delivery.origin, accepted=accepted, live=live)
            if full is None:
                there.add(delivery.id)
                crowded[key] = live + 1, accepted
            else:
                refused[delivery.id] = full
        return refused

    async def _crowded(
        self, connection: Connection, limits: BacklogLimits, wanted: Mapping[int, int], unsure: Collection[int]
    ) -> dict[int, tuple[int, bool]]:
        """Those of these that have no room for so many; how many are live, and whether they ever accepted any."""
        crowded = {}
        rows = await connection.fetch(self._schema.standing, unsure, limits.newcomer, limits.per_origin)
        for key, live, accepted in rows:
            holds = tightest(limits, accepted=accepted)
            spare = (sys.maxsize if holds is None else holds[1]) - live - wanted[key]
            if spare < 0:
                crowded[key] = live, accepted
            else:
                self._plenty.learn(key, spare)
        return crowded

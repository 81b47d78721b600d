"""Who finds room: what a put brings against what is live already, looked at before its commit and not under a lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.crowding import Standing, crowded, refused
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
        if not unsure:
            return {}
        full = crowded(self._plenty, limits, wanted, await self._look(connection, limits, unsure))
        if not full:
            return {}
        ids = [delivery.id for delivery in deliveries if origin_key(delivery.origin) in full]
        known = {record[0] for record in await connection.fetch(self._schema.known, ids)}
        return refused(limits, deliveries, full, known)

    async def _look(
        self, connection: Connection, limits: BacklogLimits, origins: Collection[int]
    ) -> Mapping[int, Standing]:
        rows = await connection.fetch(self._schema.standing, origins, limits.newcomer, limits.per_origin)
        return {key: Standing(live, accepted) for key, live, accepted in rows}

"""Storing what requests staged: many batches in one commit, in one statement if they are plain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Bound, Refusal
from callback_middleware.delivery import Delivery
from callback_middleware.errors import OutboxError, OutboxUncertain
from callback_middleware.outbox.gathering import Result
from callback_middleware.outbox.postgres.faults import is_about_values, is_passing
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.room import Room
from callback_middleware.outbox.postgres.rows import as_columns, batches_text, plain_row
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.outbox.taken import taken
from callback_middleware.ports import Batch, PutReport

MOST_ROWS: Final = 1000
"""In one statement."""

MOST_WAITS: Final = 4
"""Batches of a burst that each wait for somebody, of those that are stored apart: the others wait as long."""


class Puts:
    """Stores bursts.

    Args:
        schema: Where.
        retries: The numbers of retry policies.
        limits: How many deliveries may be live; None for as many as come.
        pooler: Whether sessions are not this process' own.
    """

    def __init__(self, schema: Schema, retries: Retries, limits: BacklogLimits | None, *, pooler: bool = False) -> None:
        self._schema = schema
        self._retries = retries
        self._limits = limits
        self._bounds = bounds_text(limits, own=not pooler)
        self._room = Room(schema, limits)

    async def put_all(self, connection: Connection, batches: Sequence[Batch], now: datetime) -> Sequence[Result]:
        """Store every batch whole or not at all. One result for each, in their order.

        What is plain is one statement, and so one commit. What one batch is wrong with is told to it alone; and if
        somebody's open transaction has a key of one, that alone waits for it, and not for long.

        Args:
            connection: Of the outbox.
            batches: What is stored.
            now: By the clock that their times were told by.
        """
        deliveries = [delivery for batch in batches for delivery in batch.deliveries]
        try:
            if len(deliveries) <= MOST_ROWS and all(map(_is_plain, batches)):
                return await self._put_plain(connection, batches, deliveries, now)
            return await self._put_each(connection, batches, now)
        except OutboxError:
            raise
        except Exception as error:
            if len(batches) > 1 and (is_about_values(error) or is_passing(error)):
                return await self._put_apart(connection, batches, now)
            raise

    async def _put_apart(self, connection: Connection, batches: Sequence[Batch], now: datetime) -> Sequence[Result]:
        """Store each in a commit of its own."""
        results: list[Result] = []
        waited = 0
        for batch in batches:
            if waited == MOST_WAITS:
                results.append(OutboxUncertain("others of its burst were in the way of somebody: put it again"))
                continue
            result = await self._put_alone(connection, batch, now)
            waited += isinstance(result, OutboxUncertain)
            results.append(result)
        return results

    async def _put_alone(self, connection: Connection, batch: Batch, now: datetime) -> Result:
        try:
            (result,) = await self._put_each(connection, [batch], now)
        except Exception as error:
            if is_passing(error):
                return OutboxUncertain(f"somebody's transaction has a key of its, and is open: {error}; put it again")
            if not is_about_values(error):
                raise
            return error
        return result

    async def _put_plain(
        self, connection: Connection, batches: Sequence[Batch], deliveries: Sequence[Delivery], now: datetime
    ) -> Sequence[Result]:
        if not deliveries:
            return [PutReport() for _ in batches]
        # By what they are and not by what they say: to hash a policy costs as much as half a row, and all share a few.
        policies = {id(delivery.retry): delivery.retry for delivery in deliveries}
        numbers = await self._retries.ids(connection, set(policies.values()))
        retry_id = {key: numbers[policy] for key, policy in policies.items()}
        full = await self._room.refusals(connection, deliveries)
        rows = [plain_row(one, retry_id[id(one.retry)]) for one in deliveries if one.id not in full]
        new: set[UUID] = set()
        if rows:
            stored = await connection.fetchval(self._schema.put, *as_columns(rows), now)
            new.update([row[0] for row in rows] if stored is None else stored)
        if len(new) == len(deliveries):
            return [PutReport([delivery.id for delivery in batch.deliveries]) for batch in batches]
        return [_report(new, full, batch.deliveries) for batch in batches]

    async def _put_each(self, connection: Connection, batches: Sequence[Batch], now: datetime) -> Sequence[Result]:
        text = await connection.fetchval(self._schema.put_each, batches_text(batches), now, self._bounds, timeout=None)
        self._room.forget()
        return reports(text, batches, self._limits)


def bounds_text(limits: BacklogLimits | None, *, own: bool = False) -> str | None:
    """Bounds as the function ``refusal`` reads them, and whether the session is one of the outbox' own."""
    if limits is None:
        return None
    return json.dumps({one.name: getattr(limits, one.name) for one in fields(limits)} | {"remembered": own})


def reports(text: str, batches: Sequence[Batch], limits: BacklogLimits | None) -> Sequence[Result]:
    """What the function ``put_each`` has to say, batch by batch."""
    return [_told(told, batch, limits) for told, batch in zip(json.loads(text), batches, strict=True)]


def _told(told: Mapping[str, Any], batch: Batch, limits: BacklogLimits | None) -> Result:
    if "taken" in told:
        return taken(batch.subscribe[told["taken"]].key)
    return PutReport(
        list(map(UUID, told["stored"])),
        list(map(UUID, told["duplicates"])),
        list(map(UUID, told["unsubscribed"])),
        {UUID(id_): Refusal(Bound(bound), getattr(limits, bound), origin) for id_, bound, origin in told["refused"]},
    )


def _is_plain(batch: Batch) -> bool:
    special = batch.subscribe or batch.notify or batch.end
    return not special and all(one.dedupe is None and one.subscription is None for one in batch.deliveries)


def _report(new: set[UUID], full: Mapping[UUID, Refusal], deliveries: Iterable[Delivery]) -> PutReport:
    """Which of these are new, each once, also where two batches name it; and which found no room."""
    stored: list[UUID] = []
    refused: dict[UUID, Refusal] = {}
    for delivery in deliveries:
        if delivery.id in full:
            refused[delivery.id] = full[delivery.id]
        elif delivery.id in new:
            new.discard(delivery.id)
            stored.append(delivery.id)
    return PutReport(stored, refused=refused)

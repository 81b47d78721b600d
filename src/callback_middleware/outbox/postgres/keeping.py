"""What keeps the database small, and ready for tomorrow: days made ahead, old ones dropped, what is over forgotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

import asyncpg

from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.schema import Schema

logger = logging.getLogger("callback_middleware")

AnyConnection: TypeAlias = Connection | asyncpg.Connection

_TABLES: Final = ("delivery", "result", "attempt")
"""In the order in which they are dropped: what has no delivery any more is nobody's."""

AHEAD: Final = 7
"""Days that have partitions before they come."""

AT_ONCE: Final = 500
"""Deliveries that one statement forgets."""

_LATER: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.CheckViolationError)
"""What a day is left for another time for: the last one is said of a default partition that got more meanwhile."""

_STRAGGLERS: Final = timedelta(days=7)
"""After its time a day that cannot be dropped, because something in it is still to be done, is thinned out."""


async def tend(connection: Connection, schema: Schema, keep: timedelta | None) -> None:
    """Make the days that come, drop those that are over, forget what else is.

    It may be done by several processes at once, and at any time again: who comes second finds it done, or leaves it.
    Days are a matter of who owns the tables; others forget row by row alone.
    """
    before: datetime = await connection.fetchval(
        f"SELECT {schema.name}.instant() - coalesce($1, interval '1000 years')", keep
    )
    try:
        await make_days(connection, schema)
        if keep is not None:
            await drop_days(connection, schema, before)
    except asyncpg.InsufficientPrivilegeError as error:
        logger.warning(
            "the days of the outbox are neither made nor dropped here (%s): let one of its processes connect as a user "
            "who owns the schema %s, or run `callback-middleware migrate` every day",
            *(error, schema.name),
        )
    await _thin_out(connection, schema, before)


async def make_days(connection: AnyConnection, schema: Schema) -> None:
    """Make the partitions of yesterday, for clocks that are behind, of today, and of the days that come."""
    today: date = await connection.fetchval(f"SELECT ({schema.name}.instant() AT TIME ZONE 'UTC')::date")
    for number in range(-1, AHEAD + 1):
        for table in _TABLES:
            await _unless_locked(
                connection, f"SELECT {schema.name}.make_part($1, $2)", table, today + timedelta(days=number)
            )


async def drop_days(connection: Connection, schema: Schema, before: datetime) -> None:
    """Drop the partitions of days of which everything ended before a moment."""
    days: Sequence[date] = [row[0] for row in await connection.fetch(f"SELECT {schema.name}.days()")]
    for day in days:
        if day >= before.astimezone(UTC).date():
            return
        drop = f"SELECT {schema.name}.drop_part($1, $2, $3)"
        dropped = [await _unless_locked(connection, drop, table, day, before) for table in _TABLES]
        if all(dropped):
            logger.info("the deliveries of %s are forgotten", day)


async def _unless_locked(connection: AnyConnection, statement: str, *values: object) -> bool:
    """Whether it was done. What somebody reads for long, or puts into at this moment, is left for another time."""
    try:
        return bool(await connection.fetchval(statement, *values))
    except _LATER:
        return False


async def _thin_out(connection: Connection, schema: Schema, before: datetime) -> None:
    """Forget row by row what no day can be dropped for."""
    while await connection.fetchval(schema.prune, before - _STRAGGLERS, AT_ONCE) == AT_ONCE:
        continue

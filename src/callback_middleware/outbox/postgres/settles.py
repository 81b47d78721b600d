"""Settling: what became of claims, told to the schema's function in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

from callback_middleware.delivery import Dead, Delivered, Fence, Released, Retry, Settlement
from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.rows import ATTEMPT_COLUMNS, attempt_row, text_of
from callback_middleware.outbox.postgres.schema import Schema


class Settled(NamedTuple):
    """Which applied, and after how long the first of what became due again is due; None for nothing."""

    applied: frozenset[Fence]
    due: timedelta | None


async def settle(connection: Connection, schema: Schema, settlements: Sequence[Settlement], now: datetime) -> Settled:
    """Record what became of claims, in one commit.

    Args:
        connection: Of the outbox.
        schema: Where.
        settlements: What became of them.
        now: By the clock that attempts were timed by.
    """
    said = [(one.fence.delivery, one.fence.number, *_verdict(one), one.attempt is not None) for one in settlements]
    tried = [attempt_row(one.fence.number, one.attempt) for one in settlements if one.attempt is not None]
    rows = await connection.fetch(schema.settle, *_columns(said, 7), now, *_columns(tried, len(ATTEMPT_COLUMNS)))
    applied = frozenset(Fence(row["id"], row["fence"]) for row in rows)
    dues = [
        one.verdict.after for one in settlements if isinstance(one.verdict, Retry | Released) and one.fence in applied
    ]
    if any(row["freed"] for row in rows):
        # One suspect that is settled lets the next one go; and one of a newcomer's.
        dues.append(timedelta())
    return Settled(applied, min(dues, default=None))


def _verdict(settlement: Settlement) -> tuple[str, int, str, bool]:
    """What it is, microseconds until it is due again, why, and whether its receiver is gone."""
    match settlement.verdict:
        case Delivered():
            return "delivered", 0, "", False
        case Dead(reason, gone):
            return "dead", 0, text_of(reason), gone
        case Retry(after, reason):
            return "retry", microseconds(after), text_of(reason), False
        case Released(after):
            return "released", microseconds(after), "", False
        case _:
            assert_never(settlement.verdict)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width

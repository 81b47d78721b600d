"""Settling: what became of claims, told to the schema's function in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, assert_never

from callback_middleware.delivery import Dead, Delivered, Fence, Released, Retry, Settlement
from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.rows import as_columns, attempt_row, text_of
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.outbox.records import ATTEMPT_COLUMNS

_NO_ATTEMPT: Final = (None,) * (len(ATTEMPT_COLUMNS) - 2)


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
    # Of a fence that is told twice the first counts.
    once = {one.fence: one for one in reversed(settlements)}
    (row,) = await connection.fetch(schema.settle, *as_columns(map(_row, once.values())), now)
    ids = row["applied_ids"]
    applied = frozenset(once if ids is None else map(Fence, ids, row["applied_fences"]))
    dues = [
        one.verdict.after for one in settlements if isinstance(one.verdict, Retry | Released) and one.fence in applied
    ]
    if row["freed"]:
        dues.append(timedelta())
    return Settled(applied, min(dues, default=None))


def _row(settlement: Settlement) -> tuple[Any, ...]:
    """What the function ``settle`` is told of one: its fence, its verdict, and the attempt that was made."""
    fence, attempt = settlement.fence, settlement.attempt
    # The delivery and the fence stand there already.
    made = _NO_ATTEMPT if attempt is None else attempt_row(fence.number, attempt)[2:]
    return (fence.delivery, fence.number, *_verdict(settlement), *made)


def _verdict(settlement: Settlement) -> tuple[str, int | None, str | None, bool | None]:
    """What it is, microseconds until it is due again, why, and whether its receiver is gone; None for what is plain."""
    match settlement.verdict:
        case Delivered():
            return "delivered", None, None, None
        case Dead(reason, gone):
            return "dead", None, text_of(reason), gone or None
        case Retry(after, reason):
            return "retry", microseconds(after), text_of(reason), None
        case Released(after):
            return "released", microseconds(after), None, None
        case _:
            assert_never(settlement.verdict)

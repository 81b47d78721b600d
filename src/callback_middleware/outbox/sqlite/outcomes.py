"""Attempts as rows, and rows as attempts."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from callback_middleware.outbox.columns import microseconds, storable
from callback_middleware.outbox.outcomes import outcome_columns, outcome_of
from callback_middleware.outbox.sqlite.rows import Row, instant, time_at
from callback_middleware.outcomes import Attempt

ATTEMPT_COLUMNS: Final = (
    *("delivery", "fence", "run", "number", "started_at", "duration"),
    *("outcome", "status", "detail", "body", "mismatch"),
)


def attempt_row(seq: int, fence: int, attempt: Attempt) -> Row:
    """The columns :data:`ATTEMPT_COLUMNS`."""
    return (
        *(seq, fence, attempt.run, attempt.number),
        instant(attempt.started_at),
        microseconds(attempt.duration),
        *outcome_columns(attempt.outcome),
        storable(attempt.mismatch) or None,
    )


def attempt_of(delivery: UUID, row: Row) -> Attempt:
    """An attempt of the columns :data:`ATTEMPT_COLUMNS`."""
    _, _, run, number, started_at, duration, kind, status, detail, body, mismatch = row
    return Attempt(
        delivery=delivery,
        run=run,
        number=number,
        started_at=time_at(started_at),
        duration=timedelta(microseconds=duration),
        outcome=outcome_of(kind, status, detail, body),
        mismatch=mismatch or "",
    )

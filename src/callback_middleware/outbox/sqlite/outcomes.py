"""Attempts as rows, and rows as attempts."""

from __future__ import annotations

from uuid import UUID

from callback_middleware.outbox.columns import microseconds, storable
from callback_middleware.outbox.outcomes import outcome_columns
from callback_middleware.outbox.records import read_attempt
from callback_middleware.outbox.sqlite.rows import Row, instant, time_at
from callback_middleware.outcomes import Attempt


def attempt_row(seq: int, fence: int, attempt: Attempt) -> Row:
    """The columns ``ATTEMPT_COLUMNS``."""
    return (
        *(seq, fence, attempt.run, attempt.number),
        instant(attempt.started_at),
        microseconds(attempt.duration),
        *outcome_columns(attempt.outcome),
        storable(attempt.mismatch) or None,
    )


def attempt_of(delivery: UUID, row: Row) -> Attempt:
    """An attempt of the columns ``ATTEMPT_COLUMNS``."""
    return read_attempt(row, delivery, time_at)

"""Rows of any database as values: which columns they have, and what is made of them.

Engines differ in how they keep ids and times, and in nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import pairs_of, tags_of
from callback_middleware.outbox.outcomes import outcome_of
from callback_middleware.outcomes import Attempt
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Subscription, SubscriptionKey, SubscriptionVersion

Record: TypeAlias = Any
"""What a driver reads: a tuple, or more."""

Time: TypeAlias = Callable[[Any], datetime]
"""Makes an aware time of what an engine keeps."""

DELIVERY_COLUMNS: Final = (
    *("id", "operation", "callback", "method", "url", "origin", "origin_key", "headers", "body"),
    *("created_at", "due_at", "expires_at", "retry", "deadline", "dedupe", "tags"),
    *("subscription_key", "subscription_owner", "generation"),
)

SUBSCRIPTION_COLUMNS: Final = (
    *("callback", "key", "owner", "generation", "operation", "method", "url", "origin", "headers"),
    *("created_at", "expires_at", "retry", "deadline", "tags"),
)

ATTEMPT_COLUMNS: Final = (
    *("delivery", "fence", "run", "number", "started_at", "duration"),
    *("outcome", "status", "detail", "body", "mismatch"),
)


def read_delivery(row: Record, retry: RetryPolicy, delivery: UUID, time: Time, **changing: Any) -> Delivery:
    """A delivery of the columns :data:`DELIVERY_COLUMNS`, its id, and what has changed since it was put."""
    version = None if row[18] is None else SubscriptionVersion(SubscriptionKey(row[2], row[16], row[17]), row[18])
    return Delivery(
        id=delivery,
        operation=row[1],
        callback=row[2],
        method=row[3],
        url=row[4],
        origin=row[5],
        headers=pairs_of(row[7]),
        body=row[8],
        created_at=time(row[9]),
        due_at=changing.pop("due_at", None) or time(row[10]),
        expires_at=None if row[11] is None else time(row[11]),
        retry=retry,
        deadline=timedelta(microseconds=row[13]),
        dedupe=row[14],
        tags=tags_of(row[15]),
        subscription=version,
        **changing,
    )


def read_subscription(row: Record, retry: RetryPolicy, time: Time) -> Subscription:
    """A subscription of the columns :data:`SUBSCRIPTION_COLUMNS`."""
    return Subscription(
        key=SubscriptionKey(*row[:3]),
        generation=row[3],
        operation=row[4],
        method=row[5],
        url=row[6],
        origin=row[7],
        headers=pairs_of(row[8]),
        created_at=time(row[9]),
        expires_at=None if row[10] is None else time(row[10]),
        retry=retry,
        deadline=timedelta(microseconds=row[12]),
        tags=tags_of(row[13]),
    )


def read_attempt(row: Record, delivery: UUID, time: Time) -> Attempt:
    """An attempt of the columns :data:`ATTEMPT_COLUMNS`, at this delivery."""
    _, _, run, number, started_at, duration, kind, status, detail, body, mismatch = row
    return Attempt(
        delivery=delivery,
        run=run,
        number=number,
        started_at=time(started_at),
        duration=timedelta(microseconds=duration),
        outcome=outcome_of(kind, status, detail, body),
        mismatch=mismatch or "",
    )

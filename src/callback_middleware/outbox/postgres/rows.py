"""Values as rows, and rows as values: exact, and without a look at the database."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import (
    microseconds,
    origin_key,
    pairs_text,
    storable,
    tags_text,
)
from callback_middleware.outbox.outcomes import outcome_columns
from callback_middleware.outbox.records import Record, read_attempt, read_delivery, read_subscription
from callback_middleware.outcomes import Attempt
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey

Row: TypeAlias = tuple[Any, ...]

PLAIN_COLUMNS: Final = (
    *("id", "operation", "callback", "method", "url", "origin", "origin_key", "headers", "body"),
    *("created_at", "due_at", "expires_at", "retry", "deadline", "tags"),
)
"""Of a delivery that was sent at once and has no dedupe key."""

PLAIN_TYPES: Final = (
    *("uuid", "text", "text", "text", "text", "text", "bigint", "text", "bytea"),
    *("timestamptz", "timestamptz", "timestamptz", "integer", "bigint", "text"),
)


def plain_row(delivery: Delivery, retry: int) -> Row:
    """The columns :data:`PLAIN_COLUMNS`; no ``due_at`` for what is due at once."""
    created_at, due_at = _aware(delivery.created_at), _aware(delivery.due_at)
    return (
        delivery.id,
        _text(delivery.operation),
        _text(delivery.callback),
        delivery.method,
        delivery.url,
        delivery.origin,
        origin_key(delivery.origin),
        pairs_text(tuple(delivery.headers)),
        delivery.body,
        created_at,
        # At once: to tell a time costs as much as two other columns.
        None if due_at == created_at else due_at,
        None if delivery.expires_at is None else _aware(delivery.expires_at),
        retry,
        microseconds(delivery.deadline),
        tags_text(delivery.tags),
    )


def as_columns(rows: Iterable[Row]) -> Iterator[Sequence[Any]]:
    """The columns of rows; where all values are the same, one of them, which the function ``spread`` spreads.

    asyncpg looks at every element that it sends, and most columns of a burst say the same in every row: what one route
    has sent has one callback, one method, one deadline. Ids, which differ, stand in the first column.

    In the order of ids, here and everywhere: of two who write the same rows, none waits for the other.
    """
    ids, *others = zip(*sorted(rows, key=_number), strict=True)
    yield ids
    for column in others:
        yield column[:1] if column[0] == column[-1] and column.count(column[0]) == len(column) else column


def _number(row: Row) -> int:
    # In the order of the ids themselves, which are compared in Python.
    return row[0].int  # type: ignore[no-any-return]


def delivery_of(row: Record, retry: RetryPolicy, **changing: Any) -> Delivery:
    """A delivery of the columns ``DELIVERY_COLUMNS`` and what has changed since it was put."""
    return read_delivery(row, retry, row[0], _as_it_is, **changing)


def subscription_of(row: Record, retry: RetryPolicy) -> Subscription:
    """A subscription of the columns ``SUBSCRIPTION_COLUMNS``."""
    return read_subscription(row, retry, _as_it_is)


def attempt_row(fence: int, attempt: Attempt) -> Row:
    """The columns ``ATTEMPT_COLUMNS``."""
    return (
        *(attempt.delivery, fence, attempt.run, attempt.number, attempt.started_at, microseconds(attempt.duration)),
        *outcome_columns(attempt.outcome),
        text_of(attempt.mismatch) if attempt.mismatch else None,
    )


def attempt_of(row: Record) -> Attempt:
    """An attempt of the columns ``ATTEMPT_COLUMNS``."""
    return read_attempt(row, row[0], _as_it_is)


def batches_text(batches: Sequence[Batch]) -> str:
    """Batches as the function ``put_each`` reads them: JSON, in ASCII."""
    return json.dumps(
        [
            {
                "subscribe": [_subscription(one) for one in batch.subscribe],
                "deliveries": [_delivery(one) for one in batch.deliveries],
                "notify": [_notification(one) for one in batch.notify],
                "end": [_key(one) for one in batch.end],
            }
            for batch in batches
        ],
        separators=(",", ":"),
    )


def retry_text(policy: RetryPolicy) -> str:
    """A retry policy as it stands in the database: one text for one policy."""
    return json.dumps(policy.as_dict(), sort_keys=True)


def max_age(policy: RetryPolicy) -> int | None:
    """Its maximum age in microseconds."""
    return None if policy.max_age is None else microseconds(policy.max_age)


def _delivery(delivery: Delivery) -> Mapping[str, Any]:
    version = delivery.subscription
    return {
        "id": str(delivery.id),
        "operation": _text(delivery.operation),
        "callback": _text(delivery.callback),
        **_request(delivery),
        "body": _bytes(delivery.body),
        "created_at": _time(delivery.created_at),
        "due_at": _time(delivery.due_at),
        "expires_at": _time(delivery.expires_at),
        "dedupe": _text(delivery.dedupe),
        **(
            {}
            if version is None
            else {
                "subscription_key": _text(version.key.key),
                "subscription_owner": _text(version.key.owner),
                "generation": version.generation,
            }
        ),
    }


def _subscription(subscription: Subscription) -> Mapping[str, Any]:
    return {
        **_key(subscription.key),
        "operation": _text(subscription.operation),
        **_request(subscription),
        "created_at": _time(subscription.created_at),
        "expires_at": _time(subscription.expires_at),
    }


def _request(one: Delivery | Subscription) -> Mapping[str, Any]:
    return {
        "method": one.method,
        "url": one.url,
        "origin": one.origin,
        "origin_key": origin_key(one.origin),
        "headers": pairs_text(tuple(one.headers)),
        "retry": retry_text(one.retry),
        "max_age": max_age(one.retry),
        "deadline": microseconds(one.deadline),
        "tags": tags_text(one.tags),
    }


def _notification(notification: Notification) -> Mapping[str, Any]:
    return {
        "id": str(notification.id),
        **_key(notification.key),
        "body": _bytes(notification.body),
        "headers": pairs_text(tuple(notification.headers)),
        "created_at": _time(notification.created_at),
        "due_at": _time(notification.due_at),
        "dedupe": _text(notification.dedupe),
        "tags": tags_text(notification.tags),
    }


def _key(key: SubscriptionKey) -> Mapping[str, Any]:
    return {"callback": _text(key.callback), "key": _text(key.key), "owner": _text(key.owner)}


def _bytes(body: bytes | None) -> str | None:
    return None if body is None else b64encode(body).decode("ascii")


def _time(time: datetime | None) -> str | None:
    return None if time is None else _aware(time).isoformat()


def _aware(time: datetime) -> datetime:
    """A time in UTC. Raises ``ValueError`` if it has no zone: the database would take it for its session's."""
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone: give an aware datetime")
    # Where clocks are put back, two that are an hour apart are equal in Python.
    return time.astimezone(UTC)


def _as_it_is(time: datetime) -> datetime:
    # asyncpg has made it of what the database keeps.
    return time


def text_of(text: str) -> str:
    """A text as PostgreSQL takes it: without NUL, and without half a surrogate pair."""
    return storable(text).replace("\0", "\\x00")


def _text(text: str | None) -> str | None:
    return None if text is None else text_of(text)

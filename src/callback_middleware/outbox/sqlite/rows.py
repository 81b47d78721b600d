"""Values as rows, and rows as values: exact, and without a look at the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import microseconds, origin_key, pairs_of, pairs_text, tags_of, tags_text
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import Subscription, SubscriptionKey, SubscriptionVersion

Row: TypeAlias = tuple[Any, ...]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

DELIVERY_COLUMNS: Final = (
    *("id", "operation", "callback", "method", "url", "origin", "origin_key", "headers", "body"),
    *("created_at", "due_at", "expires_at", "retry", "deadline", "dedupe", "tags"),
    *("subscription_key", "subscription_owner", "generation"),
)

SUBSCRIPTION_COLUMNS: Final = (
    *("callback", "key", "owner", "generation", "operation", "method", "url", "origin", "headers"),
    *("created_at", "expires_at", "retry", "deadline", "tags"),
)


def instant(time: datetime) -> int:
    """A time as whole microseconds since 1970 in UTC."""
    return microseconds(time - EPOCH)


def time_at(instant: int) -> datetime:
    """The time, aware, in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def delivery_row(delivery: Delivery, retry: int) -> Row:
    """The columns :data:`DELIVERY_COLUMNS`."""
    version, expires = delivery.subscription, delivery.expires_at
    return (
        delivery.id.bytes,
        delivery.operation,
        delivery.callback,
        delivery.method,
        delivery.url,
        delivery.origin,
        origin_key(delivery.origin),
        pairs_text(tuple(delivery.headers)),
        delivery.body,
        instant(delivery.created_at),
        instant(delivery.due_at),
        None if expires is None else instant(expires),
        retry,
        microseconds(delivery.deadline),
        delivery.dedupe,
        tags_text(delivery.tags),
        None if version is None else version.key.key,
        None if version is None else version.key.owner,
        None if version is None else version.generation,
    )


def delivery_of(row: Row, retry: RetryPolicy, **changing: Any) -> Delivery:
    """A delivery of the columns :data:`DELIVERY_COLUMNS` and what has changed since it was put."""
    version = None if row[18] is None else SubscriptionVersion(SubscriptionKey(row[2], row[16], row[17]), row[18])
    return Delivery(
        id=UUID(bytes=row[0]),
        operation=row[1],
        callback=row[2],
        method=row[3],
        url=row[4],
        origin=row[5],
        headers=pairs_of(row[7]),
        body=row[8],
        created_at=time_at(row[9]),
        due_at=changing.pop("due_at", None) or time_at(row[10]),
        expires_at=None if row[11] is None else time_at(row[11]),
        retry=retry,
        deadline=timedelta(microseconds=row[13]),
        dedupe=row[14],
        tags=tags_of(row[15]),
        subscription=version,
        **changing,
    )


def subscription_row(subscription: Subscription, retry: int, generation: int) -> Row:
    """The columns :data:`SUBSCRIPTION_COLUMNS`."""
    callback, key, owner = subscription.key
    return (
        *(callback, key, owner, generation),
        *(subscription.operation, subscription.method, subscription.url, subscription.origin),
        pairs_text(tuple(subscription.headers)),
        instant(subscription.created_at),
        None if subscription.expires_at is None else instant(subscription.expires_at),
        retry,
        microseconds(subscription.deadline),
        tags_text(subscription.tags),
    )


def subscription_of(row: Row, retry: RetryPolicy) -> Subscription:
    """A subscription of the columns :data:`SUBSCRIPTION_COLUMNS`."""
    return Subscription(
        key=SubscriptionKey(*row[:3]),
        generation=row[3],
        operation=row[4],
        method=row[5],
        url=row[6],
        origin=row[7],
        headers=pairs_of(row[8]),
        created_at=time_at(row[9]),
        expires_at=None if row[10] is None else time_at(row[10]),
        retry=retry,
        deadline=timedelta(microseconds=row[12]),
        tags=tags_of(row[13]),
    )


def queued_state(leased: int) -> State:
    """What a delivery is whose row is in the queue."""
    return State.SENDING if leased else State.PENDING

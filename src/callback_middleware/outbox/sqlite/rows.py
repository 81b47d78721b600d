"""Values as rows, and rows as values: exact, and without a look at the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import microseconds, origin_key, pairs_text, tags_text
from callback_middleware.outbox.records import read_delivery, read_subscription
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import Subscription

Row: TypeAlias = tuple[Any, ...]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant(time: datetime) -> int:
    """A time as whole microseconds since 1970 in UTC."""
    return microseconds(time - EPOCH)


def time_at(instant: int) -> datetime:
    """The time, aware, in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def delivery_row(delivery: Delivery, retry: int) -> Row:
    """The columns ``DELIVERY_COLUMNS``."""
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
    """A delivery of the columns ``DELIVERY_COLUMNS`` and what has changed since it was put."""
    return read_delivery(row, retry, UUID(bytes=row[0]), time_at, **changing)


def subscription_row(subscription: Subscription, retry: int, generation: int) -> Row:
    """The columns ``SUBSCRIPTION_COLUMNS``."""
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
    """A subscription of the columns ``SUBSCRIPTION_COLUMNS``."""
    return read_subscription(row, retry, time_at)


def queued_state(leased: int) -> State:
    """What a delivery is whose row is in the queue."""
    return State.SENDING if leased else State.PENDING

"""A subscription: a destination that is kept for later, and the notifications that are sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from callback_middleware.destinations import Origin
from callback_middleware.planning import SubscriptionPlan, WantedNotification
from callback_middleware.retry import RetryPolicy


class SubscriptionKey(NamedTuple):
    """What a subscription is found by.

    Of one callback a key has one owner. Another owner who subscribes it is told
    :class:`~callback_middleware.errors.SubscriptionExists`; another who notifies or ends it finds nothing: or anybody
    who types the same key would redirect, or silence, somebody else's notifications.

    Attributes:
        callback: The callback's name.
        key: Which one, as the application knows it: an invoice's id.
        owner: The principal that it belongs to; None for the application itself, whose keys no client chooses.
    """

    callback: str
    key: str
    owner: str | None


class SubscriptionVersion(NamedTuple):
    """A subscription as it was at one moment.

    A later one of the same callback and key, whoever's it is, has a higher generation as long as the outbox remembers
    a delivery that was sent to this one: so what a receiver says of an old notification never ends a new subscription.
    """

    key: SubscriptionKey
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One destination, ready to be sent to: only data, as a delivery is.

    Attributes:
        key: What it is found by.
        operation: The operation that it came from, as ``POST /invoices/``.
        method: HTTP method, upper case.
        url: The whole destination, as it goes on the wire.
        origin: Scheme, host and port of ``url``.
        headers: Sent with every notification, beside the notification's own.
        created_at: When it was subscribed, or replaced; aware.
        expires_at: It is there until this time, aware; None for until it is ended.
        retry: When a failed attempt at a notification is followed by another.
        deadline: Bounds one attempt as a whole.
        tags: Every notification has them too.
        generation: 1, and one more for every later one of the same callback and key; the outbox counts, whatever it
            is told here.
    """

    key: SubscriptionKey
    operation: str
    method: str
    url: str
    origin: Origin
    headers: Sequence[tuple[str, str]] = ()
    created_at: datetime
    expires_at: datetime | None = None
    retry: RetryPolicy
    deadline: timedelta
    tags: Mapping[str, str] = field(default_factory=dict)
    generation: int = 1

    @classmethod
    def of(cls, plan: SubscriptionPlan, *, now: datetime, retry: RetryPolicy, deadline: timedelta) -> Subscription:
        """The subscription that a plan becomes at ``now``; ``retry`` and ``deadline`` apply where the plan has none."""
        return cls(
            key=SubscriptionKey(plan.callback, plan.key, plan.owner),
            operation=plan.operation,
            method=plan.method,
            url=plan.destination.url,
            origin=plan.destination.origin,
            headers=plan.headers,
            created_at=now,
            expires_at=plan.expires_at(now),
            retry=plan.retry or retry,
            deadline=plan.deadline if plan.deadline is not None else deadline,
            tags=plan.tags,
        )

    @property
    def callback(self) -> str:
        """The callback's name."""
        return self.key.callback

    @property
    def version(self) -> SubscriptionVersion:
        """What a delivery remembers of it."""
        return SubscriptionVersion(self.key, self.generation)

    def expired(self, now: datetime) -> bool:
        """Whether it is over by itself."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One body for whoever has subscribed. Where it goes, the outbox knows when it stores it.

    Attributes:
        id: The id of the delivery that it becomes; UUIDv7.
        key: Whose subscription.
        body: The exact bytes, or None for a request without a body.
        headers: Of this notification alone: its content type.
        created_at: When it was planned, aware.
        due_at: Not sent before this, aware.
        dedupe: At most one delivery per subscription and dedupe key in 24 hours; or None.
        tags: Searchable by operators, beside the subscription's; where both have a name, this one's value counts.
    """

    id: UUID
    key: SubscriptionKey
    body: bytes | None
    headers: Sequence[tuple[str, str]] = ()
    created_at: datetime
    due_at: datetime
    dedupe: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, wanted: WantedNotification, *, now: datetime) -> Notification:
        """The notification that a handler asked for, planned at ``now``."""
        return cls(
            id=wanted.id,
            key=SubscriptionKey(wanted.callback, wanted.key, wanted.owner),
            body=wanted.body,
            headers=wanted.headers,
            created_at=now,
            due_at=wanted.due(now),
            dedupe=wanted.dedupe,
            tags=wanted.tags,
        )

"""What planning comes to: what should be put, before any of it is durable, and what will not be, with its reason."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from callback_middleware.destinations import Destination
from callback_middleware.planning.wanted import WantedEnd, WantedNotification, due_at
from callback_middleware.retry import RetryPolicy
from callback_middleware.values import Reason


class Plan(NamedTuple):
    """One request that should be sent. The meaning of each attribute is that of the delivery it becomes."""

    id: UUID
    operation: str
    callback: str
    method: str
    destination: Destination
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    delay: timedelta
    at: datetime | None
    retry: RetryPolicy | None
    deadline: timedelta | None
    dedupe: str | None
    tags: Mapping[str, str]

    def due(self, now: datetime) -> datetime:
        """When it is due if it is put at ``now``."""
        return due_at(now, delay=self.delay, at=self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPlan:
    """One destination that should be kept. The meaning of each attribute is that of the subscription it becomes."""

    operation: str
    callback: str
    key: str
    owner: str | None
    method: str
    destination: Destination
    headers: Sequence[tuple[str, str]]
    expires: timedelta | datetime | None
    retry: RetryPolicy | None
    deadline: timedelta | None
    tags: Mapping[str, str]

    def expires_at(self, now: datetime) -> datetime | None:
        """When it is over by itself if it is put at ``now``; None for never."""
        if not isinstance(self.expires, timedelta):
            return self.expires
        try:
            return now + self.expires
        except OverflowError:
            # Beyond the calendar, as with timedelta.max.
            return None

    def replaces(self, end: WantedEnd) -> bool:
        """Whether it is what that would end."""
        return (self.callback, self.key, self.owner) == (end.callback, end.key, end.owner)


class Verb(enum.StrEnum):
    """What a handler asked for: the method of its ``Callbacks``."""

    SEND = "send"
    SUBSCRIBE = "subscribe"
    NOTIFY = "notify"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True)
class Skip:
    """A callback that is not sent (or not subscribed, notified, unsubscribed), and why.

    Attributes:
        operation: One that documents the callback, as ``POST /invoices/``.
        callback: The callback's name.
        reason: One of the fixed reasons.
        detail: The cause in words; what a stranger typed is escaped and cut in it.
        expression: The expression that it hangs on, where it does.
        id: What ``send`` or ``notify`` returned, where a handler staged it.
        verb: What is not done.
    """

    operation: str
    callback: str
    reason: Reason
    detail: str = ""
    expression: str = ""
    id: UUID | None = None
    verb: Verb = Verb.SEND


class Planned(NamedTuple):
    """Everything that came of one exchange, each kind in the order in which it was staged."""

    plans: Sequence[Plan] = ()
    skips: Sequence[Skip] = ()
    subscriptions: Sequence[SubscriptionPlan] = ()
    notifications: Sequence[WantedNotification] = ()
    ends: Sequence[WantedEnd] = ()

    @property
    def anything(self) -> bool:
        """Whether there is something to put."""
        return bool(self.plans or self.subscriptions or self.notifications or self.ends)

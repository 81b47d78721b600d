"""A delivery: one notification owed to one receiver, and how workers hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from callback_middleware.destinations import Origin
from callback_middleware.outcomes import Attempt
from callback_middleware.planning import Plan
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import Notification, Subscription, SubscriptionVersion

DEADLINE: Final = timedelta(seconds=15)
"""Bounds one attempt as a whole, where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notification, as the outbox keeps it: only data, so that a worker needs nothing but the row.

    Attributes:
        id: UUIDv7, made by the middleware; the ``webhook-id`` of every attempt.
        operation: The operation it came from, as ``POST /invoices/``.
        callback: The callback's name.
        method: HTTP method, upper case.
        url: The whole destination, as it goes on the wire.
        origin: Scheme, host and port of ``url``.
        headers: Sent with every attempt, beside those that sender and signer add.
        body: The exact bytes, or None for a request without a body.
        created_at: When it was planned, aware.
        due_at: Not sent before this, aware: schedule and visibility timeout in one.
        retry: When a failed attempt is followed by another.
        deadline: Bounds one attempt as a whole, name resolution to last byte.
        dedupe: At most one delivery per callback (or subscription to it) and dedupe key in 24 hours, or None.
        tags: Searchable by operators.
        run: 1, and one more for every replay.
        attempts: Attempts settled in this run.
        expires_at: No attempt starts after this; None for never.
        reason: Why it is dead, or why its last attempt failed; else empty.
        subscription: The subscription that it was sent to, as it was then; None for one that was sent at once.
    """

    id: UUID
    operation: str
    callback: str
    method: str
    url: str
    origin: Origin
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    created_at: datetime
    due_at: datetime
    retry: RetryPolicy
    deadline: timedelta
    dedupe: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    state: State = State.PENDING
    run: int = 1
    attempts: int = 0
    expires_at: datetime | None = None
    reason: str = ""
    subscription: SubscriptionVersion | None = None

    @classmethod
    def of(cls, plan: Plan, *, now: datetime, retry: RetryPolicy, deadline: timedelta) -> Delivery:
        """The delivery that a plan becomes at ``now``; ``retry`` and ``deadline`` apply where the plan has none."""
        policy, due_at = plan.retry or retry, plan.due(now)
        return cls(
            id=plan.id,
            operation=plan.operation,
            callback=plan.callback,
            method=plan.method,
            url=plan.destination.url,
            origin=plan.destination.origin,
            headers=plan.headers,
            body=plan.body,
            created_at=now,
            due_at=due_at,
            expires_at=None if policy.max_age is None else due_at + policy.max_age,
            retry=policy,
            deadline=plan.deadline if plan.deadline is not None else deadline,
            dedupe=plan.dedupe,
            tags=plan.tags,
        )

    @classmethod
    def notified(cls, notification: Notification, subscription: Subscription) -> Delivery:
        """The delivery that a notification becomes, sent where its subscription says at this moment."""
        policy = subscription.retry
        return cls(
            id=notification.id,
            operation=subscription.operation,
            callback=subscription.callback,
            method=subscription.method,
            url=subscription.url,
            origin=subscription.origin,
            headers=(*notification.headers, *subscription.headers),
            body=notification.body,
            created_at=notification.created_at,
            due_at=notification.due_at,
            expires_at=None if policy.max_age is None else notification.due_at + policy.max_age,
            retry=policy,
            deadline=subscription.deadline,
            dedupe=notification.dedupe,
            tags={**subscription.tags, **notification.tags},
            subscription=subscription.version,
        )


class Fence(NamedTuple):
    """One claim on one delivery. It rises at every claim, so that a stalled worker's late result is told apart."""

    delivery: UUID
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker alone may attempt until its lease ends.

    Attributes:
        newcomer: Its receiver has never accepted anything.
    """

    fence: Fence
    delivery: Delivery
    newcomer: bool = False

    @property
    def attempt(self) -> int:
        """The number of the attempt that this claim is for, from 1."""
        return self.delivery.attempts + 1


@dataclass(frozen=True, slots=True)
class Delivered:
    """Terminal: the receiver has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Due again after this long, and why."""

    after: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """Terminal: given up, and why.

    Attributes:
        gone: The receiver wants to hear no more of it: what it subscribed ends too.
    """

    reason: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """Handed back unattempted; due again after this long, and the attempt is not counted."""

    after: timedelta = timedelta()


Verdict: TypeAlias = Delivered | Retry | Dead | Released


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a claim. It applies only if its fence is still the delivery's newest."""

    fence: Fence
    verdict: Verdict
    attempt: Attempt | None = None

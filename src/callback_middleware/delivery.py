"""A delivery: one notification owed to one receiver, and everything that may become of it.

Five states are stored. "Scheduled" and "retrying" are no states: they are a pending delivery's ``due_at`` and
number of attempts. :data:`TRANSITIONS` is the only place that says which state follows which; an event that
it does not list raises :class:`IllegalTransition` and nothing else happens.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from callback_middleware.errors import OutboxError
from callback_middleware.planning import Plan
from callback_middleware.retry import RetryPolicy

Origin: TypeAlias = str
"""Scheme, host and port as ``https://host:443``: what receivers are told apart by."""

DEADLINE: Final = timedelta(seconds=15)
"""Bounds one attempt as a whole, where nobody says otherwise."""


class State(enum.StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (State.DELIVERED, State.DEAD, State.CANCELLED)


class Event(enum.StrEnum):
    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    RELEASE = "release"
    GIVE_UP = "give up"
    LEASE_EXPIRED = "lease expired"
    CANCEL = "cancel"
    REPLAY = "replay"


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.PENDING: {Event.CLAIM: State.SENDING, Event.CANCEL: State.CANCELLED, Event.GIVE_UP: State.DEAD},
    State.SENDING: {
        Event.SUCCEED: State.DELIVERED,
        Event.RETRY: State.PENDING,
        Event.RELEASE: State.PENDING,
        Event.GIVE_UP: State.DEAD,
        Event.LEASE_EXPIRED: State.PENDING,
        Event.CANCEL: State.CANCELLED,
    },
    State.DELIVERED: {Event.REPLAY: State.PENDING},
    State.DEAD: {Event.REPLAY: State.PENDING},
    State.CANCELLED: {Event.REPLAY: State.PENDING},
}


class IllegalTransition(OutboxError):
    """A delivery was asked to move in a way that :data:`TRANSITIONS` does not list."""

    def __init__(self, state: State, event: Event) -> None:
        self.state = state
        self.event = event
        super().__init__(f"a delivery that is {state} cannot {event}")


def advance(state: State, event: Event) -> State:
    """The state that follows. Raises :class:`IllegalTransition` where the table lists none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None


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
        dedupe: At most one delivery per callback and key in 24 hours, or None.
        tags: Searchable by operators.
        run: 1, and one more for every replay.
        attempts: Attempts settled in this run.
        expires_at: No attempt starts after this; None for never.
        reason: Why it is dead, or why its last attempt failed; else empty.
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


class Fence(NamedTuple):
    """One claim on one delivery. It rises at every claim, so that a stalled worker's late result is told apart."""

    delivery: UUID
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker alone may attempt until its lease ends."""

    fence: Fence
    delivery: Delivery

    @property
    def attempt(self) -> int:
        """The number of the attempt that this claim is for, from 1."""
        return self.delivery.attempts + 1


class Phase(enum.StrEnum):
    """How far an attempt came."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    HEADERS = "headers"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class AttemptRequest:
    """What one attempt puts on the wire. ``url`` is sent as it stands, never normalised again."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: raw, undecoded, and of the body no more than the sender's cap."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    truncated: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver answered 2xx."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Rejected:
    """The receiver answered something else; a redirect is never followed."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer: the name, the connection, TLS or HTTP failed."""

    phase: Phase
    detail: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt's deadline passed."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Blocked:
    """The egress policy refused the address, at connecting."""

    rule: str
    how_to_allow: str


Outcome: TypeAlias = Accepted | Rejected | Unreachable | TimedOut | Blocked


def outcome_of(answer: Answer) -> Accepted | Rejected:
    """What an answer means: 2xx accepts, everything else (3xx too) rejects."""
    return Accepted(answer) if 200 <= answer.status < 300 else Rejected(answer)  # noqa: PLR2004 - RFC 9110, 15.3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try, as operators see it."""

    delivery: UUID
    run: int
    number: int
    started_at: datetime
    duration: timedelta
    outcome: Outcome


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
    """Terminal: given up, and why."""

    reason: str


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

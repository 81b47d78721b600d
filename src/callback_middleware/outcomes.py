"""What one attempt puts on the wire, and what it comes to: values, because a receiver that fails is no exception."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID


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


class AddressBusy(Exception):
    """There was no attempt, and so there is no outcome: enough are under way to that address, or it wants no more now.

    Nobody failed, and none of the delivery's attempts is charged.

    Attributes:
        after: When it makes sense to try again.
    """

    def __init__(self, after: timedelta) -> None:
        self.after = after
        super().__init__(f"enough attempts are under way to this address: try again in {after.total_seconds():g} s")


def outcome_of(answer: Answer) -> Accepted | Rejected:
    """What an answer means: 2xx accepts, everything else (3xx too) rejects."""
    return Accepted(answer) if 200 <= answer.status < 300 else Rejected(answer)  # noqa: PLR2004 - RFC 9110, 15.3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try, as operators see it.

    Attributes:
        delivery: What was tried to be delivered.
        run: Of the delivery.
        number: In its run, from 1.
        started_at: Aware.
        duration: From then until there was an outcome.
        outcome: What it came to.
        mismatch: How an answer that accepts differs from what the callback declares, in a sentence without a word of
            the receiver's; empty where it does not, or nothing is declared. It changes nothing.
    """

    delivery: UUID
    run: int
    number: int
    started_at: datetime
    duration: timedelta
    outcome: Outcome
    mismatch: str = ""

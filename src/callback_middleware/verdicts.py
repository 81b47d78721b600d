"""What follows an attempt: from an outcome to a verdict, in pure functions.

====================================================  =====================================================
outcome                                               verdict
====================================================  =====================================================
2xx                                                   delivered
410, and what ``give_up_on`` lists                    dead at once
429, 502, 503, 504 and every other answer             retried on the schedule, not before ``Retry-After``
no answer: name, connection, TLS, HTTP, deadline      retried on the schedule
address refused, though the URL's text is allowed     retried on the schedule: the name may resolve well again
URL refused by its text                               dead at once
====================================================  =====================================================
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, assert_never

from callback_middleware.delivery import Dead, Delivered, Delivery, Retry, Verdict
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import EgressRefused
from callback_middleware.outcomes import Accepted, Blocked, Outcome, Rejected, TimedOut, Unreachable
from callback_middleware.retry import parse_retry_after

EXPIRED: Final = Dead("expired")
"""The verdict on a delivery whose age is beyond its policy's maximum."""

KILLED_ITS_WORKER: Final = Dead("killed its worker")
"""The verdict on a delivery that was claimed over and over by workers that were never heard of again."""

SUSPICIONS: Final = 5
"""An outbox hands a suspect out fewer times than this; the claim that would be this one settles it dead instead."""

_GONE: Final = 410


def verdict(delivery: Delivery, outcome: Outcome, *, egress: EgressPolicy, now: datetime, chance: float) -> Verdict:
    """What follows an attempt that has just ended.

    Args:
        delivery: As it was claimed: its ``attempts`` leave this one out.
        outcome: What the attempt came to.
        egress: Asked about the URL's text where an address was refused.
        now: Aware; when the attempt ended.
        chance: From 0 to 1; spreads the waits.
    """
    match outcome:
        case Accepted():
            return Delivered()
        case Rejected(answer):
            # A receiver that says Gone never wants to hear of it again (RFC 9110, 15.5.11).
            gone = answer.status == _GONE
            if gone or answer.status in delivery.retry.give_up_on:
                return Dead(describe(outcome), gone=gone)
        case Blocked():
            if not _allows(egress, delivery.url):
                return Dead(describe(outcome))
        case Unreachable() | TimedOut():
            pass
        case _:
            assert_never(outcome)
    attempts = delivery.attempts + 1
    left = None if delivery.expires_at is None else delivery.expires_at - now
    wait = delivery.retry.wait(attempts, chance=chance, asked=asked_wait(outcome, now=now), left=left)
    if wait is not None:
        return Retry(wait, describe(outcome))
    if attempts < delivery.retry.attempts:
        return EXPIRED
    return Dead(f"gave up after {attempts} {'attempt' if attempts == 1 else 'attempts'}: {describe(outcome)}")


def asked_wait(outcome: Outcome, *, now: datetime) -> timedelta | None:
    """What a receiver that did not accept asks for by ``Retry-After`` (RFC 9110, 10.2.3); None for nothing."""
    value = outcome.answer.header("retry-after") if isinstance(outcome, Rejected) else None
    return None if value is None else parse_retry_after(value, now=now)


def expired(delivery: Delivery, now: datetime) -> bool:
    """Whether it is too late for another attempt."""
    return delivery.expires_at is not None and now > delivery.expires_at


def describe(outcome: Outcome) -> str:
    """An outcome in one phrase, without a word that the receiver chose."""
    match outcome:
        case Accepted(answer) | Rejected(answer):
            return f"the receiver answered {answer.status}"
        case Unreachable(phase, detail):
            return f"the receiver could not be reached ({phase}: {detail})"
        case TimedOut(phase):
            return f"the deadline passed ({phase})"
        case Blocked(rule, _):
            return f"the destination was refused: {rule}"
        case _:
            assert_never(outcome)


def _allows(egress: EgressPolicy, url: str) -> bool:
    try:
        egress.check_url(url)
    except EgressRefused:
        return False
    return True

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.delivery import Dead, Delivered, Delivery, Retry, Verdict
from callback_middleware.egress import EgressPolicy
from callback_middleware.outcomes import (
    Accepted,
    Answer,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
    Unreachable,
    outcome_of,
)
from callback_middleware.retry import RetryPolicy
from callback_middleware.verdicts import EXPIRED, describe, expired, verdict

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

DELIVERY = Delivery(
    id=UUID(int=1),
    operation="POST /invoices/",
    callback="invoice_notification",
    method="POST",
    url="https://receiver.example/events",
    origin="https://receiver.example:443",
    created_at=NOW,
    due_at=NOW,
    retry=RetryPolicy.fixed(60, 3600, jitter=0),
    deadline=timedelta(seconds=15),
)
REFUSED = Blocked("10.0.0.1 is not global: private", "EgressPolicy(…)")


def decide(outcome: Outcome, delivery: Delivery = DELIVERY) -> Verdict:
    return verdict(delivery, outcome, egress=EgressPolicy(), now=NOW, chance=0.5)


def rejected(status: int, *headers: tuple[str, str]) -> Rejected:
    return Rejected(Answer(status, headers))


@given(st.integers(200, 299))
def test_2xx_is_delivered(status: int) -> None:
    assert decide(Accepted(Answer(status))) == Delivered()


def test_410_is_dead_at_once() -> None:
    assert decide(rejected(410)) == Dead("the receiver answered 410", gone=True)


@given(st.integers(300, 599).filter(lambda status: status != 410))
def test_every_other_answer_is_retried_on_the_schedule(status: int) -> None:
    assert decide(rejected(status)) == Retry(MINUTE, f"the receiver answered {status}")


def test_what_the_policy_gives_up_on_is_dead_at_once() -> None:
    delivery = replace(DELIVERY, retry=RetryPolicy(give_up_on=frozenset({404})))

    assert decide(rejected(404), delivery) == Dead("the receiver answered 404")
    assert isinstance(decide(rejected(405), delivery), Retry)


def test_giving_up_does_not_wait_for_what_the_receiver_asks() -> None:
    delivery = replace(DELIVERY, retry=RetryPolicy(give_up_on=frozenset({404, 503})))

    for status in (404, 410, 503):
        assert isinstance(decide(rejected(status, ("Retry-After", "1800")), delivery), Dead)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_wherever_it_leads(status: int) -> None:
    outcome = outcome_of(Answer(status, (("location", "https://receiver.example/moved"),)))

    assert decide(outcome) == Retry(MINUTE, f"the receiver answered {status}")


@pytest.mark.parametrize("status", [429, 502, 503, 504, 302, 500, 400])
def test_retry_after_is_honoured_on_every_answer_that_is_retried(status: int) -> None:
    assert decide(rejected(status, ("Retry-After", "1800"))) == Retry(30 * MINUTE, f"the receiver answered {status}")


def test_retry_after_may_be_a_date() -> None:
    asked = ("retry-after", "Tue, 01 Jan 2030 00:20:00 GMT")

    assert decide(rejected(503, asked)) == Retry(20 * MINUTE, "the receiver answered 503")


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_nothing_is_sent_before_retry_after(chance: float) -> None:
    spread = replace(DELIVERY, retry=RetryPolicy.fixed(60, 3600, jitter=0.5))

    decided = verdict(spread, rejected(429, ("retry-after", "120")), egress=EgressPolicy(), now=NOW, chance=chance)

    assert isinstance(decided, Retry)
    assert decided.after >= 2 * MINUTE


def test_a_retry_after_that_is_sooner_than_the_schedule_changes_nothing() -> None:
    assert decide(rejected(503, ("retry-after", "1"))) == Retry(MINUTE, "the receiver answered 503")


def test_a_retry_after_that_says_nothing_changes_nothing() -> None:
    assert decide(rejected(503, ("retry-after", "soon"))) == Retry(MINUTE, "the receiver answered 503")


@pytest.mark.parametrize("phase", Phase)
def test_whatever_fails_on_the_way_is_retried_and_names_its_phase(phase: Phase) -> None:
    for outcome in (Unreachable(phase, "it failed"), TimedOut(phase)):
        decided = decide(outcome)
        assert isinstance(decided, Retry)
        assert decided.after == MINUTE
        assert f"({phase}" in decided.reason


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (
            Unreachable(Phase.TLS, "the certificate has expired"),
            "could not be reached (tls: the certificate has expired)",
        ),
        (TimedOut(Phase.HEADERS), "the deadline passed (headers)"),
        (REFUSED, "was refused: 10.0.0.1 is not global: private"),
    ],
)
def test_no_answer_is_retried_and_says_how_far_it_came(outcome: Outcome, why: str) -> None:
    decided = decide(outcome)

    assert isinstance(decided, Retry)
    assert decided.after == MINUTE
    assert decided.reason.endswith(why)


def test_a_url_that_is_refused_by_its_text_is_dead_at_once() -> None:
    delivery = replace(DELIVERY, url="http://receiver.example/events")

    assert decide(REFUSED, delivery) == Dead("the destination was refused: 10.0.0.1 is not global: private")


def test_attempts_before_this_one_move_along_the_schedule() -> None:
    assert decide(rejected(500), replace(DELIVERY, attempts=1)) == Retry(HOUR, "the receiver answered 500")


def test_the_last_attempt_gives_up_and_says_why() -> None:
    assert decide(rejected(500), replace(DELIVERY, attempts=2)) == Dead(
        "gave up after 3 attempts: the receiver answered 500"
    )


def test_one_attempt_is_counted_in_the_singular() -> None:
    delivery = replace(DELIVERY, retry=RetryPolicy.fixed())

    assert decide(TimedOut(Phase.CONNECT), delivery) == Dead("gave up after 1 attempt: the deadline passed (connect)")


def test_who_would_be_tried_after_its_age_is_expired() -> None:
    assert decide(rejected(500), replace(DELIVERY, expires_at=NOW + MINUTE / 2)) == EXPIRED
    assert isinstance(decide(rejected(500), replace(DELIVERY, expires_at=NOW + MINUTE)), Retry)


def test_expired_is_after_the_moment_and_not_at_it() -> None:
    delivery = replace(DELIVERY, expires_at=NOW)

    assert not expired(delivery, NOW)
    assert expired(delivery, NOW + timedelta.resolution)
    assert not expired(DELIVERY, datetime.max.replace(tzinfo=UTC))


def test_a_description_repeats_nothing_that_the_receiver_chose() -> None:
    answer = Answer(503, (("x-secret", "hush"),), b"hush")

    assert describe(Rejected(answer)) == describe(Rejected(Answer(503))) == "the receiver answered 503"

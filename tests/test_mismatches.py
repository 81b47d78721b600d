"""What is asked of a declaration, and what comes of one that cannot be asked."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callback_middleware.delivery import Delivery
from callback_middleware.dispatcher.mismatches import Mismatches
from callback_middleware.outcomes import Accepted, Answer, Outcome, Phase, Rejected, TimedOut
from callback_middleware.responses import AnswerCheck
from callback_middleware.retry import RetryPolicy

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DELIVERY = Delivery(
    id=UUID(int=1),
    operation="POST /invoices/",
    callback="paid",
    method="POST",
    url="https://receiver.example/",
    origin="https://receiver.example:443",
    created_at=NOW,
    due_at=NOW,
    retry=RetryPolicy(),
    deadline=timedelta(seconds=15),
)


class Asked:
    """A check that remembers what it was asked, and says the same of everything."""

    def __init__(self, says: str | None = None) -> None:
        self.says = says
        self.asked: list[tuple[int, str | None, bytes | None]] = []

    def __call__(self, status: int, media_type: str | None, body: bytes | None) -> str | None:
        self.asked.append((status, media_type, body))
        return self.says


def accepted(body: bytes = b"{}", *headers: tuple[str, str], truncated: bool = False) -> Accepted:
    return Accepted(Answer(200, headers, body, truncated=truncated))


def test_an_answer_that_accepts_is_asked_about_as_it_came() -> None:
    check = Asked("differs")
    assert Mismatches(lambda _: check).find(DELIVERY, accepted(b"{}", ("Content-Type", "a/b; c=d"))) == "differs"
    assert check.asked == [(200, "a/b; c=d", b"{}")]
    assert Mismatches(lambda _: Asked()).find(DELIVERY, accepted()) == ""


@pytest.mark.parametrize("outcome", [Rejected(Answer(500)), Rejected(Answer(302)), TimedOut(Phase.BODY)])
def test_no_other_outcome_is_asked_about(outcome: Outcome) -> None:
    check = Asked("differs")
    assert Mismatches(lambda _: check).find(DELIVERY, outcome) == ""
    assert check.asked == []


def test_where_nobody_knows_what_is_declared_nothing_differs() -> None:
    assert Mismatches().find(DELIVERY, accepted()) == ""
    assert Mismatches(lambda _: None).find(DELIVERY, accepted()) == ""


@pytest.mark.parametrize(
    ("outcome", "known"),
    [
        (accepted(truncated=True), False),
        (accepted(b"{}", ("content-encoding", "gzip")), False),
        (accepted(b"{}", ("content-encoding", "Identity ")), True),
        (accepted(), True),
    ],
)
def test_a_body_that_is_not_there_as_it_was_sent_is_not_known(outcome: Accepted, *, known: bool) -> None:
    check = Asked()
    Mismatches(lambda _: check).find(DELIVERY, outcome)
    assert check.asked == [(200, None, b"{}" if known else None)]


def test_an_answer_to_head_has_no_body_to_know() -> None:
    check = Asked()
    Mismatches(lambda _: check).find(replace(DELIVERY, method="HEAD"), accepted(b""))
    assert check.asked == [(200, None, None)]


def broken(status: int, media_type: str | None, body: bytes | None) -> str | None:
    raise KeyError(body)


def test_a_check_that_raises_is_told_once_without_what_the_receiver_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    mismatches = Mismatches(lambda _: broken)
    for _ in range(2):
        assert mismatches.find(DELIVERY, accepted(b"hunter2")) == ""
    mismatches.find(replace(DELIVERY, callback="other"), accepted())
    assert [record.getMessage() for record in caplog.records] == [
        f"what receivers answer to {name} of POST /invoices/ is not checked: the check raised KeyError"
        for name in ("paid", "other")
    ]
    assert "hunter2" not in caplog.text


def test_who_looks_closely_sees_where_a_check_raised(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "callback_middleware")

    def lookup(delivery: Delivery) -> AnswerCheck:
        raise LookupError("no such thing")

    assert Mismatches(lookup).find(DELIVERY, accepted()) == ""
    assert "no such thing" in caplog.text

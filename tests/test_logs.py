from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.instrumentation.logs import LoggingObserver
from callback_middleware.outcomes import Answer, Attempt, Outcome, Phase, Rejected, Unreachable
from callback_middleware.planning import Skip
from callback_middleware.ports import Batch, Observer
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing import VirtualClock
from callback_middleware.values import Reason

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ID = "01890000-0000-7000-8000-000000000001"
DELIVERY = Delivery(
    id=UUID(ID),
    operation="POST /invoices/",
    callback="invoice_notification",
    method="POST",
    url="https://receiver.example/hidden-path?token=hidden-query",
    origin="https://receiver.example:443",
    headers=(("authorization", "hidden-header"),),
    body=b"hidden-body",
    created_at=NOW,
    due_at=NOW + timedelta(minutes=1),
    retry=RetryPolicy(),
    deadline=timedelta(seconds=15),
    dedupe="hidden-key",
    tags={"tenant": "hidden-tag"},
)
NAME = f"delivery {ID} (invoice_notification to https://receiver.example:443)"


@pytest.fixture
def observer(caplog: pytest.LogCaptureFixture) -> Observer:
    caplog.set_level(logging.DEBUG, "callback_middleware")
    return LoggingObserver(clock=VirtualClock(NOW))


def attempt(outcome: Outcome) -> Attempt:
    return Attempt(DELIVERY.id, 1, 2, NOW, timedelta(milliseconds=1234), outcome)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_put_names_the_delivery_and_when_it_is_due(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.put(Batch([DELIVERY]))

    assert told(caplog) == [("DEBUG", f"{NAME} is stored, and due 2030-01-01T00:01:00+00:00")]


def test_delivered_says_at_which_attempt(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.settled(replace(DELIVERY, attempts=2), Delivered())

    assert told(caplog) == [("INFO", f"{NAME} is delivered, at attempt 3")]


@pytest.mark.parametrize(("before", "level"), [(0, "INFO"), (1, "WARNING"), (8, "WARNING")])
def test_a_failure_says_why_and_when_the_next_attempt_is(
    observer: Observer, caplog: pytest.LogCaptureFixture, before: int, level: str
) -> None:
    observer.settled(replace(DELIVERY, attempts=before), Retry(timedelta(seconds=300.4), "the receiver answered 503"))

    assert told(caplog) == [
        (
            level,
            (
                f"attempt {before + 1} of 10 of {NAME} failed: the receiver answered 503; "
                "the next is at 2030-01-01T00:05:00+00:00, in 0:05:00"
            ),
        )
    ]


def test_dead_is_an_error_with_its_reason(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.settled(DELIVERY, Dead("the receiver answered 410"))

    assert told(caplog) == [("ERROR", f"{NAME} is dead and will not be sent: the receiver answered 410")]


def test_what_is_handed_back_is_told_for_who_looks_closely(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    observer.settled(DELIVERY, Released())

    assert told(caplog) == [("DEBUG", f"{NAME} is handed back unattempted, due in 0:00:00")]


def test_an_attempt_is_told_with_its_number_duration_and_outcome(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    observer.attempted(DELIVERY, attempt(Unreachable(Phase.TLS, "the certificate has expired")))

    assert told(caplog) == [
        (
            "DEBUG",
            f"attempt 2 of {NAME} took 1.234 s: the receiver could not be reached (tls: the certificate has expired)",
        )
    ]


@pytest.mark.parametrize("reason", Reason)
def test_a_skip_is_a_warning_unless_somebody_decided_it(
    observer: Observer, caplog: pytest.LogCaptureFixture, reason: Reason
) -> None:
    observer.skipped(Skip("POST /invoices/", "invoice_notification", reason, "no such field", id=DELIVERY.id))

    decided = {
        Reason.NOT_REQUESTED: "DEBUG",
        Reason.STATUS: "INFO",
        Reason.DUPLICATE: "INFO",
        Reason.NOBODY_SUBSCRIBED: "INFO",
    }
    level = decided.get(reason, "WARNING")
    assert told(caplog) == [
        (level, f"callback invoice_notification of POST /invoices/ is not sent: {reason} (no such field) [{ID}]")
    ]


def test_what_was_lost_is_told_loudly_one_by_one(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.lost(Batch([DELIVERY, replace(DELIVERY, id=UUID(int=2))]), OutboxUnavailable("disk full"))

    lines = told(caplog)
    assert {level for level, _ in lines} == {"ERROR"}
    assert lines[0][1].startswith("CALLBACKS LOST")
    assert "OutboxUnavailable: disk full" in lines[0][1]
    assert lines[1][1] == f"lost: {NAME}, from POST /invoices/"
    assert str(UUID(int=2)) in lines[2][1]


HOSTILE = "\x1b[2J\r\nfake line\u202e" + "x" * 1000


def test_what_strangers_chose_is_escaped_and_cut(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    hostile = replace(DELIVERY, callback=HOSTILE, origin=HOSTILE, operation=HOSTILE)

    observer.put(Batch([hostile]))
    observer.skipped(Skip(HOSTILE, HOSTILE, Reason.REFUSED, HOSTILE))
    observer.lost(Batch([hostile]), OutboxUnavailable(HOSTILE))
    observer.attempted(hostile, attempt(Unreachable(Phase.SEND, HOSTILE)))
    for verdict in (Delivered(), Retry(timedelta(), HOSTILE), Dead(HOSTILE), Released()):
        observer.settled(hostile, verdict)

    for _, line in told(caplog):
        assert line.isascii()
        assert line.isprintable()
        assert "x" * 257 not in line


def test_nothing_private_is_told_at_any_level(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.put(Batch([DELIVERY]))
    observer.lost(Batch([DELIVERY]), OutboxUnavailable("down"))
    observer.attempted(DELIVERY, attempt(Rejected(Answer(500, (("x", "hidden-answer"),), b"hidden-answer"))))
    for verdict in (Delivered(), Retry(timedelta()), Dead("expired"), Released()):
        observer.settled(DELIVERY, verdict)

    assert "hidden" not in caplog.text


def test_a_quoted_detail_keeps_its_own_quotes(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.settled(DELIVERY, Dead("""it's "quoted\""""))

    assert told(caplog)[0][1].endswith("""will not be sent: it\\'s "quoted\"""")


def test_another_logger_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")

    LoggingObserver(logger=logging.getLogger("mine")).settled(DELIVERY, Delivered())

    assert [record.name for record in caplog.records] == ["mine"]

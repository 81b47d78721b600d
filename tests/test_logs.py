from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry
from callback_middleware.errors import OutboxUnavailable, SubscriptionExists
from callback_middleware.instrumentation.logs import LoggingObserver
from callback_middleware.outcomes import Accepted, Answer, Attempt, Outcome, Phase, Rejected, Unreachable
from callback_middleware.planning import Skip, Verb
from callback_middleware.ports import Batch, Observer
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey
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


SUBSCRIPTION = Subscription(
    key=SubscriptionKey("invoice_paid", "7", "hidden-owner"),
    operation="POST /invoices/",
    method="POST",
    url="https://receiver.example/hidden-path?token=hidden-query",
    origin="https://receiver.example:443",
    headers=(("authorization", "hidden-header"),),
    created_at=NOW,
    retry=RetryPolicy(),
    deadline=timedelta(seconds=15),
    tags={"tenant": "hidden-tag"},
)
NOTIFICATION = Notification(
    id=UUID(ID),
    key=SUBSCRIPTION.key,
    body=b"hidden-body",
    created_at=NOW,
    due_at=NOW + timedelta(minutes=1),
    dedupe="hidden-key",
    tags={"tenant": "hidden-tag"},
)
EVERYTHING = Batch([DELIVERY], [SUBSCRIPTION], [NOTIFICATION], [SUBSCRIPTION.key])


@pytest.fixture
def observer(caplog: pytest.LogCaptureFixture) -> Observer:
    caplog.set_level(logging.DEBUG, "callback_middleware")
    return LoggingObserver(clock=VirtualClock(NOW))


def attempt(outcome: Outcome, mismatch: str = "") -> Attempt:
    return Attempt(DELIVERY.id, 1, 2, NOW, timedelta(milliseconds=1234), outcome, mismatch)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_put_names_the_delivery_and_when_it_is_due(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.put(Batch([DELIVERY]))

    assert told(caplog) == [("DEBUG", f"{NAME} is stored, and due 2030-01-01T00:01:00+00:00")]


def test_put_names_subscriptions_notifications_and_ends(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    lasting = replace(SUBSCRIPTION, expires_at=NOW + timedelta(days=1))
    observer.put(Batch(subscribe=[SUBSCRIPTION, lasting], notify=[NOTIFICATION], end=[SUBSCRIPTION.key]))

    key = "subscription of the key '7' of callback invoice_paid"
    assert told(caplog) == [
        ("DEBUG", f"{key} to https://receiver.example:443 is stored, until it is ended"),
        ("DEBUG", f"{key} to https://receiver.example:443 is stored, until 2030-01-02T00:00:00+00:00"),
        ("DEBUG", f"delivery {ID} (to the {key}) is stored, and due 2030-01-01T00:01:00+00:00"),
        ("DEBUG", f"{key} is over"),
    ]


def test_nothing_is_spelled_out_for_a_level_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")

    LoggingObserver().put(EVERYTHING)

    assert told(caplog) == []


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


def test_an_answer_that_is_not_the_declared_one_is_told_whoever_reads(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")

    observer.attempted(DELIVERY, attempt(Accepted(Answer(202)), "answered 202; declared: 200"))
    observer.attempted(DELIVERY, attempt(Accepted(Answer(200))))

    assert told(caplog) == [
        (
            "INFO",
            f"attempt 2 of {NAME} is accepted, though not as its callback declares: answered 202; declared: 200",
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


@pytest.mark.parametrize(
    ("verb", "done"),
    [
        (Verb.SEND, "sent"),
        (Verb.SUBSCRIBE, "subscribed"),
        (Verb.NOTIFY, "notified"),
        (Verb.UNSUBSCRIBE, "unsubscribed"),
    ],
)
def test_a_skip_says_what_is_not_done(
    observer: Observer, caplog: pytest.LogCaptureFixture, verb: Verb, done: str
) -> None:
    observer.skipped(Skip("POST /invoices/", "invoice_paid", Reason.REFUSED, verb=verb))

    assert told(caplog) == [("WARNING", f"callback invoice_paid of POST /invoices/ is not {done}: refused")]


def test_what_was_lost_is_told_loudly_one_by_one(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.lost(Batch([DELIVERY, replace(DELIVERY, id=UUID(int=2))]), OutboxUnavailable("disk full"))

    lines = told(caplog)
    assert {level for level, _ in lines} == {"ERROR"}
    assert lines[0][1].startswith("CALLBACKS LOST")
    assert "OutboxUnavailable: disk full" in lines[0][1]
    assert lines[1][1] == f"lost: {NAME}, from POST /invoices/"
    assert str(UUID(int=2)) in lines[2][1]


def test_everything_that_was_lost_is_told(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.lost(EVERYTHING, OutboxUnavailable("disk full"))

    key = "subscription of the key '7' of callback invoice_paid"
    assert [line for _, line in told(caplog)] == [
        "CALLBACKS LOST, as far as the outbox says: it did not store 4 (OutboxUnavailable: disk full)",
        f"lost: {NAME}, from POST /invoices/",
        f"lost: {key} to https://receiver.example:443, from POST /invoices/",
        f"lost: delivery {ID} (to the {key})",
        f"lost: end of the {key}",
    ]
    assert {level for level, _ in told(caplog)} == {"ERROR"}


def test_a_key_that_is_anothers_wakes_nobody_up(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.lost(
        Batch(subscribe=[SUBSCRIPTION]), SubscriptionExists("the key '7' of the callback invoice_paid is taken")
    )

    assert told(caplog) == [
        ("WARNING", "what a request staged is not stored (1): the key '7' of the callback invoice_paid is taken"),
        (
            "WARNING",
            (
                "not stored: subscription of the key '7' of callback invoice_paid to https://receiver.example:443, "
                "from POST /invoices/"
            ),
        ),
    ]


HOSTILE = "\x1b[2J\r\nfake line\u202e" + "x" * 1000


def test_what_strangers_chose_is_escaped_and_cut(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    hostile = replace(DELIVERY, callback=HOSTILE, origin=HOSTILE, operation=HOSTILE)

    key = SubscriptionKey(HOSTILE, HOSTILE, HOSTILE)
    subscription = replace(SUBSCRIPTION, key=key, origin=HOSTILE, operation=HOSTILE)
    batch = Batch([hostile], [subscription], [replace(NOTIFICATION, key=key)], [key])

    observer.put(batch)
    observer.skipped(Skip(HOSTILE, HOSTILE, Reason.REFUSED, HOSTILE))
    observer.lost(batch, OutboxUnavailable(HOSTILE))
    observer.lost(batch, SubscriptionExists(HOSTILE))
    observer.attempted(hostile, attempt(Unreachable(Phase.SEND, HOSTILE)))
    observer.attempted(hostile, attempt(Accepted(Answer(200)), HOSTILE))
    for verdict in (Delivered(), Retry(timedelta(), HOSTILE), Dead(HOSTILE), Released()):
        observer.settled(hostile, verdict)

    for _, line in told(caplog):
        assert line.isascii()
        assert line.isprintable()
        assert "x" * 257 not in line


def test_nothing_private_is_told_at_any_level(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.put(EVERYTHING)
    observer.lost(EVERYTHING, OutboxUnavailable("down"))
    observer.lost(EVERYTHING, SubscriptionExists("taken"))
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

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey, SubscriptionVersion

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

SUBSCRIPTION = Subscription(
    key=SubscriptionKey("paid", "invoice 7", "alice"),
    operation="POST /invoices/",
    method="POST",
    url="https://here.example/",
    origin="https://here.example:443",
    headers=(("x-invoice", "7"),),
    created_at=START,
    retry=RetryPolicy(max_age=HOUR),
    deadline=DEADLINE / 2,
    tags={"tenant": "7", "from": "subscription"},
    generation=3,
)

NOTIFICATION = Notification(
    id=UUID(int=1),
    key=SUBSCRIPTION.key,
    body=b"{}",
    headers=(("content-type", "application/json"),),
    created_at=START + HOUR,
    due_at=START + 2 * HOUR,
    dedupe="paid",
    tags={"from": "notification", "invoice": "7"},
)


def test_it_is_there_until_it_expires_and_no_longer() -> None:
    expiring = replace(SUBSCRIPTION, expires_at=START)

    assert not expiring.expired(START - timedelta.resolution)
    assert expiring.expired(START)


def test_one_without_an_end_never_expires() -> None:
    assert not SUBSCRIPTION.expired(datetime.max.replace(tzinfo=UTC))


def test_a_replacement_is_another_version_of_the_same_key() -> None:
    newer = replace(SUBSCRIPTION, url="https://there.example/", generation=4)

    assert SUBSCRIPTION.version == SubscriptionVersion(SUBSCRIPTION.key, 3)
    assert newer.version == SubscriptionVersion(SUBSCRIPTION.key, 4)


def test_it_is_of_the_callback_that_its_key_names() -> None:
    assert SUBSCRIPTION.callback == "paid"


def test_a_notification_becomes_a_delivery_to_what_is_subscribed() -> None:
    assert Delivery.notified(NOTIFICATION, SUBSCRIPTION) == Delivery(
        id=NOTIFICATION.id,
        operation="POST /invoices/",
        callback="paid",
        method="POST",
        url="https://here.example/",
        origin="https://here.example:443",
        headers=(("content-type", "application/json"), ("x-invoice", "7")),
        body=b"{}",
        created_at=START + HOUR,
        due_at=START + 2 * HOUR,
        expires_at=START + 3 * HOUR,
        retry=SUBSCRIPTION.retry,
        deadline=DEADLINE / 2,
        dedupe="paid",
        tags={"tenant": "7", "from": "notification", "invoice": "7"},
        state=State.PENDING,
        run=1,
        attempts=0,
        reason="",
        subscription=SubscriptionVersion(SUBSCRIPTION.key, 3),
    )


def test_a_notification_without_a_maximum_age_never_expires() -> None:
    unhurried = replace(SUBSCRIPTION, retry=RetryPolicy())

    assert Delivery.notified(NOTIFICATION, unhurried).expires_at is None

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import microseconds, origin_key, storable
from callback_middleware.outbox.outcomes import KEPT_OF_A_BODY
from callback_middleware.outbox.records import DELIVERY_COLUMNS, SUBSCRIPTION_COLUMNS
from callback_middleware.outbox.sqlite.outcomes import attempt_of, attempt_row
from callback_middleware.outbox.sqlite.rows import (
    delivery_of,
    delivery_row,
    instant,
    subscription_of,
    subscription_row,
    time_at,
)
from callback_middleware.outcomes import (
    Accepted,
    Answer,
    Attempt,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
    Unreachable,
)
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Subscription, SubscriptionKey, SubscriptionVersion

POLICY: Final = RetryPolicy.fixed(1)

texts: Final = st.text(st.characters(exclude_categories=["Cs"]))
times: Final = st.datetimes(timezones=st.just(UTC))
durations: Final = st.timedeltas(timedelta(), timedelta(days=365))
headers: Final = st.lists(st.tuples(texts, texts)).map(tuple)
tags: Final = st.dictionaries(texts, texts)
keys: Final = st.builds(SubscriptionKey, texts, texts, st.none() | texts)


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    version = draw(st.none() | st.builds(SubscriptionVersion, keys, st.integers(1, 2**62)))
    return Delivery(
        id=draw(st.uuids()),
        operation=draw(texts),
        callback=draw(texts) if version is None else version.key.callback,
        method=draw(texts),
        url=draw(texts),
        origin=draw(texts),
        headers=draw(headers),
        body=draw(st.none() | st.binary()),
        created_at=draw(times),
        due_at=draw(times),
        expires_at=draw(st.none() | times),
        retry=POLICY,
        deadline=draw(durations),
        dedupe=draw(st.none() | texts),
        tags=draw(tags),
        subscription=version,
    )


subscriptions: Final = st.builds(
    Subscription,
    key=keys,
    operation=texts,
    method=texts,
    url=texts,
    origin=texts,
    headers=headers,
    created_at=times,
    expires_at=st.none() | times,
    retry=st.just(POLICY),
    deadline=durations,
    tags=tags,
    generation=st.integers(1, 2**62),
)

# What a receiver, or the system, says may hold what is no character.
anything: Final = st.text(st.characters())
answers: Final = st.builds(
    Answer,
    st.integers(100, 999),
    st.lists(st.tuples(anything, anything)).map(tuple),
    st.binary(max_size=KEPT_OF_A_BODY),
    st.booleans(),
)
outcomes: Final = (
    st.builds(Accepted, answers)
    | st.builds(Rejected, answers)
    | st.builds(Unreachable, st.sampled_from(Phase), anything)
    | st.builds(TimedOut, st.sampled_from(Phase))
    | st.builds(Blocked, anything, anything)
)


def through_sqlite(row: tuple[Any, ...]) -> tuple[Any, ...]:
    with closing(sqlite3.connect(":memory:")) as connection:
        read = connection.execute(f"SELECT {', '.join('?' * len(row))}", row).fetchone()
    assert read == row
    return tuple(read)


@given(deliveries())
def test_a_delivery_comes_back_from_its_row_as_it_was(delivery: Delivery) -> None:
    row = through_sqlite(delivery_row(delivery, 7))

    assert len(row) == len(DELIVERY_COLUMNS)
    assert delivery_of(row, POLICY) == delivery


@given(subscriptions)
def test_a_subscription_comes_back_from_its_row_as_it_was(subscription: Subscription) -> None:
    row = through_sqlite(subscription_row(subscription, 7, subscription.generation))

    assert len(row) == len(SUBSCRIPTION_COLUMNS)
    assert subscription_of(row, POLICY) == subscription


def attempt(outcome: Outcome, started_at: datetime = datetime(2030, 1, 1, tzinfo=UTC), mismatch: str = "") -> Attempt:
    return Attempt(UUID(int=1), 2, 3, started_at, timedelta(microseconds=4), outcome, mismatch)


@given(outcomes, times, texts)
def test_an_attempt_comes_back_from_its_row_as_it_was(outcome: Outcome, started_at: datetime, mismatch: str) -> None:
    before = attempt(outcome, started_at, mismatch)

    row = through_sqlite(attempt_row(9, 4, before))

    assert attempt_of(before.delivery, row) == before


def test_of_a_long_answer_the_beginning_is_kept_and_called_so() -> None:
    row = attempt_row(9, 4, attempt(Rejected(Answer(500, (), b"x" * (KEPT_OF_A_BODY + 1)))))

    assert attempt_of(UUID(int=1), row).outcome == Rejected(Answer(500, (), b"x" * KEPT_OF_A_BODY, truncated=True))


@given(times)
def test_an_instant_is_exact(time: datetime) -> None:
    assert time_at(instant(time)) == time


@given(st.timedeltas(-timedelta(days=365), timedelta(days=365)))
def test_a_duration_is_exact(duration: timedelta) -> None:
    assert timedelta(microseconds=microseconds(duration)) == duration


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    there = datetime(2030, 7, 1, 14, tzinfo=ZoneInfo("Europe/Berlin"))

    assert instant(there) == instant(datetime(2030, 7, 1, 12, tzinfo=UTC))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError, match="naive"):
        instant(datetime(2030, 1, 1))  # noqa: DTZ001 - on purpose


def test_origins_have_keys_of_both_signs() -> None:
    made = [origin_key(f"https://{number}.example:443") for number in range(100)]

    assert len(set(made)) == 100
    assert min(made) < 0 < max(made)


@given(anything)
def test_what_is_storable_stays_and_the_rest_becomes_storable(text: str) -> None:
    stored = storable(text)

    stored.encode()
    assert stored == text or any("\ud800" <= character <= "\udfff" for character in text)


def test_a_delivery_that_changed_says_so() -> None:
    time = datetime(2030, 1, 1, tzinfo=UTC)
    delivery = Delivery(
        id=UUID(int=1),
        operation="POST /",
        callback="event",
        method="POST",
        url="https://here.example/",
        origin="https://here.example:443",
        created_at=time,
        due_at=time,
        retry=POLICY,
        deadline=timedelta(seconds=1),
    )

    changed = delivery_of(delivery_row(delivery, 7), POLICY, due_at=time + timedelta(days=1), attempts=3, run=2)

    assert changed == replace(delivery, due_at=time + timedelta(days=1), attempts=3, run=2)

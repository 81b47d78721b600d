from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.errors import ConfigurationError
from callback_middleware.retry import LONGEST, STANDARD, RetryPolicy, parse_retry_after

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

chances = st.floats(0, 1)
waits = st.timedeltas(timedelta(), LONGEST)
policies = st.builds(
    RetryPolicy,
    waits=st.lists(waits, min_size=1, max_size=12).map(tuple),
    max_attempts=st.none() | st.integers(1, 50),
    max_age=st.none() | waits,
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after=waits,
    give_up_on=st.frozensets(st.integers(300, 599), max_size=4),
)


def test_the_default_is_the_standard_webhooks_schedule() -> None:
    policy = RetryPolicy(jitter=0)

    schedule = [policy.wait(attempts, chance=0.5) for attempts in range(1, 11)]

    seconds = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert schedule == [*(timedelta(seconds=one) for one in seconds), None]
    assert policy.attempts == 10


def test_jitter_spreads_a_wait_by_a_fifth_to_both_sides() -> None:
    policy = RetryPolicy.fixed(100)

    spread = [policy.wait(1, chance=chance) for chance in (0, 0.5, 1)]

    assert spread == [80 * SECOND, 100 * SECOND, 120 * SECOND]


def test_the_last_wait_repeats_while_attempts_are_left() -> None:
    policy = RetryPolicy.fixed(1, 60, max_attempts=5, jitter=0)

    assert [policy.wait(attempts, chance=0) for attempts in range(1, 6)] == [SECOND, MINUTE, MINUTE, MINUTE, None]


def test_fewer_attempts_than_waits_cut_the_schedule() -> None:
    assert RetryPolicy(max_attempts=2).wait(2, chance=0) is None


def test_no_waits_is_one_attempt() -> None:
    assert RetryPolicy.fixed().attempts == 1
    assert RetryPolicy.fixed().wait(1, chance=0) is None


def test_exponential_waits_grow_until_the_longest_and_stay_there() -> None:
    policy = RetryPolicy.exponential(1, factor=3, longest=20, max_attempts=6, jitter=0)

    assert [policy.wait(attempts, chance=0) for attempts in range(1, 7)] == [
        *(seconds * SECOND for seconds in (1, 3, 9, 20, 20)),
        None,
    ]


@given(
    first=st.floats(1e-6, 1e6),
    factor=st.floats(1, 1e300),
    longest=st.floats(1e-6, 1e6),
    max_attempts=st.integers(1, 1000),
)
def test_exponential_waits_never_shrink_and_never_exceed_the_longest(
    first: float, factor: float, longest: float, max_attempts: int
) -> None:
    policy = RetryPolicy.exponential(first, factor=factor, longest=longest, max_attempts=max_attempts)

    assert policy.attempts == max_attempts
    assert all(earlier <= later for earlier, later in pairwise(policy.waits))
    assert max(policy.waits) <= timedelta(seconds=longest)


def test_retry_after_makes_a_wait_longer_and_never_shorter() -> None:
    policy = RetryPolicy.fixed(60, jitter=0)

    assert policy.wait(1, chance=0, asked=HOUR) == HOUR
    assert policy.wait(1, chance=0, asked=SECOND) == MINUTE


def test_jitter_after_retry_after_goes_upward_alone() -> None:
    policy = RetryPolicy.fixed(60)

    assert policy.wait(1, chance=0, asked=HOUR) == HOUR
    assert policy.wait(1, chance=1, asked=HOUR) == HOUR * 1.2


def test_a_long_retry_after_counts_as_the_longest_that_is_obeyed() -> None:
    assert RetryPolicy.fixed(60).wait(1, chance=0, asked=30 * DAY) == DAY


def test_what_would_come_after_the_maximum_age_does_not_come() -> None:
    policy = RetryPolicy.fixed(60)

    assert policy.wait(1, chance=0, left=59 * SECOND) is not None, "jitter made it early enough"
    assert policy.wait(1, chance=0.5, left=59 * SECOND) is None
    assert policy.wait(1, chance=0, asked=HOUR, left=MINUTE) is None


def test_jitter_lets_nothing_expire() -> None:
    assert RetryPolicy.fixed(60).wait(1, chance=1, left=61 * SECOND) == MINUTE


@given(policy=policies, attempts=st.integers(1, 60), chance=chances, asked=st.none() | waits, left=st.none() | waits)
def test_a_wait_keeps_every_bound(
    policy: RetryPolicy, attempts: int, chance: float, asked: timedelta | None, left: timedelta | None
) -> None:
    wait = policy.wait(attempts, chance=chance, asked=asked, left=left)

    if attempts >= policy.attempts:
        assert wait is None
    if wait is not None:
        assert wait >= timedelta()
        assert left is None or wait <= left
        assert asked is None or wait >= min(asked, policy.retry_after)
        assert NOW + wait >= NOW


@given(policies)
def test_a_policy_survives_json(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_dict(json.loads(json.dumps(policy.as_dict()))) == policy


def test_from_dict_takes_what_a_document_says_and_leaves_the_rest() -> None:
    policy = RetryPolicy.from_dict({"waits": [5, 60.5], "max_age": 3600, "give_up_on": [404]})

    assert policy == RetryPolicy(waits=(5 * SECOND, timedelta(seconds=60.5)), max_age=HOUR, give_up_on=frozenset({404}))


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"wait": [5]}, "'wait'"),
        ({"waits": "5"}, "waits"),
        ({"waits": [-1]}, "waits"),
        ({"waits": [None]}, "waits"),
        ({"waits": [True]}, "waits"),
        ({"waits": [1e300]}, "waits"),
        ({"waits": [float("nan")]}, "waits"),
        ({"waits": [1] * 1000}, "waits"),
        ({"waits": [366 * 86400]}, "waits"),
        ({"waits": [], "max_attempts": 2}, "max_attempts"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 1001}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": "a day"}, "max_age"),
        ({"jitter": 1}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": float("nan")}, "jitter"),
        ({"jitter": "0.2"}, "jitter"),
        ({"retry_after": None}, "retry_after"),
        ({"retry_after": []}, "retry_after"),
        ({"give_up_on": 404}, "give_up_on"),
        ({"give_up_on": [200]}, "give_up_on"),
        ({"give_up_on": ["404"]}, "give_up_on"),
        ({"give_up_on": [[404]]}, "give_up_on"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(data: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        RetryPolicy.from_dict(data)


@pytest.mark.parametrize(
    "attributes",
    [
        {"waits": [MINUTE]},
        {"waits": (60,)},
        {"max_age": 60},
        {"retry_after": 60},
        {"give_up_on": [404]},
    ],
)
def test_a_policy_is_immutable_and_exact(attributes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(attributes))):
        RetryPolicy(**attributes)


@pytest.mark.parametrize(
    "arguments",
    [{"first": 0}, {"first": -1}, {"factor": 0.5}, {"factor": float("inf")}, {"factor": float("nan")}, {"longest": -1}],
)
def test_exponential_refuses_what_does_not_grow(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy.exponential(**arguments)


def test_the_standard_schedule_takes_a_little_over_three_days() -> None:
    assert 3 * DAY < sum(STANDARD, timedelta()) < 4 * DAY


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120 * SECOND),
        (" 120 ", 120 * SECOND),
        ("0", timedelta()),
        ("007", 7 * SECOND),
        ("99999999999", LONGEST),
        ("9" * 5000, LONGEST),
        ("Tue, 01 Jan 2030 00:02:00 GMT", 120 * SECOND),
        ("Tuesday, 01-Jan-30 00:02:00 GMT", 120 * SECOND),
        ("Tue Jan  1 00:02:00 2030", 120 * SECOND),
        ("Mon, 31 Dec 2029 23:00:00 GMT", timedelta()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Tue, 99 Jan 2030 00:02:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: timedelta | None) -> None:
    assert parse_retry_after(value, now=NOW) == expected


@given(st.text() | st.from_regex(r"[0-9A-Za-z ,:+-]{0,40}"))
def test_no_retry_after_breaks_anything(value: str) -> None:
    wait = parse_retry_after(value, now=NOW)

    assert wait is None or timedelta() <= wait <= LONGEST


@given(st.datetimes(datetime(2030, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - timezones= says
def test_every_http_date_is_understood(moment: datetime) -> None:
    wait = parse_retry_after(format_datetime(moment, usegmt=True), now=NOW)

    assert wait == moment.replace(microsecond=0) - NOW

"""What a callback may say of its own delivery, from ``@deliver`` and from ``x-callback``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from callback_middleware.errors import ConfigurationError
from callback_middleware.options import (
    UNSET,
    DeliveryOptions,
    Statuses,
    deliver,
    delivery_options,
    from_extension,
    options_of,
)
from callback_middleware.retry import RetryPolicy


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        ("2XX", [200, 204, 299], [199, 300]),
        ("2xx", [201], [301]),
        (201, [201], [200, 202]),
        ("409", [409], [400]),
        (["2XX", 409], [200, 409], [404]),
        ("default", [100, 200, 404, 599], []),
    ],
)
def test_a_pattern_names_statuses(patterns: Any, inside: list[int], outside: list[int]) -> None:
    statuses = Statuses.parse(patterns)
    assert all(status in statuses for status in inside)
    assert not any(status in statuses for status in outside)


@pytest.mark.parametrize("pattern", ["XX", "2X", "20X", "6XX", "0XX", 99, 600, "", "ok", True, 2000, "٢٠٠"])
def test_a_pattern_that_names_no_status_is_refused_and_shown(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match="no status pattern"):
        Statuses.parse(pattern)


def test_no_pattern_at_all_would_never_send() -> None:
    with pytest.raises(ConfigurationError, match="never send"):
        Statuses.parse([])


def test_deliver_leaves_the_function_as_it_is() -> None:
    def callback() -> None: ...

    assert deliver(payload={"a": 1})(callback) is callback
    assert options_of(callback).payload == {"a": 1}


def test_a_function_without_deliver_has_the_defaults() -> None:
    assert options_of(lambda: None) == DeliveryOptions()
    assert options_of(lambda: None).payload is UNSET


def test_none_is_a_payload_like_any_other() -> None:
    assert delivery_options(payload=None).payload is None


def test_durations_are_seconds_or_timedelta() -> None:
    assert delivery_options(delay=1.5).delay == timedelta(seconds=1.5)
    assert delivery_options(deadline=timedelta(seconds=3)).deadline == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay", -1),
        ("delay", "5"),
        ("delay", True),
        ("delay", float("inf")),
        ("delay", float("nan")),
        ("delay", 1e300),
        ("deadline", 0),
        ("dynamic_host", 1),
        ("allow_credentials", "yes"),
        ("headers", {"x": 1}),
        ("headers", ["x"]),
        ("params", {1: "x"}),
        ("retry", 3),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        delivery_options(**{name: value})


def test_the_extension_says_what_deliver_says() -> None:
    policy = RetryPolicy()
    extension = {"payload": {"a": 1}, "on": ["2XX", 409], "delay": 60, "deadline": 5, "retry": policy.as_dict()}
    assert from_extension(extension) == delivery_options(
        payload={"a": 1}, on=["2XX", 409], delay=60, deadline=5, retry=policy
    )


def test_deliver_with_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no 'after': it knows payload, on, delay"):
        deliver(after=3)  # type: ignore[call-arg]


def test_an_extension_with_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no 'payloads': it knows payload, on, delay"):
        from_extension({"payloads": 1})


@pytest.mark.parametrize("value", [None, [], "payload", 1])
def test_an_extension_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be an object"):
        from_extension(value)

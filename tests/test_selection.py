from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.errors import ConfigurationError
from callback_middleware.retry import RetryPolicy
from callback_middleware.selection import Selection
from callback_middleware.states import State

START = datetime(2030, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

DELIVERY = Delivery(
    id=UUID(int=1),
    operation="POST /invoices/",
    callback="paid",
    method="POST",
    url="https://user@Hooks.Example:8443/in/7?for=1",
    origin="https://hooks.example:8443",
    created_at=START,
    due_at=START,
    retry=RetryPolicy(),
    deadline=DEADLINE,
    tags={"tenant": "Acme", "size": "größe"},
    state=State.DEAD,
    reason="gave up after 3 attempts: the receiver answered 503",
)

HOLD: dict[str, Any] = {
    "states": (State.DEAD, State.CANCELLED),
    "callback": "paid",
    "host": "hooks.example",
    "since": START,
    "until": START + MICROSECOND,
    "text": "aCME",
}

DO_NOT_HOLD: dict[str, Any] = {
    "states": (State.PENDING,),
    "callback": "pai",
    "host": "example",
    "since": START + MICROSECOND,
    "until": START,
    "text": "acme corp",
}


def test_where_nothing_is_said_everything_is_selected() -> None:
    assert Selection().matches(DELIVERY)


@pytest.mark.parametrize("name", HOLD)
def test_one_condition_selects_what_it_holds_for(name: str) -> None:
    assert Selection(**{name: HOLD[name]}).matches(DELIVERY)
    assert not Selection(**{name: DO_NOT_HOLD[name]}).matches(DELIVERY)


def test_every_condition_must_hold() -> None:
    assert Selection(**HOLD).matches(DELIVERY)
    for name in HOLD:
        assert not Selection(**{**HOLD, name: DO_NOT_HOLD[name]}).matches(DELIVERY), name


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example/", "hooks.example"),
        ("https://HOOKS.example/", "hooks.example"),
        ("http://hooks.example:81/other.example", "hooks.example"),
        ("http://[2001:DB8::7]:81/", "2001:db8::7"),
        ("http://192.0.2.7/", "192.0.2.7"),
    ],
)
def test_a_host_is_the_urls_own_in_lower_case_and_without_its_port(url: str, host: str) -> None:
    assert Selection(host=host).matches(replace(DELIVERY, url=url))


@pytest.mark.parametrize("text", ["in/7?for", "post /inv", "ANSWERED 503", "ACME", "größe", "GRö", ""])
def test_text_is_looked_for_in_url_operation_reason_and_the_values_of_tags(text: str) -> None:
    assert Selection(text=text).matches(DELIVERY)


@pytest.mark.parametrize("text", ["tenant", "paid", "POST/", "GRÖSSE", "GRÖ", "7%", "acme größe", "503POST"])
def test_text_is_looked_for_nowhere_else(text: str) -> None:
    assert not Selection(text=text).matches(DELIVERY)


@given(st.text(), st.text(), st.text())
def test_any_text_is_found_wherever_it_stands(before: str, text: str, after: str) -> None:
    delivery = replace(DELIVERY, tags={"any": before + text + after})

    assert Selection(text=text).matches(delivery)


@given(st.text(min_size=1), st.text())
def test_what_is_found_is_there_but_for_the_case_of_ascii_letters(text: str, tag: str) -> None:
    found = Selection(text=text).matches(replace(DELIVERY, url="", operation="", reason="", tags={"any": tag}))

    assert found == (_lower(text) in _lower(tag))


def _lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def test_a_time_means_the_same_in_every_zone() -> None:
    there = START.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert Selection(since=there, until=there + MICROSECOND).matches(DELIVERY)


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_without_a_zone_is_refused_by_its_name(name: str) -> None:
    times: dict[str, Any] = {name: START.replace(tzinfo=None)}

    with pytest.raises(ConfigurationError, match=rf"{name}=2030-01-01T00:00:00\) has no time zone"):
        Selection(**times)

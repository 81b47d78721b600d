"""What is known of an operation's names, and what a misspelt one was meant to be."""

from __future__ import annotations

import math

import pytest

from callback_middleware.expressions.names import BodyField, Names, Parameter, nearest
from callback_middleware.values import MISSING

NAMES = Names(
    (
        Parameter("X-Trace", "header", "trace"),
        Parameter("trace", "query"),
        Parameter("id", "path"),
        Parameter("id", "query"),
    ),
    (BodyField("a", "b"), BodyField("b")),
)


def test_parameters_are_found_by_either_name_in_the_order_of_their_locations() -> None:
    assert [one.location for one in NAMES.parameters_called("trace")] == ["query", "header"]
    assert [one.location for one in NAMES.parameters_called("id")] == ["path", "query"]
    assert [one.location for one in NAMES.parameters_called("x-trace")] == ["header"]
    assert NAMES.parameters_called("TRACE") == []


def test_a_member_is_found_on_the_wire_before_it_is_found_in_python() -> None:
    assert NAMES.body_fields_called("b") == [BodyField("b"), BodyField("a", "b")]
    assert NAMES.body_fields_called("a") == [BodyField("a", "b")]


def test_the_wire_knows_no_python_names() -> None:
    assert NAMES.parameter("header", "trace") is None
    assert NAMES.parameter("header", "x-trace") == Parameter("X-Trace", "header", "trace")
    assert NAMES.body_field("b") == BodyField("b")


def test_only_what_is_known_rules_anything_out() -> None:
    assert NAMES.rules_out("query", "nope")
    assert not NAMES.rules_out("query", "id")
    assert not NAMES.rules_out("header", "Accept")
    assert NAMES.rules_out_member("nope")
    assert not Names().rules_out("query", "nope")
    assert not Names().rules_out_member("nope")


def test_where_others_are_welcome_nothing_is_ruled_out() -> None:
    names = Names((Parameter("a", "query"),), (BodyField("b"),), more_parameters=True, more_members=True)
    assert not names.rules_out("query", "nope")
    assert not names.rules_out_member("nope")


@pytest.mark.parametrize("default", [math.nan, math.inf, object(), {1: 2}, ["\ud800"]])
def test_a_default_without_a_json_form_counts_as_none(default: object) -> None:
    assert Parameter("a", "query", default=default).default is MISSING
    assert BodyField("a", default=default).default is MISSING


@pytest.mark.parametrize("default", [None, "", 0, False, [], {"a": [1.5]}])
def test_every_json_value_is_a_default(default: object) -> None:
    assert Parameter("a", "query", default=default).default == default
    assert BodyField("a", default=default).default == default


def test_all_names_are_listed_once() -> None:
    assert list(NAMES.all()) == ["X-Trace", "trace", "id", "a", "b"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("calback_url", "callback_url"), ("CallbackUrl", "callback_url"), ("x_trace", "X-Trace"), ("zzz", None)],
)
def test_the_nearest_name_is_what_was_meant(name: str, meant: str | None) -> None:
    assert nearest(name, ["callback_url", "X-Trace", "id"]) == meant

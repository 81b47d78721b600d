"""JSON whose numbers keep their digits: what goes in comes out, and what must not come in does not."""

from __future__ import annotations

import copy
import enum
import json
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.jsontext import ExactFloat, dumps, loads, to_text

LITERALS = [
    "0",
    "-0",
    "7",
    "-12",
    "1" * 30,
    "9999.10",
    "0.1",
    "1.0",
    "-0.0",
    "1e5",
    "1E5",
    "1e+05",
    "1.50E-7",
    "1e999",
    "-1e400",
    "0e0",
]


@pytest.mark.parametrize("literal", LITERALS)
def test_a_number_is_written_as_it_was_read(literal: str) -> None:
    assert dumps(loads(literal)) == literal.encode()
    assert dumps(loads(f'{{"a":[{literal}]}}')) == f'{{"a":[{literal}]}}'.encode()
    assert to_text(loads(literal)) == literal


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_every_json_number_keeps_its_digits(literal: str) -> None:
    assert dumps(loads(literal)) == literal.encode()


def test_an_integer_is_an_int() -> None:
    assert type(loads("30")) is int
    assert loads("1" * 30) == int("1" * 30)


def test_an_exact_float_is_a_float_to_everybody_else() -> None:
    number = loads("9999.10")
    assert isinstance(number, float)
    assert number == 9999.1
    assert number + 1 == 10000.1
    assert hash(number) == hash(9999.1)
    assert json.dumps(number) == "9999.1"
    assert loads("1e999") == math.inf


def test_an_exact_float_shows_its_literal() -> None:
    number = loads("9999.10")
    assert str(number) == repr(number) == f"{number}" == "9999.10"
    assert f"{number:.1f}" == "9999.1"


def _pickled(number: ExactFloat) -> Any:
    return pickle.loads(pickle.dumps(number))  # noqa: S301 - it was pickled in the same line


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_of_an_exact_float_keeps_its_literal(clone: Any) -> None:
    assert dumps(clone(ExactFloat("9999.10"))) == b"9999.10"


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(_TEXT, children, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_is_written_reads_back_the_same_here_and_in_the_standard_library(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert json.loads(dumps(value)) == value


@given(_VALUES)
def test_writing_is_compact_utf_8(value: Any) -> None:
    assert dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(st.text(max_size=60) | st.text('[]{}",:\\u0dD89-.eENa \n', max_size=60))
def test_any_text_is_read_or_is_a_value_error(text: str) -> None:
    try:
        value = loads(text)
    except ValueError:
        return
    assert loads(dumps(value)) == value


_AROUND = st.text(" \t\n\r", max_size=3) | st.text(" \n\x0b\x1f\x85\xa0[]0,x", max_size=3)


@given(_AROUND, _VALUES.map(json.dumps) | st.text('[]{}",:-.eE019 \n', max_size=30), _AROUND)
def test_white_space_and_errors_are_those_of_the_standard_library(before: str, document: str, after: str) -> None:
    text = before + document + after
    reader = json.JSONDecoder(parse_float=ExactFloat, parse_constant=loads)
    try:
        expected = reader.decode(text)
    except json.JSONDecodeError as error:
        with pytest.raises(ValueError, match=f"line {error.lineno} column {error.colno}$"):
            loads(text)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            loads(text)
    else:
        assert loads(text) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_are_a_value_error(content: bytes) -> None:
    try:
        loads(content)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: Expecting value, at line 1 column 1"),
        ("{", "not JSON"),
        ("[1,]", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("1 2", "not JSON: Extra data"),
        ("1\x0b", "not JSON: Extra data, at line 1 column 2"),
        ("1\n\xa0", "not JSON: Extra data, at line 2 column 1"),
        ("\x0b1", "not JSON: Expecting value, at line 1 column 1"),
        ("\n [1,]", "not JSON: Expecting value, at line 2 column 5"),
        ("01", "not JSON"),
        ('"\n"', "not JSON: Invalid control character"),
        ("NaN", "NaN is no JSON number"),
        ("[Infinity]", "Infinity is no JSON number"),
        ('{"a":-Infinity}', "-Infinity is no JSON number"),
        (b"\xff", "not UTF-8, at byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8, at byte 1"),
        (r'"\ud800"', "half of a surrogate pair"),
        (r'"\udc00\ud800"', "half of a surrogate pair"),
        (r'{"a":[{"\uDEAD":1}]}', "half of a surrogate pair"),
        ('"\ud800"', "half of a surrogate pair"),
        ("[" * 101 + "]" * 101, "nested deeper than 100"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100"),
        ("[" * 10_000 + "]" * 10_000, "nested deeper than 100"),
        ("[" * 10_000, "nested deeper than 100"),
        ("1" * 4301, "more than 4300 digits"),
        (f"[-{'1' * 4301}]", "more than 4300 digits"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_is_refused_says_why(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        (r'"\\ud800"', r"\ud800"),
        ("\ufeff1", 1),
        (b"\xef\xbb\xbf[]", []),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
        ("1" * 4300, int("1" * 4300)),
        ("-" + "1" * 4300, -int("1" * 4300)),
        (f'"{"1" * 5000}"', "1" * 5000),
        (f'["{"1" * 5000}",{"2" * 4300}]', ["1" * 5000, int("2" * 4300)]),
        ("[0," * 3 + "-0" + "]" * 3, [0, [0, [0, 0]]]),
        (" \t\r\n null ", None),
        (json.dumps(["["] * 200), ["["] * 200),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_is_unusual_and_right_is_read(text: str | bytes, value: Any) -> None:
    assert loads(text) == value


def test_a_hundred_levels_are_read_and_many_neighbours_are_no_levels() -> None:
    assert dumps(loads("[" * 100 + "]" * 100)) == b"[" * 100 + b"]" * 100
    assert loads("[" + ",".join(["{}"] * 500) + "]") == [{}] * 500


def test_a_fraction_may_have_more_digits_than_an_integer() -> None:
    literal = "0." + "1" * 5000
    assert dumps(loads(literal)) == literal.encode()


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, (2,)), b"[1,[2]]"),
        (Colour.RED, b'"red"'),
        ({"c": Colour.RED, "l": Level.HIGH}, b'{"c":"red","l":3}'),
        (True, b"true"),
        (1e16, b"1e+16"),
        ('é\x00\u2028"\\', '"é\\u0000\u2028\\"\\\\"'.encode()),
    ],
)
def test_ordinary_python_values_are_written(value: Any, written: bytes) -> None:
    assert dumps(value) == written


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1, 2}, "a set has no JSON form"),
        (b"x", "a bytes has no JSON form"),
        ({1: 2}, "text, not a int"),
        ([object()], "object"),
    ],
)
def test_what_has_no_json_form_is_a_type_error(value: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        dumps(value)


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "nan"),
        ([math.inf], "inf"),
        (-math.inf, "-inf"),
        ("\ud800", "surrogate"),
        (_loop(), "contains itself"),
    ],
)
def test_what_json_cannot_say_is_a_value_error(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dumps(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), (Colour.RED, "red"), (True, "true"), (None, "null"), (1, "1"), ([1, {"a": "é"}], '[1,{"a":"é"}]')],
)
def test_within_text_a_text_is_itself_and_the_rest_is_json(value: Any, text: str) -> None:
    assert to_text(value) == text

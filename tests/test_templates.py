"""Payloads and texts: what is evaluated, what is text, and what stops everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callback_middleware.errors import ConfigurationError, ExpressionSyntaxError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import BodyField, Names, Needs, Parameter, Reason, Unresolved
from callback_middleware.jsontext import dumps
from callback_middleware.templates import PayloadTemplate, TextTemplate, compile_payload, compile_text

JSON = {"content-type": "application/json"}
EXCHANGE = Exchange.build(
    url="https://api.example/invoices?a=1&b=x+y",
    headers={"x-id": "7", **JSON},
    body=b'{"id": "i1", "total": 9999.10, "null": null, "lines": [{"sku": "a"}], "empty": ""}',
    response_status=201,
    response_headers=JSON,
    response_body=b'{"paid": true}',
)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        # the design of it: text, types, nesting
        (
            {"description": "Invoice {$request.body#/id} received", "paid": "$response.body#/paid"},
            {"description": "Invoice i1 received", "paid": True},
        ),
        ("$request.body", {"id": "i1", "total": 9999.1, "null": None, "lines": [{"sku": "a"}], "empty": ""}),
        ({"a": ["$request.body#/id", {"b": "$statusCode"}], "c": "$method"}, {"a": ["i1", {"b": 201}], "c": "POST"}),
        (("$request.query.a", 1), ["1", 1]),
        ("$request.body#/null", None),
        ("$request.body#/lines", [{"sku": "a"}]),
        ("{$request.body#/lines} {$request.body#/total} {$request.body#/null}", '[{"sku":"a"}] 9999.10 null'),
        # dialects within braces
        ("{$a} {$request.body.id} ${a} ${request.body.id}", "1 i1 1 i1"),
        ("${$request.body#/id}", "$i1"),
        ("cost: $${a}", "cost: $1"),
        # ordinary text
        ("$5 off", "$5 off"),
        ("{name}", "{name}"),
        ("{}", "{}"),
        ("{", "{"),
        ("}{", "}{"),
        ("$", "$"),
        ("$$", "$$"),
        ("", ""),
        ("$URL", "$URL"),
        ("$callback_url", "$callback_url"),
        ("$url is", "$url is"),
        ("{a: {$request.query.a}}", "{a: 1}"),
        ("{name} {$request.query.a} {", "{name} 1 {"),
        ("function() { return 1 }", "function() { return 1 }"),
        # constants
        (None, None),
        (True, True),
        (1.5, 1.5),
        ([], []),
        ({}, {}),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        # literals, and names that are never evaluated
        ({"$literal": "$request.body#/id"}, "$request.body#/id"),
        ({"a": {"$literal": "{$callback_url}"}}, {"a": "{$callback_url}"}),
        ({"$literal": {"$literal": 1}}, {"$literal": 1}),
        ({"$request.body#/id": 1, "{$method}": "$method"}, {"$request.body#/id": 1, "{$method}": "POST"}),
    ],
)
def test_a_payload_comes_to(template: Any, value: Any) -> None:
    result = compile_payload(template).evaluate(EXCHANGE)
    assert result == value
    assert type(result) is type(value)


def test_numbers_keep_their_digits_in_a_payload() -> None:
    assert dumps(compile_payload({"t": "$request.body#/total"}).evaluate(EXCHANGE)) == b'{"t":9999.10}'


@pytest.mark.parametrize(
    ("template", "unresolved"),
    [
        ("$request.body#/nope", Unresolved(Reason.UNRESOLVED, "$request.body#/nope")),
        ({"a": 1, "b": ["x", "y {$request.query.nope}"]}, Unresolved(Reason.UNRESOLVED, "$request.query.nope")),
        (["$request.query.first", "$request.query.second"], Unresolved(Reason.UNRESOLVED, "$request.query.first")),
    ],
)
def test_one_missing_value_and_nothing_is_sent(template: Any, unresolved: Unresolved) -> None:
    assert compile_payload(template).evaluate(EXCHANGE) == unresolved


def test_a_truncated_body_is_told_apart_from_a_missing_member() -> None:
    cut = Exchange.build(url="https://h/", response_headers=JSON, response_body=b"{}", response_truncated=True)
    result = compile_payload({"a": "$response.body#/paid"}).evaluate(cut)
    assert isinstance(result, Unresolved)
    assert result.reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("template", "position"),
    [("{$5}", 1), ("{$", 0), ("a {$callback url}", 3), ("${}", 1), ({"a": ["{$request.query.}"]}, 16), ("{$URL}", 1)],
)
def test_an_opened_expression_must_be_one_and_the_hint_shows_the_way_out(template: Any, position: int) -> None:
    with pytest.raises(ExpressionSyntaxError) as refused:
        compile_payload(template)
    assert refused.value.position == position
    assert refused.value.hint is not None
    assert "$literal" in refused.value.hint or template == "{$URL}"


@pytest.mark.parametrize("template", ["{$a}", "${a}", "{$request.body.id}", ["x ${request.body#/id}"]])
def test_strict_refuses_the_dialects_here_too(template: Any) -> None:
    with pytest.raises(ExpressionSyntaxError):
        compile_payload(template, strict=True)


def test_credentials_are_not_sent_unless_allowed() -> None:
    for template in ("$request.header.authorization", "t {$request.header.cookie}", "{$authorization}"):
        with pytest.raises(ExpressionSyntaxError, match="allow_credentials=True"):
            compile_payload({"t": template})
        with pytest.raises(ExpressionSyntaxError, match="allow_credentials=True"):
            compile_text(template)
        compile_payload({"t": template}, allow_credentials=True)
        compile_text(template, allow_credentials=True)


@pytest.mark.parametrize("template", [{"$literal": 1, "a": 2}, {1: "a"}, [{None: 1}]])
def test_an_object_that_means_nothing_is_a_configuration_error(template: Any) -> None:
    with pytest.raises(ConfigurationError):
        compile_payload(template)


def test_something_that_is_no_json_is_a_constant() -> None:
    model = object()
    assert compile_payload(model).evaluate(EXCHANGE) is model
    assert compile_payload([model]).evaluate(EXCHANGE) == [model]


@pytest.mark.parametrize(
    ("template", "needs"),
    [
        ({"a": "$request.body#/id"}, Needs(request_body=True)),
        (["$response.body", {"x": "{$request.body#/id}"}], Needs(request_body=True, response_body=True, response=True)),
        ({"a": "$method", "b": ["$request.header.x-id"]}, Needs()),
        ({"$literal": "$request.body"}, Needs()),
        (None, Needs()),
    ],
)
def test_a_payload_says_what_must_be_captured_for_it(template: Any, needs: Needs) -> None:
    assert compile_payload(template).needs == needs


@pytest.mark.parametrize(
    "text", ["$request.body.id", "$Request.body#/id", "$request.query.", "$response.headers.x", "$request.body#/a~2"]
)
def test_text_that_is_nearly_an_expression_is_sent_as_it_stands_with_a_warning(text: str) -> None:
    template = compile_payload({"a": [text]})
    assert template.evaluate(EXCHANGE) == {"a": [text]}
    (warning,) = template.warnings
    assert text in warning


def test_warnings_of_expressions_within_are_kept() -> None:
    names = Names((Parameter("a", "query"),), (BodyField("id"),))
    template = compile_payload(
        {"x": ["$request.query.aa", "{$a} {$request.body#/idd}"], "y": "$request.body#/id"}, names=names
    )
    assert len(template.warnings) == 2
    (warning,) = compile_payload("$request.query.a {$method}").warnings
    assert "{$request.query.a }{$method}" in warning
    with pytest.raises(ExpressionSyntaxError):
        compile_payload("{$nope}", names=names)


def test_a_payload_is_made_anew_for_every_exchange() -> None:
    template = compile_payload({"a": ["$method"]})
    first = template.evaluate(EXCHANGE)
    assert first == template.evaluate(EXCHANGE)
    assert first is not template.evaluate(EXCHANGE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$request.header.x-id", "7"),
        ("$request.body#/total", "9999.10"),
        ("$request.body#/lines", '[{"sku":"a"}]'),
        ("$response.body#/paid", "true"),
        ("$request.body#/empty", ""),
        ("id={$request.body#/id}; n={$request.body#/null}", "id=i1; n=null"),
        ("plain {name} $5", "plain {name} $5"),
        ("${a}", "1"),
        ("", ""),
        ("$request.body#/null", Unresolved(Reason.UNRESOLVED, "$request.body#/null", "it is null")),
        ("$request.body#/nope", Unresolved(Reason.UNRESOLVED, "$request.body#/nope")),
        ("a {$request.query.nope}", Unresolved(Reason.UNRESOLVED, "$request.query.nope")),
    ],
)
def test_a_text_comes_to(text: str, value: str | Unresolved) -> None:
    assert compile_text(text).evaluate(EXCHANGE) == value


@pytest.mark.parametrize("pointer", ["null", "lines", "lines/0"])
@pytest.mark.parametrize("form", ["$request.body#/{}", "x{{$request.body#/{}}}"])
def test_in_a_url_null_and_objects_and_arrays_have_no_place(form: str, pointer: str) -> None:
    result = compile_text(form.format(pointer), in_url=True).evaluate(EXCHANGE)
    assert isinstance(result, Unresolved)
    assert result.reason is Reason.UNRESOLVED
    assert compile_text("{$request.body#/total}", in_url=True).evaluate(EXCHANGE) == "9999.10"


def test_a_text_knows_its_needs_and_warnings() -> None:
    template = compile_text("{$request.body#/id}")
    assert template.needs == Needs(request_body=True)
    assert template.warnings == ()
    assert compile_text("$request.body.id").warnings


_JSON = st.recursive(
    st.none()
    | st.integers()
    | st.text("ab{}$. ~#/", max_size=12)
    | st.sampled_from(["$method", "$request.body.x", "{$a}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a$literal{}", max_size=8), inner, max_size=3),
    max_leaves=12,
)


def _compiled(value: Any) -> PayloadTemplate | ConfigurationError:
    try:
        return compile_payload(value)
    except ConfigurationError as error:
        return error


@settings(deadline=None)
@given(_JSON)
def test_any_json_compiles_or_is_a_configuration_error_and_evaluates_without_raising(value: Any) -> None:
    template = _compiled(value)
    if isinstance(template, PayloadTemplate):
        result = template.evaluate(EXCHANGE)
        assert isinstance(result, Unresolved) or dumps(result)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_literal_is_its_text_as_it_stands(text: str) -> None:
    assert compile_payload({"$literal": text}).evaluate(EXCHANGE) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="$")))
def test_text_without_a_dollar_is_text(text: str) -> None:
    assert compile_payload(text).evaluate(EXCHANGE) == text
    template = compile_text(text)
    assert isinstance(template, TextTemplate)
    assert template.evaluate(EXCHANGE) == text

"""Runtime expressions: every production of the grammar, every dialect, every refusal, and what they come to."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callback_middleware.errors import ExpressionSyntaxError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import (
    MISSING,
    BodyField,
    Expression,
    Missing,
    Names,
    Needs,
    Parameter,
    Reason,
    Unresolved,
    parse,
)
from callback_middleware.expressions.hints import meant_by

REQUEST_BODY = b"""{
  "id": "2expen51ve", "callback_url": "https://body.example/", "null": null, "empty": "", "yes": true, "no": false,
  "total": 9999.10, "big": 123456789012345678901234567890, "e": 1E2, "lines": [{"sku": "a"}, {"sku": "b"}],
  "": "nameless", "a/b": "slash", "m~n": "tilde", "0": "zero", "-": "dash", "a.b": "dot", "sp ace": 1,
  "nested": {"": {"": 1}}, "e\\u00e9": "accent", "x?y": "question", "}": "brace"
}"""
EXCHANGE = Exchange.build(
    method="post",
    url="https://api.example/invoices/7?callback_url=https%3A%2F%2Fext.example%2Fe&a=1&a=2&b=x+y%20z&blank=&sp+ace=s&%C3%A9=acc&q%22=quote&a/b=slash",
    headers=[
        ("Content-Type", "application/json"),
        ("X-Id", "one"),
        ("x-id", "two"),
        ("x#y", "hash"),
        ("x-callback-url", "hyphen"),
    ],
    path_params={
        "invoice_id": 7,
        "uuid": uuid.UUID(int=1),
        "name": "a/b",
        "price": 1.5,
        "infinite": math.inf,
        "none": None,
    },
    body=REQUEST_BODY,
    response_status=201,
    response_headers=[("Location", "/invoices/1"), ("content-type", "application/json")],
    response_body=b'{"paid": true, "id": 5}',
)

VALUES: list[tuple[str, Any]] = [
    # expression
    ("$url", EXCHANGE.url),
    ("$method", "POST"),
    ("$statusCode", 201),
    # header-reference
    ("$request.header.x-id", "one"),
    ("$request.header.X-ID", "one"),
    ("$request.header.x#y", "hash"),
    ("$response.header.location", "/invoices/1"),
    ("$response.header.LOCATION", "/invoices/1"),
    ("$response.header.x-id", MISSING),
    ("$request.header.nope", MISSING),
    # query-reference
    ("$request.query.a", "1"),
    ("$request.query.b", "x y z"),
    ("$request.query.blank", ""),
    ("$request.query.sp ace", "s"),
    ("$request.query.é", "acc"),
    (r"$request.query.\u00e9", "acc"),
    (r"$request.query.q\"", "quote"),
    (r"$request.query.a\/b", "slash"),
    ("$request.query.A", MISSING),
    ("$request.query.callback_url", "https://ext.example/e"),
    # path-reference
    ("$request.path.invoice_id", 7),
    ("$request.path.uuid", "00000000-0000-0000-0000-000000000001"),
    ("$request.path.name", "a/b"),
    ("$request.path.price", 1.5),
    ("$request.path.infinite", "inf"),
    ("{$request.path.infinite}", "inf"),
    ("$request.path.none", "None"),
    ("$request.path.nope", MISSING),
    # body-reference and json-pointer
    ("$response.body", {"paid": True, "id": 5}),
    ("$response.body#", {"paid": True, "id": 5}),
    ("$response.body#/paid", True),
    ("$request.body#/id", "2expen51ve"),
    ("$request.body#/", "nameless"),
    ("$request.body#/nested//", 1),
    ("$request.body#/null", None),
    ("$request.body#/empty", ""),
    ("$request.body#/a~1b", "slash"),
    ("$request.body#/m~0n", "tilde"),
    ("$request.body#/a~01b", MISSING),
    ("$request.body#/0", "zero"),
    ("$request.body#/-", "dash"),
    ("$request.body#/a.b", "dot"),
    ("$request.body#/sp ace", 1),
    ("$request.body#/eé", "accent"),
    ("$request.body#/x?y", "question"),
    ("$request.body#/}", "brace"),
    ("$request.body#/lines/0/sku", "a"),
    ("$request.body#/lines/1", {"sku": "b"}),
    ("$request.body#/lines/2", MISSING),
    ("$request.body#/lines/-", MISSING),
    ("$request.body#/lines/-1", MISSING),
    ("$request.body#/lines/+1", MISSING),
    ("$request.body#/lines/01", MISSING),
    ("$request.body#/lines/\u0661", MISSING),
    ("$request.body#/lines/1e0", MISSING),
    ("$request.body#/lines/ 1", MISSING),
    ("$request.body#/lines/" + "9" * 5000, MISSING),
    ("$request.body#/lines/length", MISSING),
    ("$request.body#/lines/", MISSING),
    ("$request.body#/id/0", MISSING),
    ("$request.body#/null/x", MISSING),
    ("$request.body#/ID", MISSING),
    # embedded
    ("text {$statusCode}", "text 201"),
    ("{$statusCode}", "201"),
    ("{$method} {$request.query.b}!", "POST x y z!"),
    ("{$request.body#/yes},{$request.body#/no},{$request.body#/null}", "true,false,null"),
    ("{$request.body#/total}/{$request.body#/big}/{$request.body#/e}", "9999.10/123456789012345678901234567890/1E2"),
    ("{$request.body#/lines}", '[{"sku":"a"},{"sku":"b"}]'),
    ("{$request.body#/empty}", ""),
    ("{$request.body#/nope}", MISSING),
    ("a{$request.body#/id}b{$request.query.nope}c", MISSING),
    ("{$request.query.a}}", "1}"),
    # literal
    ("", ""),
    ("https://h.example/x", "https://h.example/x"),
    ("a } b", "a } b"),
    ("5 $", "5 $"),
    # dialects
    ("{$callback_url}", "https://ext.example/e"),
    ("{$x_callback_url}", "hyphen"),
    ("{$x-id}", "one"),
    ("{$invoice_id}", "7"),
    ("{$id}", "2expen51ve"),
    ("{$nope}", MISSING),
    ("${callback_url}/x", "https://ext.example/e/x"),
    ("a$${id}", "a$2expen51ve"),
    ("$request.body.id", "2expen51ve"),
    ("$request.body.total", 9999.1),
    ("$request.body.lines.0.sku", "a"),
    ("{$request.body.lines.1.sku}", "b"),
    ("{$response.body.id}", "5"),
    ("$response.body.paid", True),
    ("${request.body.id}", "2expen51ve"),
    ("${response.body.id}", "5"),
    ("${request.body#/id}", "2expen51ve"),
    ("${request.query.a}", "1"),
    ("${method}", "POST"),
    ("${$request.body#/id}", "$2expen51ve"),
    ("a${$method}", "a$POST"),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[ascii(text)[:60] for text, _ in VALUES])
def test_an_expression_comes_to(text: str, value: Any) -> None:
    result = parse(text).evaluate(EXCHANGE)
    assert result == value
    assert type(result) is type(value) or isinstance(value, float)


@pytest.mark.parametrize("text", [text for text, _ in VALUES], ids=[ascii(text)[:60] for text, _ in VALUES])
def test_printing_and_parsing_again_changes_nothing(text: str) -> None:
    parsed = parse(text)
    assert str(parsed) == text
    assert parse(str(parsed)) == parsed


STRICT = [text for text, _ in VALUES if "request.body." not in text and "response.body." not in text]
STRICT = [text for text in STRICT if "${" not in text.replace("${$", "") and "{$x" not in text]
STRICT = [text for text in STRICT if text not in ("{$callback_url}", "{$invoice_id}", "{$id}", "{$nope}")]


@pytest.mark.parametrize("text", STRICT, ids=[ascii(text)[:60] for text in STRICT])
def test_strict_changes_nothing_about_the_specifications_own_expressions(text: str) -> None:
    assert parse(text, strict=True) == parse(text)


# Text, position of the error, and the hint.
REFUSALS: list[tuple[str, int, str | None]] = [
    # keywords
    ("$URL", 0, "$url"),
    ("$Url", 0, "$url"),
    ("$METHOD", 0, "$method"),
    ("$statuscode", 0, "$statusCode"),
    ("$status_code", 0, "$statusCode"),
    ("{$URL}", 1, "{$url}"),
    ("{$StatusCode}", 1, "{$statusCode}"),
    ("$url/x", 0, None),
    ("$", 0, None),
    ("$$", 0, None),
    ("{$}", 1, None),
    ("$5", 0, None),
    ("$request", 0, None),
    ("{$request}", 1, None),
    ("$request.", 0, None),
    ("$request.id", 0, None),
    ("$REQUEST.body#/id", 0, "$request.body#/id"),
    ("$Request.Query.url", 0, "$request.query.url"),
    ("$inputs.username", 0, None),
    ("$request.url", 0, "$url"),
    ("$request.method", 0, "$method"),
    ("$response.status", 0, "$statusCode"),
    ("$response.statusCode", 0, "$statusCode"),
    ("$request.cookie.session", 0, None),
    # header
    ("$request.header", 15, None),
    ("$request.header.", 16, None),
    ("$request.headers.x-id", 15, "$request.header.x-id"),
    ("$request.header.x y", 17, None),
    ("$request.header.é", 16, None),
    ("$request.header.x/y", 17, "{$request.header.x}/y"),
    ("$request.header.x{$request.query.a}", 17, "{$request.header.x}{$request.query.a}"),
    ("{$request.header.x:y}", 18, None),
    ("$request.header.Authorization", 0, None),
    ("$request.header.proxy-authorization", 0, None),
    ("{$request.header.COOKIE}", 1, None),
    ("$response.header.set-cookie", 0, None),
    ("{$authorization}", 1, None),
    ("{$proxy_authorization}", 1, None),
    # query and path
    ("$request.query", 14, None),
    ("$request.query.", 15, None),
    ("{$request.query.}", 16, None),
    ("$request.path.", 14, None),
    ("$request.queries.x", 0, "$request.query.x"),
    ("$request.query_params.x", 14, "$request.query.x"),
    ("$request.params.x", 0, "$request.query.x"),
    ("$request.path_params.x", 13, "$request.path.x"),
    ("$response.query.x", 0, "$request.query.x"),
    ("$response.path.x", 0, "$request.path.x"),
    ('$request.query.a"b', 16, None),
    ("$request.query.a\nb", 16, None),
    (r"$request.query.a\qb", 16, None),
    (r"$request.query.\u12", 15, None),
    (r"$request.query.\ud800", 15, None),
    # body
    ("$request.body.", 14, "$request.body"),
    ("$request.bodyx", 13, "$request.body#/x"),
    ("$request.body/id", 13, "$request.body#/id"),
    ("$request.body#id", 13, "$request.body#/id"),
    ("$request.json.id", 0, "$request.body#/id"),
    ("$request.body#/a~2", 16, "$request.body#/a~02"),
    ("$request.body#/a~", 16, "$request.body#/a~0"),
    ("{$request.body#/~b}", 16, "{$request.body#/~0b}"),
    ("$request.body.a#/b", 15, "$request.body#/a/b"),
    ("$request.body.a..b", 16, "$request.body#/a/b"),
    ("$request.body.lines[0].sku", 19, "$request.body#/lines/0/sku"),
    ("$request.body.a/b", 15, "{$request.body.a}/b"),
    ("$request.body.a?b=1", 15, "{$request.body.a}?b=1"),
    ("$request.body.01", 15, "$request.body#/01"),
    ("{$request.body.é}", 15, "{$request.body#/é}"),
    # braces
    ("{", 0, None),
    ("{}", 0, None),
    ("a{b", 1, "{$b}"),
    ("{request.body#/id}", 0, "{$request.body#/id}"),
    ("{callback_url}/x", 0, "{$callback_url}"),
    ("{$request.body#/id", 0, "{$request.body#/id}"),
    ("{$callback_url/invoices", 0, "{$callback_url}/invoices"),
    ("${callback_url/invoices", 1, "{$callback_url}/invoices"),
    ("{$request.query.a{b}", 17, None),
    ("{$request.query.{$method}}", 16, None),
    ("{$callback url}", 1, None),
    ("{ $method }", 0, None),
    ("{method} for 5 $", 0, "{$method}"),
    ("{$ method}", 1, None),
    # names by themselves
    ("$callback_url", 0, "{$callback_url}"),
    ("$callback_url/invoices/1", 0, "{$callback_url}/invoices/1"),
    ("$callback_url?a=1", 0, "{$callback_url}?a=1"),
    ("{$callback.url}", 1, None),
    ("{$1st}", 1, None),
]


@pytest.mark.parametrize(("text", "position", "hint"), REFUSALS, ids=[ascii(row[0]) for row in REFUSALS])
def test_a_refusal_says_where_and_what_was_probably_meant(text: str, position: int, hint: str | None) -> None:
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse(text)
    assert refused.value.expression == text
    assert refused.value.position == position
    assert refused.value.hint == hint


# What the dialects write, and the specification's own spelling.
DIALECTS = [
    ("{$callback_url}", 1, "{$request.query.callback_url}"),
    ("${callback_url}", 0, "{$request.query.callback_url}"),
    ("{callback_url}", 0, "{$request.query.callback_url}"),
    ("$callback_url/x", 0, "{$request.query.callback_url}/x"),
    ("$request.body.id", 13, "$request.body#/id"),
    ("{$request.body.lines.0.sku}", 14, "{$request.body#/lines/0/sku}"),
    ("$response.body.id", 14, "$response.body#/id"),
    ("${request.body.id}", 0, "{$request.body#/id}"),
    ("${request.body#/id}", 0, "{$request.body#/id}"),
    ("x${method}", 1, "{$method}"),
]


@pytest.mark.parametrize(("text", "position", "hint"), DIALECTS, ids=[row[0] for row in DIALECTS])
def test_strict_refuses_the_dialects_and_shows_the_specifications_spelling(text: str, position: int, hint: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse(text, strict=True)
    assert refused.value.position == position
    assert refused.value.hint == hint
    assert str(parse(hint, strict=True)) == hint


@pytest.mark.parametrize("hint", sorted({row[2] for row in (*REFUSALS, *DIALECTS) if row[2] is not None}))
def test_every_hint_is_an_expression_that_compiles(hint: str) -> None:
    assert str(parse(hint)) == hint


def test_the_error_draws_a_caret_under_the_position() -> None:
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse("$request.bodyx")
    lines = str(refused.value).splitlines()
    assert lines[1].index("x") == lines[2].index("^")
    assert lines[3].strip() == "perhaps: $request.body#/x"


def test_credentials_are_sources_only_on_purpose() -> None:
    exchange = Exchange.build(url="https://h/", headers={"authorization": "Bearer x"})
    for text in ("$request.header.authorization", "{$authorization}"):
        with pytest.raises(ExpressionSyntaxError, match="allow_credentials=True"):
            parse(text)
        assert parse(text, allow_credentials=True).evaluate(exchange) == "Bearer x"


@pytest.mark.parametrize(
    ("text", "braced"),
    [
        ("$request.query.callback_url/invoices/1", "{$request.query.callback_url}/invoices/1"),
        ("$request.query.url?a=1", "{$request.query.url}?a=1"),
        ("$request.query.url&a=1", "{$request.query.url}&a=1"),
        ("$request.path.url{$method}", "{$request.path.url}{$method}"),
        ("$request.body#/url?a=1", "{$request.body#/url}?a=1"),
        ("$request.body#/url&a=1", "{$request.body#/url}&a=1"),
        ("$request.body#/url/{$method}", "{$request.body#/url/}{$method}"),
    ],
)
def test_a_bare_expression_that_text_seems_to_follow_is_legal_and_warned_of(text: str, braced: str) -> None:
    (warning,) = parse(text).warnings
    assert text in warning
    assert braced in warning
    assert parse(braced).warnings == ()


@pytest.mark.parametrize(
    "text", ["$request.body#/a/b", "$request.header.x#y", "{$request.query.a/b}", "$request.query.a.b"]
)
def test_what_is_surely_meant_is_not_warned_of(text: str) -> None:
    assert parse(text).warnings == ()


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("$url", Needs()),
        ("{$method}{$request.query.a}{$request.path.b}", Needs()),
        ("{$method}{$statusCode}", Needs(response=True)),
        ("$request.header.x", Needs()),
        ("$response.header.x", Needs(response=True)),
        ("$request.body#/id", Needs(request_body=True)),
        ("$response.body", Needs(response_body=True, response=True)),
        ("{$request.body#/id}{$response.body#/id}", Needs(request_body=True, response_body=True, response=True)),
        ("{$callback_url}", Needs(request_body=True)),
        ("literal", Needs()),
    ],
)
def test_an_expression_says_what_must_be_captured_for_it(text: str, needs: Needs) -> None:
    assert parse(text).needs == needs


def test_needs_add_up() -> None:
    assert not Needs()
    assert Needs() | Needs(request_body=True) == Needs(request_body=True)
    assert Needs(response_body=True) | Needs(request_body=True) == Needs(request_body=True, response_body=True)
    assert Needs(response_body=True)


NAMES = Names(
    parameters=(
        Parameter("id", "path"),
        Parameter("callbackUrl", "query", python_name="callback_url"),
        Parameter("page", "query", default=1),
        Parameter("maybe", "query", default=None),
        Parameter("X-Trace", "header", python_name="x_trace"),
        Parameter("both", "query"),
        Parameter("dotted.name", "query"),
    ),
    body=(BodyField("customerName", python_name="customer_name"), BodyField("both"), BodyField("kind", default="a")),
)


def known(query: str = "", body: bytes = b"{}", **headers: str) -> Exchange:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Exchange.build(
        url=f"https://h/?{query}",
        headers={"content-type": "application/json", **named},
        path_params={"id": 1},
        body=body,
    )


@pytest.mark.parametrize(
    ("text", "exchange", "value"),
    [
        ("{$id}", known(), "1"),
        ("{$callback_url}", known("callbackUrl=u"), "u"),
        ("{$callbackUrl}", known("callbackUrl=u"), "u"),
        ("{$callback_url}", known("callback_url=u"), MISSING),
        ("{$x_trace}", known("x_trace=no", x_trace="t"), "t"),
        ("{$X-TRACE}", known(x_trace="t"), "t"),
        ("{$customer_name}", known(body=b'{"customerName": "c"}'), "c"),
        ("{$customerName}", known("customerName=no", body=b'{"customerName": "c"}'), "c"),
        ("{$both}", known("both=q", body=b'{"both": "b"}'), "q"),
        ("{$both}", known(body=b'{"both": "b"}'), "b"),
        ("{$dotted.name}", known("dotted.name=d"), "d"),
        # defaults
        ("{$page}", known(), "1"),
        ("{$page}", known("page="), ""),
        ("$request.query.page", known(), 1),
        ("$request.query.page", known("page=2"), "2"),
        ("$request.query.maybe", known(), None),
        ("$request.body#/kind", known(), "a"),
        ("$request.body#/kind", known(body=b'{"kind": null}'), None),
        ("$request.body.kind", known(body=b""), "a"),
        ("$request.body#/kind", known(body=b"not json"), MISSING),
        ("{$kind}", known(body=b"not json"), MISSING),
    ],
)
def test_what_is_declared_is_meant(text: str, exchange: Exchange, value: Any) -> None:
    assert parse(text, names=NAMES).evaluate(exchange) == value


def test_a_default_does_not_speak_for_a_body_that_nobody_could_read() -> None:
    names = Names((Parameter("x", "query", default="d"),), (BodyField("x"),))
    expression = parse("{$x}", names=names)
    assert expression.evaluate(known()) == "d"
    assert expression.evaluate(known(body=b'{"x": "b"}')) == "b"
    assert expression.evaluate(known(body=b"not json")) is MISSING


def test_a_declared_parameter_needs_no_body() -> None:
    assert parse("{$callback_url}", names=NAMES).needs == Needs()
    assert parse("{$callback_url}", names=Names((Parameter("callback_url", "query"),))).needs == Needs()
    assert parse("{$both}", names=NAMES).needs == Needs(request_body=True)


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (None, "query"),
        (Names(), "query"),
        (Names(parameters=()), "body"),
        (Names(body=()), "query"),
        (Names(body=(BodyField("x"),)), "query"),
        (Names(parameters=(), body=(BodyField("x"),)), "body"),
        (Names(parameters=(Parameter("x", "header"),)), "header"),
        (Names(parameters=(Parameter("x", "header"),), more_parameters=True), "header"),
        (Names(parameters=(), more_parameters=True), "query"),
        (Names(parameters=(), body=(), more_members=True), "body"),
    ],
)
def test_where_nothing_is_known_it_is_asked_by_presence(names: Names | None, value: str) -> None:
    exchange = Exchange.build(
        url="https://h/?x=query", headers={"x": "header", "content-type": "application/json"}, body=b'{"x": "body"}'
    )
    assert parse("{$x}", names=names).evaluate(exchange) == value


def test_by_presence_the_order_is_path_query_header_body() -> None:
    for found in ("path", "query", "header", "body"):
        order = ["path", "query", "header", "body"]
        present = order[order.index(found) :]
        exchange = Exchange.build(
            url="https://h/" + ("?x_y=query" if "query" in present else ""),
            headers={"content-type": "application/json"} | ({"x-y": "header"} if "header" in present else {}),
            path_params={"x_y": "path"} if "path" in present else {},
            body=b'{"x_y": "body"}',
        )
        assert parse("{$x_y}").evaluate(exchange) == found


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_name_finds_a_member_of_a_json_or_form_body(content_type: str) -> None:
    body = b'{"x": "1"}' if "json" in content_type else b"x=1"
    exchange = Exchange.build(url="https://h/", headers={"content-type": content_type}, body=body)
    assert parse("{$x}").evaluate(exchange) == "1"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{$calback_url}", "{$callbackUrl}"),
        ("${callbackurl}", "{$callbackUrl}"),
        ("{$x-trase}", "{$X-Trace}"),
        ("{$nothing_like_it}", None),
    ],
)
def test_a_name_that_the_operation_does_not_declare_is_an_error(text: str, hint: str | None) -> None:
    with pytest.raises(ExpressionSyntaxError, match="it declares id, callbackUrl, page") as refused:
        parse(text, names=NAMES)
    assert refused.value.hint == hint


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("$request.query.calback", "no query parameter 'calback'"),
        ("{$request.path.nope}", "no path parameter 'nope'"),
        ("$request.header.x-nope", "no header parameter 'x-nope'"),
        ("$request.body#/nope/x", "no body field 'nope'"),
        ("{$request.body.nope}", "no body field 'nope'"),
        ("$request.query.callback_url", "no query parameter 'callback_url'"),
        ("$request.query.callbackUrl", None),
        ("$request.header.x-trace", None),
        ("$request.header.content-type", None),
        ("$request.body", None),
        ("$request.body#/kind/anything", None),
        ("$response.body#/nope", None),
        ("$response.header.nope", None),
    ],
)
def test_an_undeclared_name_in_a_standard_form_is_warned_of(text: str, warned: str | None) -> None:
    warnings = parse(text, names=NAMES).warnings
    assert [warned in warning for warning in warnings if warned] == ([True] if warned else [])
    assert len(warnings) == bool(warned)
    assert parse(text).warnings == ()
    assert parse(text, names=Names()).warnings == ()


@pytest.mark.parametrize(
    ("names", "text", "hint"),
    [
        (Names((Parameter("url", "query"),)), "{$url}", "{$request.query.url}"),
        (Names((Parameter("url", "query"),)), "${url}/x", "{$request.query.url}"),
        (Names((Parameter("m", "header", python_name="method"),)), "{$method}", "{$request.header.m}"),
        (Names(body=(BodyField("url"),)), "{$url}", "{$request.body#/url}"),
        (Names((Parameter("statusCode", "path"),)), "{$statusCode}", "{$request.path.statusCode}"),
    ],
)
def test_a_keyword_beside_a_parameter_of_its_name_is_an_error(names: Names, text: str, hint: str) -> None:
    assert parse(text).evaluate(EXCHANGE) is not MISSING
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse(text, names=names)
    assert refused.value.hint == hint


def test_a_declared_name_may_be_a_word_of_the_grammar_in_another_case() -> None:
    assert parse("{$URL}", names=Names((Parameter("URL", "query"),))).evaluate(known("URL=u")) == "u"
    assert parse("{$request}", names=Names((Parameter("request", "query"),))).evaluate(known("request=r")) == "r"


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("text", "exchange", "unresolved"),
    [
        ("$request.query.x", known(), Unresolved(Reason.UNRESOLVED, "$request.query.x")),
        ("a {$request.query.x}", known(), Unresolved(Reason.UNRESOLVED, "$request.query.x")),
        ("{$x}", known(), Unresolved(Reason.UNRESOLVED, "$x")),
        ("${x}", known(), Unresolved(Reason.UNRESOLVED, "${x}")),
        ("$statusCode", known(), Unresolved(Reason.UNRESOLVED, "$statusCode")),
        (
            "$request.body#/x",
            Exchange.build(url="https://h/", headers=JSON, body=b'{"x": "1', body_truncated=True),
            Unresolved(
                Reason.TRUNCATED,
                "$request.body#/x",
                "the request body is larger than what is captured, or did not come to its end",
            ),
        ),
        (
            "{$response.body#/x}",
            Exchange.build(url="https://h/", response_headers=JSON, response_body=b"{}", response_truncated=True),
            Unresolved(
                Reason.TRUNCATED,
                "$response.body#/x",
                "the response body is larger than what is captured, or did not come to its end",
            ),
        ),
        (
            "$request.body#/x",
            known(body=b"{"),
            Unresolved(
                Reason.UNRESOLVED,
                "$request.body#/x",
                "request: the body cannot be read: not JSON: Expecting property name enclosed in double quotes,"
                " at line 1 column 2",
            ),
        ),
        (
            "$response.body",
            Exchange.build(url="https://h/", response_body=None),
            Unresolved(Reason.UNRESOLVED, "$response.body", "response: the body was not captured"),
        ),
        ("{$x}", known(content_encoding="gzip"), None),
    ],
)
def test_what_is_missing_says_why(text: str, exchange: Exchange, unresolved: Unresolved | None) -> None:
    result = parse(text).resolve(exchange)
    assert isinstance(result, Unresolved)
    assert parse(text).evaluate(exchange) is MISSING
    if unresolved is not None:
        assert result == unresolved
    else:
        assert "nothing is decompressed" in result.detail


def test_missing_is_neither_null_nor_empty() -> None:
    assert isinstance(MISSING, Missing)
    assert not MISSING
    assert str(MISSING) == repr(MISSING) == "MISSING"
    assert parse("$request.body#/null").evaluate(EXCHANGE) is None
    assert parse("$request.body#/empty").evaluate(EXCHANGE) == ""


def test_text_that_a_value_brings_is_never_scanned_again() -> None:
    exchange = known("x=%7B%24method%7D")
    assert parse("{$request.query.x}").evaluate(exchange) == "{$method}"


_NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\{}'), min_size=1, max_size=12)
_TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).filter(lambda name: "cookie" not in name.lower())
_STEP = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), max_size=8)


def _pointer(steps: list[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


_REFERENCES = st.one_of(
    st.sampled_from(["$url", "$method", "$statusCode", "$request.body", "$response.body"]),
    _NAME.map("$request.query.{}".format),
    _NAME.map("$request.path.{}".format),
    st.tuples(st.sampled_from(["request", "response"]), _TOKEN).map(lambda pair: f"${pair[0]}.header.{pair[1]}"),
    st.tuples(st.sampled_from(["request", "response"]), st.lists(_STEP, max_size=4)).map(
        lambda pair: f"${pair[0]}.body#{_pointer(pair[1])}"
    ),
)
_LITERAL = st.text(st.characters(exclude_characters="{}"), max_size=10).filter(lambda text: not text.startswith("$"))


@settings(deadline=None)
@given(_REFERENCES)
def test_everything_that_the_grammar_produces_is_parsed_strictly_and_printed_back(text: str) -> None:
    parsed = parse(text, strict=True)
    assert str(parsed) == text
    (part,) = parsed.parts
    assert not isinstance(part, str)
    canonical = str(part.reference)
    (again,) = parse(canonical, strict=True).parts
    assert not isinstance(again, str)
    assert again.reference == part.reference
    assert str(again.reference) == canonical


@settings(deadline=None)
@given(st.lists(st.tuples(_LITERAL, _REFERENCES), min_size=1, max_size=4), _LITERAL)
def test_every_template_is_parsed_into_the_parts_that_it_was_made_of(pairs: list[tuple[str, str]], tail: str) -> None:
    text = "".join(f"{literal}{{{reference}}}" for literal, reference in pairs) + tail
    if text.startswith("{") or not text.startswith("$"):
        parsed = parse(text, strict=True)
        written = [part if isinstance(part, str) else part.written for part in parsed.parts]
        assert written == [piece for pair in pairs for piece in pair if piece] + ([tail] if tail else [])
        assert parse(str(parsed)) == parsed


@settings(deadline=None)
@given(
    st.sampled_from(["$request", "$response", "$Request"]),
    st.sampled_from([".query", ".query_params", ".headers", ".path", ".paths", ".body", ".json", "/", ".", "", ".url"]),
    st.text('ab.[0]#/~?&{"\\ é', max_size=10),
)
def test_what_was_probably_meant_is_in_the_specifications_grammar(side: str, source: str, rest: str) -> None:
    meant = meant_by(side + source + rest)
    if meant is not None:
        assert str(parse(meant, strict=True)) == meant


_ANYTHING = st.one_of(
    st.text(max_size=40),
    st.text('${}#/~.\\"reqstbodyhaunl0[]?& ', max_size=40),
    st.lists(
        st.sampled_from(
            [
                "$",
                "{",
                "}",
                "{$",
                "${",
                "$request",
                "$response",
                ".body",
                ".query",
                ".header",
                ".path",
                "#",
                "/",
                "~",
                ".",
                "x",
            ]
        ),
        max_size=10,
    ).map("".join),
)


def _parsed(text: str, *, strict: bool, names: Names | None) -> Expression | ExpressionSyntaxError:
    try:
        return parse(text, strict=strict, names=names)
    except ExpressionSyntaxError as error:
        return error


@settings(deadline=None, max_examples=300)
@given(_ANYTHING, st.booleans(), st.sampled_from([None, NAMES, Names()]))
def test_no_text_raises_anything_but_a_syntax_error(text: str, strict: bool, names: Names | None) -> None:
    parsed = _parsed(text, strict=strict, names=names)
    if isinstance(parsed, ExpressionSyntaxError):
        assert 0 <= parsed.position <= len(text)
        assert str(parsed)
    else:
        assert parse(str(parsed), strict=strict, names=names) == parsed
        parsed.resolve(EXCHANGE)

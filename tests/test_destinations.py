"""From the key of a Callback Object to a URL: where every value goes, and where none ever gets."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callback_middleware.destinations import Destination, DestinationTemplate, Unresolved, parse_destination
from callback_middleware.errors import EgressRefused, ExpressionSyntaxError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import Names, Needs, Parameter, Reason

JSON = {"content-type": "application/json"}
EVENTS = "https://www.external.org/events"
INVOICE = {"id": "2expen51ve", "evil": "a/../../admin?x=1#y", "callbackUrl": "https://h/p?t=1"}
# The request body of the specification's own example, as far as its table of expressions needs it.
SPECIFIED = {
    "failedUrl": "http://clientdomain.com/failed",
    "successUrls": [
        "http://clientdomain.com/fast",
        "http://clientdomain.com/medium",
        "http://clientdomain.com/slow",
    ],
}


def exchange(callback_url: str | None = EVENTS, body: Any = None, **changes: Any) -> Exchange:
    query = "" if callback_url is None else "callback_url=" + quote(callback_url, safe="")
    content = body if isinstance(body, bytes) else json.dumps(INVOICE if body is None else body).encode()
    return Exchange.build(
        url=f"https://api.example/invoices/?{query}", **({"headers": JSON, "body": content} | changes)
    )


def url(text: str, given: Exchange, **options: Any) -> str:
    resolved = parse_destination(text, **options).resolve(given)
    assert isinstance(resolved, Destination), resolved
    return resolved.url


@pytest.mark.parametrize(
    ("text", "body", "expected"),
    [
        # FastAPI's own example, in each of its spellings
        ("${callback_url}/invoices/${request.body.id}", INVOICE, EVENTS + "/invoices/2expen51ve"),
        ("{$callback_url}/invoices/{$request.body.id}", INVOICE, EVENTS + "/invoices/2expen51ve"),
        ("{$request.query.callback_url}/invoices/{$request.body#/id}", INVOICE, EVENTS + "/invoices/2expen51ve"),
        (
            "{$request.query.callback_url}/invoices/{$request.body#/evil}",
            INVOICE,
            EVENTS + "/invoices/a%2F..%2F..%2Fadmin%3Fx%3D1%23y",
        ),
        # the specification's
        ("$request.body#/successUrls/1", SPECIFIED, "http://clientdomain.com/medium"),
        ("$request.body#/failedUrl", SPECIFIED, "http://clientdomain.com/failed"),
        ("$request.query.callback_url", INVOICE, EVENTS),
        ("{$request.body#/callbackUrl}&eventType=paid", INVOICE, "https://h/p?t=1&eventType=paid"),
        # literal URLs
        ("https://h.example", INVOICE, "https://h.example/"),
        ("https://h.example/a/{$request.body.id}/b", INVOICE, "https://h.example/a/2expen51ve/b"),
        ("HTTPS://H.Example:443/A", INVOICE, "https://h.example/A"),
        ("http://h.example:8080?a={$request.body.id}", INVOICE, "http://h.example:8080/?a=2expen51ve"),
        ("https://h.example/x#{$request.body.id}", INVOICE, "https://h.example/x"),
        ("https://h.example#", INVOICE, "https://h.example/"),
        ("https://h.example//a", INVOICE, "https://h.example//a"),
        ("https://[::1]:8443/a", INVOICE, "https://[::1]:8443/a"),
        # text after the base
        ("{$callback_url}/", INVOICE, EVENTS + "/"),
        ("{$callback_url}?", INVOICE, EVENTS),
        ("{$callback_url}?a=1", INVOICE, EVENTS + "?a=1"),
        ("{$callback_url}&a=1", INVOICE, EVENTS + "?a=1"),
        ("{$callback_url}&a=1?b", INVOICE, EVENTS + "?a=1?b"),
        ("{$callback_url}/a&b=1", INVOICE, EVENTS + "/a&b=1"),
        ("{$callback_url}#x", INVOICE, EVENTS),
        ("{$callback_url}#x?a=1", INVOICE, EVENTS),
        ("{$callback_url}/a?b=c#d", INVOICE, EVENTS + "/a?b=c"),
        ("{$callback_url}/a#{$request.body#/nope}", INVOICE, EVENTS + "/a"),
        ("{$callback_url}/%20/a'b()", INVOICE, EVENTS + "/%20/a'b()"),
        ("{$callback_url}?ids[]=1", INVOICE, EVENTS + "?ids[]=1"),
        ("{$callback_url}/...", INVOICE, EVENTS + "/..."),
        ("{$callback_url}/.well-known/x", INVOICE, EVENTS + "/.well-known/x"),
        # values by position
        ("{$callback_url}/{$request.body#/x}", {"x": "a b/ü?&=#%"}, EVENTS + "/a%20b%2F%C3%BC%3F%26%3D%23%25"),
        ("{$callback_url}?x={$request.body#/x}", {"x": "a b/ü?&=#%+"}, EVENTS + "?x=a%20b%2F%C3%BC%3F%26%3D%23%25%2B"),
        ("{$callback_url}?x={$request.body#/x}", {"x": ""}, EVENTS + "?x="),
        ("{$callback_url}?x={$request.body#/x}", {"x": ".."}, EVENTS + "?x=.."),
        ("{$callback_url}/{$request.body#/x}", {"x": "AZaz09-._~"}, EVENTS + "/AZaz09-._~"),
        ("{$callback_url}/{$request.body#/x}", {"x": "..."}, EVENTS + "/..."),
        ("{$callback_url}/{$request.body#/x}", {"x": "%2e%2e"}, EVENTS + "/%252e%252e"),
        ("{$callback_url}/{$request.body#/x}", {"x": "{$method}"}, EVENTS + "/%7B%24method%7D"),
        ("{$callback_url}/{$request.body#/x}", {"x": "a\r\nb"}, EVENTS + "/a%0D%0Ab"),
        ("{$callback_url}/{$request.body#/x}/{$method}", {"x": True}, EVENTS + "/true/POST"),
        ("{$callback_url}/a{$request.body#/x}b", {"x": 1}, EVENTS + "/a1b"),
        ("{$callback_url}/.{$request.body#/x}", {"x": "x"}, EVENTS + "/.x"),
        ("{$callback_url}?{$request.body#/x}={$request.body#/x}", {"x": "a&b"}, EVENTS + "?a%26b=a%26b"),
    ],
)
def test_a_destination_comes_to(text: str, body: Any, expected: str) -> None:
    assert url(text, exchange(body=body)) == expected


@pytest.mark.parametrize("number", ["9999.10", "123456789012345678901234567890", "1E5", "-0", "0.10"])
def test_a_number_keeps_its_digits(number: str) -> None:
    given = exchange(body=b'{"x": ' + number.encode() + b"}")
    assert url("{$callback_url}/{$request.body#/x}", given) == f"{EVENTS}/{number}"


@pytest.mark.parametrize(
    ("base", "text", "expected"),
    [
        ("https://h", "", "https://h/"),
        ("https://h/", "/x", "https://h/x"),
        ("https://h", "/x", "https://h/x"),
        ("https://h/a/", "/x", "https://h/a/x"),
        ("https://h/a//", "/x", "https://h/a//x"),
        ("https://h/a/", "//x", "https://h/a//x"),
        ("https://h/a?t=1", "/x", "https://h/a/x?t=1"),
        ("https://h/a?t=1", "/x?u=2", "https://h/a/x?t=1&u=2"),
        ("https://h?t=1", "/x", "https://h/x?t=1"),
        ("https://h/a?t=1", "?u=2", "https://h/a?t=1&u=2"),
        ("https://h/a?t=1", "&u=2", "https://h/a?t=1&u=2"),
        ("https://h/a?", "&u=2", "https://h/a?u=2"),
        ("https://h/a?", "", "https://h/a"),
        ("https://h/a#f?u=2", "/x", "https://h/a/x"),
        ("https://h/a?t=1#f", "&u=2", "https://h/a?t=1&u=2"),
        ("https://h/a?t=%20+?/[]", "", "https://h/a?t=%20+?/[]"),
        ("https://h/%C3%A9%2f", "/x", "https://h/%C3%A9%2f/x"),
        ("https://h/a;b=1,2@:!$&'()*", "", "https://h/a;b=1,2@:!$&'()*"),
        ("HTTPS://EXAMPLE.org/Path", "", "https://example.org/Path"),
        ("http://h:80/", "", "http://h/"),
        ("https://h:80/", "", "https://h:80/"),
        ("https://bücher.example/", "", "https://xn--bcher-kva.example/"),
        ("https://[2001:DB8::0:1]/", "/x", "https://[2001:db8::1]/x"),
        ("https://127.0.0.1:8443/", "", "https://127.0.0.1:8443/"),
        ("https://h/.../..a/.b", "", "https://h/.../..a/.b"),
    ],
)
def test_base_and_text_are_joined_by_their_components(base: str, text: str, expected: str) -> None:
    assert url("{$callback_url}" + text, exchange(base)) == expected


HOSTILE = [
    "ftp://h/",
    "ftp://h:21/",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "//h/x",
    "/x",
    "h.example",
    "https:h",
    "https:/h",
    "https://",
    "https:///x",
    "https://?x",
    "https://u@h/",
    "https://u:p@h/",
    "https://@h/",
    "https://h@evil/",
    "https://h\\evil/",
    "https://h/a\\b",
    "https://h/a b",
    " https://h/",
    "https://h/ ",
    "https://h/\t",
    "https://h/a\r\nX: 1",
    "https://h/\x00",
    "https://h\x1b/",
    "https://h/\x7f",
    "https://h/\u00a0",
    "https://h/\u2028",
    "https://h/é",
    "https://h/?é",
    'https://h/"',
    "https://h/<x>",
    "https://h/{x}",
    "https://h/a|b",
    "https://h/^",
    "https://h/`",
    "https://h/[x]",
    "https://h/%",
    "https://h/%z1",
    "https://h/?a=%1",
    "https://h/..",
    "https://h/a/../b",
    "https://h/./b",
    "https://h/%2e%2E/b",
    "https://h/.%2e",
    "https://h/a/%2E",
    "https://h:/",
    "https://h:x/",
    "https://h:-1/",
    "https://h:0/",
    "https://h:65536/",
    "https://h:٤/",
    "https://h..example/",
    "https://.h/",
    "https://exa%6dple.org/",
    "https://h,evil/",
    "https://h*.example/",
    "https://[::1/",
    "https://::1/",
    "https://[::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.x]/",
    "https://[127.0.0.1]/",
    "https://[h]/",
    "https://[::1]x/",
    "https://" + "a" * 64 + ".example/",
    "https://xn--.example/",
    "https://\u2488evil.example/",
    "https://h/" + "a" * 8192,
]


@pytest.mark.parametrize("base", HOSTILE, ids=lambda base: ascii(base)[:40])
def test_a_hostile_base_is_refused_whatever_follows_it(base: str) -> None:
    for text in ("", "/x", "?x", "&x"):
        resolved = parse_destination("{$callback_url}" + text).resolve(exchange(base))
        assert isinstance(resolved, Unresolved)
        assert resolved.reason is Reason.REFUSED
        assert resolved.expression == "$callback_url"
        assert resolved.detail
        assert resolved.detail.isprintable()
        assert len(resolved.detail) < 400


@pytest.mark.parametrize("base", HOSTILE, ids=lambda base: ascii(base)[:40])
def test_what_is_refused_as_a_base_is_no_destination_either(base: str) -> None:
    with pytest.raises(EgressRefused):
        Destination.parse(base)


def test_a_refusal_quotes_neither_query_nor_userinfo() -> None:
    for base in ("https://h/?token=secret&x=\\", "https://secret@h/", "https://h/secret/../x", "https://h/?secret=%z"):
        resolved = parse_destination("$request.query.callback_url").resolve(exchange(base))
        assert isinstance(resolved, Unresolved)
        assert "secret" not in resolved.detail


@pytest.mark.parametrize(
    ("text", "given", "reason", "expression"),
    [
        # the base: the client did not ask
        ("{$callback_url}/x", exchange(None), Reason.NOT_REQUESTED, "$callback_url"),
        ("{$callback_url}/x", exchange(""), Reason.NOT_REQUESTED, "$callback_url"),
        ("$request.body#/url", exchange(body={"url": None}), Reason.NOT_REQUESTED, "$request.body#/url"),
        ("$request.body#/url", exchange(body={}), Reason.NOT_REQUESTED, "$request.body#/url"),
        ("$request.body#/url", exchange(body=b""), Reason.NOT_REQUESTED, "$request.body#/url"),
        ("$request.body#/url", exchange(body=b"no json"), Reason.NOT_REQUESTED, "$request.body#/url"),
        # the base: it asked, and for what cannot be
        ("$request.body#/url", exchange(body={"url": {}}), Reason.UNRESOLVED, "$request.body#/url"),
        ("$request.body#/url", exchange(body={"url": ["https://h/"]}), Reason.UNRESOLVED, "$request.body#/url"),
        ("$request.body#/url", exchange(body={"url": 5}), Reason.REFUSED, "$request.body#/url"),
        ("$request.body#/url", exchange(body={"url": True}), Reason.REFUSED, "$request.body#/url"),
        ("$request.body#/url", exchange(body_truncated=True), Reason.TRUNCATED, "$request.body#/url"),
        # the rest
        ("{$callback_url}/{$request.body#/x}", exchange(), Reason.UNRESOLVED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body={"x": None}), Reason.UNRESOLVED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body={"x": {}}), Reason.UNRESOLVED, "$request.body#/x"),
        ("{$callback_url}?x={$request.body#/x}", exchange(body={"x": [1]}), Reason.UNRESOLVED, "$request.body#/x"),
        ("{$callback_url}?x={$request.body#/x}", exchange(body={"x": None}), Reason.UNRESOLVED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body_truncated=True), Reason.TRUNCATED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body={"x": ""}), Reason.REFUSED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body={"x": "."}), Reason.REFUSED, "$request.body#/x"),
        ("{$callback_url}/{$request.body#/x}", exchange(body={"x": ".."}), Reason.REFUSED, "$request.body#/x"),
        ("{$callback_url}/a{$request.body#/x}", exchange(body={"x": ""}), Reason.REFUSED, "$request.body#/x"),
        ("{$callback_url}/.{$request.body#/x}", exchange(body={"x": "."}), Reason.REFUSED, "$request.body#/x"),
        ("https://h/${request.body.x}", exchange(), Reason.UNRESOLVED, "${request.body.x}"),
    ],
)
def test_where_there_is_no_destination_the_reason_says_whose_doing_it_is(
    text: str, given: Exchange, reason: Reason, expression: str
) -> None:
    resolved = parse_destination(text).resolve(given)
    assert isinstance(resolved, Unresolved)
    assert (resolved.reason, resolved.expression) == (reason, expression)


def test_a_base_in_a_body_that_nobody_could_read_says_so() -> None:
    resolved = parse_destination("$request.body#/url").resolve(exchange(body=b"no json"))
    assert isinstance(resolved, Unresolved)
    assert "not JSON" in resolved.detail


def test_a_url_that_becomes_too_long_is_refused() -> None:
    template = parse_destination("{$callback_url}/{$request.body#/x}")
    resolved = template.resolve(exchange(body={"x": "é" * 2000}))
    assert resolved == Unresolved(Reason.REFUSED, template.text, "the URL would be longer than 8192 characters")
    longest = "a" * (8192 - len(EVENTS) - 1)
    assert isinstance(template.resolve(exchange(body={"x": longest})), Destination)
    assert isinstance(template.resolve(exchange(body={"x": longest + "a"})), Unresolved)


# Text, position of the error, hint.
REFUSALS: list[tuple[str, int, str | None]] = [
    ("", 0, None),
    ("/invoices", 0, "{$request.query.callback_url}/invoices"),
    ("invoices", 0, None),
    ("h.example/x", 0, None),
    ("ftp://h/x", 0, None),
    ("http{$method}://h", 0, None),
    ("{$request.query.scheme}://h", 23, "{$request.query.scheme}/://h"),
    (" {$callback_url}", 0, None),
    ("https://{$sub}.example/x", 8, None),
    ("https://h.example{$path}", 17, None),
    ("https://h:{$port}/x", 10, None),
    ("https://u@h/", 9, None),
    ("https://u:{$p}@h/", 10, None),
    ("https://", 8, None),
    ("https:///x", 8, None),
    ("https://a b/", 8, None),
    ("https://[::1/x", 8, None),
    ("https://127.1/", 8, None),
    ("{$callback_url}.evil.com", 15, "{$callback_url}/.evil.com"),
    ("{$callback_url}@evil.com", 15, "{$callback_url}/@evil.com"),
    ("{$callback_url}:8080/x", 15, "{$callback_url}/:8080/x"),
    ("{$a}{$b}", 4, "{$a}/{$b}"),
    ("{$callback_url}{$request.body#/id}", 15, "{$callback_url}/{$request.body#/id}"),
    ("${callback_url}x", 15, "${callback_url}/x"),
    ("$url", 0, "$request.query.url"),
    ("{$url}/x", 0, "{$request.query.url}/x"),
    ("${url}/x", 0, "{$request.query.url}/x"),
    ("$method", 0, None),
    ("{$statusCode}/x", 0, None),
    ("{$callback_url}/a b", 17, "{$callback_url}/a%20b"),
    ("{$callback_url}/é", 16, "{$callback_url}/%C3%A9"),
    ("{$callback_url}/a\\b", 17, "{$callback_url}/a%5Cb"),
    ("{$callback_url}/a\x00", 17, "{$callback_url}/a%00"),
    ("{$callback_url}/[x]", 16, "{$callback_url}/%5Bx]"),
    ("{$callback_url}/x}", 17, "{$callback_url}/x%7D"),
    ("{$callback_url}/%", 16, "{$callback_url}/%25"),
    ("{$callback_url}/%2{$id}", 16, "{$callback_url}/%252{$id}"),
    ("{$callback_url}?a b", 17, "{$callback_url}?a%20b"),
    ("{$callback_url}?a={$id}é", 23, "{$callback_url}?a={$id}%C3%A9"),
    ("{$callback_url}&a=|", 18, "{$callback_url}&a=%7C"),
    ("{$callback_url}/../x", 16, None),
    ("{$callback_url}/a/.", 18, None),
    ("{$callback_url}/%2e%2E/{$id}", 16, None),
    ("{$callback_url}/{$id}/.%2e?x", 22, None),
    ("https://h/..", 10, None),
    ("{$callback_url}/{invoice_id}", 16, "{$invoice_id}"),
    ("{$callback_url}/{", 16, None),
    ("$request.body.id/x", 16, "{$request.body.id}/x"),
    ("$callback_url", 0, "{$callback_url}"),
]


@pytest.mark.parametrize(("text", "position", "hint"), REFUSALS, ids=[ascii(row[0]) for row in REFUSALS])
def test_a_destination_that_cannot_be_is_refused_at_start_up(text: str, position: int, hint: str | None) -> None:
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse_destination(text)
    assert refused.value.expression == text
    assert refused.value.position == position
    assert refused.value.hint == hint


def test_strict_leaves_the_specifications_own_and_nothing_else() -> None:
    for text in ("{$callback_url}/x", "$request.body.url", "${callback_url}"):
        with pytest.raises(ExpressionSyntaxError):
            parse_destination(text, strict=True)
    assert url("{$request.query.callback_url}/{$request.body#/id}", exchange(), strict=True) == EVENTS + "/2expen51ve"


def test_what_is_known_of_the_operation_is_used() -> None:
    names = Names((Parameter("callback_url", "query", default="https://default.example/"),), ())
    assert url("{$callback_url}/x", exchange(None), names=names) == "https://default.example/x"
    with pytest.raises(ExpressionSyntaxError) as refused:
        parse_destination("{$calback_url}/x", names=names)
    assert refused.value.hint == "{$callback_url}"


def test_credentials_are_no_part_of_a_url_unless_allowed() -> None:
    text = "{$callback_url}?auth={$request.header.authorization}"
    with pytest.raises(ExpressionSyntaxError):
        parse_destination(text)
    given = exchange(headers={"authorization": "b"})
    assert url(text, given, allow_credentials=True) == EVENTS + "?auth=b"


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("https://{$request.query.callback_url}/x", "a.example", "https://a.example/x"),
        ("https://{$request.query.callback_url}/x", "A.example:8443", "https://a.example:8443/x"),
        ("https://{$request.query.callback_url}/x", "[::1]:8443", "https://[::1]:8443/x"),
        ("https://{$request.query.callback_url}", "bücher.example", "https://xn--bcher-kva.example/"),
        ("https://{$request.query.callback_url}.example/x", "a.b", "https://a.b.example/x"),
        ("https://h.example:{$request.query.callback_url}/x", "8443", "https://h.example:8443/x"),
        ("https://{$request.query.callback_url}.example/{$request.body.id}", "a", "https://a.example/2expen51ve"),
    ],
)
def test_with_dynamic_host_a_plain_host_is_a_value(text: str, host: str, expected: str) -> None:
    with pytest.raises(ExpressionSyntaxError, match="dynamic_host=True"):
        parse_destination(text)
    assert url(text, exchange(host), dynamic_host=True) == expected


@pytest.mark.parametrize(
    "host",
    [
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "a:b",
        "a:80:80",
        "a:",
        ":80",
        "https://a",
        "a b",
        "a\\b",
        "a%2eb",
        "[::1",
        "a\n",
        "",
        "..",
        "a:99999",
    ],
)
@pytest.mark.parametrize("text", ["https://{$callback_url}/x", "https://{$callback_url}.example/x"])
def test_with_dynamic_host_nothing_but_a_plain_host_is_one(text: str, host: str) -> None:
    resolved = parse_destination(text, dynamic_host=True).resolve(exchange(host))
    assert isinstance(resolved, Unresolved)
    assert resolved.reason is Reason.REFUSED


def test_a_dynamic_host_that_is_missing_is_unresolved_and_so_is_null() -> None:
    template = parse_destination("https://{$request.body#/host}/x", dynamic_host=True)
    bodies: list[dict[str, Any]] = [{}, {"host": None}, {"host": {}}]
    for body in bodies:
        resolved = template.resolve(exchange(body=body))
        assert isinstance(resolved, Unresolved)
        assert resolved.reason is Reason.UNRESOLVED


def test_even_with_dynamic_host_the_scheme_is_fixed_and_a_base_keeps_its_host() -> None:
    for text in ("{$s}://h/", "http{$s}://h/", "{$callback_url}.evil.com", "{$a}{$b}"):
        with pytest.raises(ExpressionSyntaxError):
            parse_destination(text, dynamic_host=True)


def test_the_callbacks_own_parameters_are_filled_in_like_any_other_value() -> None:
    template = parse_destination("{$callback_url}/{invoice_id}?v={v}", parameters=frozenset({"invoice_id", "v"}))
    resolved = template.resolve(exchange(), params={"invoice_id": "a/b", "v": "1&2"}, query=[("q", "x y"), ("ü", "&")])
    assert isinstance(resolved, Destination)
    assert resolved.url == EVENTS + "/a%2Fb?v=1%262&q=x%20y&%C3%BC=%26"
    assert template.needs == Needs(request_body=True)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, Reason.UNRESOLVED),
        ({"id": ""}, Reason.REFUSED),
        ({"id": ".."}, Reason.REFUSED),
        ({"id": "\ud800"}, Reason.REFUSED),
    ],
)
def test_a_parameter_of_the_callback_without_a_usable_value_is_no_destination(
    params: dict[str, str], reason: Reason
) -> None:
    template = parse_destination("https://h/{id}", parameters=frozenset({"id"}))
    resolved = template.resolve(exchange(), params=params)
    assert isinstance(resolved, Unresolved)
    assert (resolved.reason, resolved.expression) == (reason, "{id}")


def test_appended_query_parameters_follow_those_that_are_there() -> None:
    template = parse_destination("{$callback_url}")
    for base, expected in (
        ("https://h", "https://h/?a=1"),
        ("https://h/?t=1", "https://h/?t=1&a=1"),
        ("https://h/?", "https://h/?a=1"),
    ):
        resolved = template.resolve(exchange(base), query=iter([("a", "1")]))
        assert isinstance(resolved, Destination)
        assert resolved.url == expected
    half = template.resolve(exchange(), query=[("a", "\ud800")])
    assert isinstance(half, Unresolved)


def test_it_needs_no_more_than_what_it_uses() -> None:
    assert parse_destination("{$request.query.u}/x").needs == Needs()
    assert parse_destination("{$request.query.u}#{$request.body#/x}").needs == Needs()
    assert parse_destination("{$request.query.u}?x={$response.body#/x}").needs == Needs(
        response_body=True, response=True
    )
    assert parse_destination("https://{$request.body#/h}/", dynamic_host=True).needs == Needs(request_body=True)


def test_it_warns_of_what_is_legal_and_never_meant() -> None:
    (warning,) = parse_destination("$request.query.callback_url/invoices/1").warnings
    assert "{$request.query.callback_url}/invoices/1" in warning
    assert parse_destination("{$request.query.callback_url}/invoices/1").warnings == ()


def test_a_template_prints_as_it_was_written() -> None:
    for text in ("${callback_url}/x#f", "$request.body.url", "https://h/{$method}"):
        template = parse_destination(text)
        assert str(template) == template.text == text
        assert parse_destination(text) == template


@pytest.mark.parametrize(
    ("written", "expected", "parts"),
    [
        ("https://H.example", "https://h.example/", ("https", "h.example", 443, "https://h.example:443", "/")),
        ("http://h:80/a?b#c", "http://h/a?b", ("http", "h", 80, "http://h:80", "/a?b")),
        ("https://[::1]:8443?b", "https://[::1]:8443/?b", ("https", "::1", 8443, "https://[::1]:8443", "/?b")),
        (
            "https://ü.example/",
            "https://xn--tda.example/",
            ("https", "xn--tda.example", 443, "https://xn--tda.example:443", "/"),
        ),
    ],
)
def test_a_destination_knows_its_parts(written: str, expected: str, parts: tuple[str, str, int, str, str]) -> None:
    destination = Destination.parse(written)
    assert destination.url == expected
    named = (destination.scheme, destination.host, destination.port, destination.origin, destination.target)
    assert named == parts
    assert Destination.parse(destination.url) == destination


_WORD = st.text(max_size=30) | st.text("/.?#@:%\\[]&=+~ 2eEa\r\n\x00", max_size=12)
_SCALAR = _WORD | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=300)
@given(_SCALAR, _SCALAR, _SCALAR)
def test_no_value_changes_scheme_host_or_depth_of_a_destination_whose_host_it_did_not_supply(
    first: Any, second: Any, third: Any
) -> None:
    template = parse_destination(
        "https://fixed.example/a/{$request.body#/x}/b{$request.body#/y}?q={$request.body#/z}&r=1"
    )
    given = exchange(body={"x": first, "y": second, "z": third})
    resolved = template.resolve(given)
    if isinstance(resolved, Unresolved):
        assert resolved.reason in (Reason.REFUSED, Reason.UNRESOLVED)
        assert resolved.detail.isprintable()
        return
    split = urlsplit(resolved.url)
    assert resolved.url.isascii()
    assert (split.scheme, split.netloc, split.fragment) == ("https", "fixed.example", "")
    assert resolved.origin == "https://fixed.example:443"
    assert split.path.count("/") == 3
    assert split.query.count("&") == 1
    assert split.query.count("=") == 2
    assert not {"", ".", ".."} & {unquote(segment) for segment in split.path.split("/")[1:]}
    if isinstance(first, str):
        assert unquote(split.path.split("/")[2]) == first
    assert Destination.parse(resolved.url) == resolved


@settings(deadline=None, max_examples=300)
@given(_WORD, _WORD)
def test_a_client_that_names_a_host_gets_that_host_whatever_the_other_values_are(path: str, value: str) -> None:
    base = "https://client.example/" + quote(path, safe="/")
    resolved = parse_destination("{$callback_url}/x/{$request.body#/x}?y={$request.body#/x}").resolve(
        exchange(base, {"x": value})
    )
    if isinstance(resolved, Destination):
        assert resolved.origin == "https://client.example:443"
        assert resolved.target.isascii()
        assert resolved.target.partition("?")[0].count("/") == base.removesuffix("/").count("/") - 2 + 2


@settings(deadline=None, max_examples=300)
@given(_WORD | _WORD.map("https://{}".format) | _WORD.map("https://h.example{}".format))
def test_no_base_raises_and_none_that_passes_reads_differently_to_others(base: str) -> None:
    resolved = parse_destination("$request.body#/u").resolve(exchange(body={"u": base}))
    if isinstance(resolved, Destination):
        split = urlsplit(resolved.url)
        assert split.hostname == resolved.host
        assert (split.port or (443 if split.scheme == "https" else 80)) == resolved.port
        assert split.username is None
        assert resolved.url.isascii()
        assert resolved.url.isprintable()


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            ["{$a}", "https://h", "/", "?", "&", "#", "..", "%2e", "{$request.body#/x}", "x", "${b}", ":", "@", "{p}"]
        ),
        max_size=8,
    ).map("".join)
    | _WORD,
    st.booleans(),
)
def test_no_text_raises_anything_but_a_syntax_error(text: str, dynamic: bool) -> None:
    template = _compiled(text, dynamic_host=dynamic)
    if isinstance(template, ExpressionSyntaxError):
        assert 0 <= template.position <= len(text)
    else:
        template.resolve(exchange("https://h/"), params={"p": "1"})


def _compiled(text: str, *, dynamic_host: bool) -> DestinationTemplate | ExpressionSyntaxError:
    try:
        return parse_destination(text, dynamic_host=dynamic_host, parameters=frozenset({"p"}))
    except ExpressionSyntaxError as error:
        return error

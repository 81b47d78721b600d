"""An exchange answers what it was asked, and does nothing before."""

from __future__ import annotations

from typing import Any

import pytest

from callback_middleware.exchange import Exchange
from callback_middleware.values import MISSING


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "scheme": "https",
        "path": "/invoices/",
        "raw_path": b"/invoices/",
        "query_string": b"",
        "headers": [(b"host", b"api.example")],
        "server": ("10.0.0.1", 8000),
        **changes,
    }


def test_an_exchange_built_by_hand_answers_like_one_from_asgi() -> None:
    by_hand = Exchange.build(
        method="post",
        url="https://api.example/invoices/?a=1&b=x+y#frag",
        headers={"Content-Type": "application/json"},
        path_params={"id": 7},
        body=b'{"id": "2expen51ve"}',
        response_status=201,
        response_headers=[("Location", "/invoices/1")],
        response_body=b"",
    )
    from_asgi = Exchange.from_asgi(
        scope(
            query_string=b"a=1&b=x+y",
            headers=[(b"host", b"api.example"), (b"content-type", b"application/json")],
            path_params={"id": 7},
        ),
        request_content=b'{"id": "2expen51ve"}',
        response_status=201,
        response_headers=[(b"location", b"/invoices/1")],
        response_content=b"",
    )
    for exchange in (by_hand, from_asgi):
        assert exchange.method == "POST"
        assert exchange.url == "https://api.example/invoices/?a=1&b=x+y"
        assert exchange.query == {"a": "1", "b": "x y"}
        assert exchange.path_params == {"id": 7}
        assert exchange.request_headers["CONTENT-TYPE"] == "application/json"
        assert exchange.request_body == {"id": "2expen51ve"}
        assert exchange.request_problem == ""
        assert exchange.response_status == 201
        assert exchange.response_headers["location"] == "/invoices/1"
        assert exchange.response_body is MISSING
        assert exchange.response_problem == "the body is empty"


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://api.example/invoices/"),
        ({"query_string": b"a=%20&b"}, "https://api.example/invoices/?a=%20&b"),
        ({"raw_path": b"/a%2Fb"}, "https://api.example/a%2Fb"),
        ({"raw_path": None, "path": "/\xe9 b"}, "https://api.example/%C3%A9%20b"),
        ({"raw_path": b"/\xc3\xa9", "query_string": b"\xff"}, "https://api.example/%C3%A9?%FF"),
        ({"headers": [(b"Host", b"h:81")]}, "https://h:81/invoices/"),
        ({"headers": []}, "https://10.0.0.1:8000/invoices/"),
        ({"headers": [], "server": ("10.0.0.1", 443)}, "https://10.0.0.1/invoices/"),
        ({"headers": [], "server": ("::1", 80), "scheme": "http"}, "http://[::1]/invoices/"),
        ({"headers": [], "server": ("/run/app.sock", None)}, "https:///run/app.sock/invoices/"),
        ({"headers": [], "server": None}, "https:///invoices/"),
    ],
)
def test_the_url_is_made_of_the_bytes_that_came(changes: dict[str, Any], url: str) -> None:
    assert Exchange.from_asgi(scope(**changes)).url == url


def test_optional_keys_of_a_scope_may_be_absent() -> None:
    bare = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    exchange = Exchange.from_asgi(bare)
    assert exchange.url == "http:///x"
    assert exchange.query == {}
    assert exchange.path_params == {}


def test_the_routers_path_parameters_win_over_the_scopes() -> None:
    exchange = Exchange.from_asgi(scope(path_params={"a": "old"}), path_params={"a": "new"})
    assert exchange.path_params == {"a": "new"}


def test_a_repeated_header_or_query_parameter_gives_its_first_value() -> None:
    exchange = Exchange.build(url="https://h/?a=1&a=2&b=&b=3", headers=[("X", "1"), ("x", "2"), ("y", "\xe9")])
    assert exchange.query == {"a": "1", "b": ""}
    assert exchange.query_pairs == (("a", "1"), ("a", "2"), ("b", ""), ("b", "3"))
    headers = exchange.request_headers
    assert headers["x"] == "1"
    assert headers.get_all("X") == ["1", "2"]
    assert headers["y"] == "\xe9"
    assert headers.get("z") is None
    assert headers.get("\u4e00") is None
    assert list(headers) == ["x", "y"]
    assert len(headers) == 2


def test_the_query_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Exchange.build(url="https://h/?a=1").query["a"] = "2"  # type: ignore[index]


@pytest.mark.parametrize("content", [b"{}", None])
def test_half_a_body_is_no_body(content: bytes | None) -> None:
    headers = {"content-type": "application/json"}
    exchange = Exchange.build(
        url="https://h/",
        headers=headers,
        body=content,
        body_truncated=True,
        response_headers=headers,
        response_body=content,
        response_truncated=True,
    )
    assert exchange.request_body is MISSING
    assert exchange.response_body is MISSING
    assert exchange.request_problem == exchange.response_problem == "the body was not captured to its end"
    assert exchange.request_content == content


def test_a_body_that_was_not_captured_says_so() -> None:
    exchange = Exchange.build(url="https://h/", body=None, response_body=None)
    assert exchange.request_body is MISSING
    assert exchange.request_problem == exchange.response_problem == "the body was not captured"


def test_a_body_is_parsed_once() -> None:
    exchange = Exchange.build(url="https://h/", headers={"content-type": "application/json"}, body=b'{"a": []}')
    assert exchange.request_body is exchange.request_body


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    class Untouchable(bytes):
        def decode(self, *_: object, **__: object) -> str:
            raise AssertionError

        def lower(self) -> bytes:
            raise AssertionError

    untouchable = Untouchable(b"x")
    Exchange.from_asgi(
        scope(raw_path=untouchable, query_string=untouchable, headers=[(untouchable, untouchable)]),
        request_content=untouchable,
        response_headers=[(untouchable, untouchable)],
        response_content=untouchable,
    )


def test_a_repr_shows_neither_query_nor_body_nor_header_values() -> None:
    exchange = Exchange.build(
        url="https://h/p?secret=1", headers={"authorization": "secret"}, body=b"secret", response_status=200
    )
    assert repr(exchange) == "<Exchange POST https://h/p → 200>"
    assert repr(exchange.request_headers) == "Headers(authorization)"

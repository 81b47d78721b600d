"""What goes over the wire."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.outcomes import AttemptRequest
from callback_middleware.senders.wire import WireRequest

URL = "https://receiver.example/a?b=c"


def wire(*headers: tuple[str, str], method: str = "POST", body: bytes | None = b"x") -> WireRequest:
    return WireRequest.of(AttemptRequest(method, URL, headers, body), HttpUrl.of(URL))


def test_an_encoded_request() -> None:
    encoded = b"".join(wire(("User-Agent", "test/1"), ("X-A", "b")).encoded())
    assert encoded == (
        b"POST /a?b=c HTTP/1.1\r\nHost: receiver.example\r\nAccept-Encoding: identity\r\n"
        b"User-Agent: test/1\r\nX-A: b\r\nContent-Length: 1\r\n\r\nx"
    )


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4), st.text(min_size=1, max_size=8))
def test_what_is_encoded_is_read_as_it_was_meant_and_the_rest_is_refused(
    headers: list[tuple[str, str]], method: str
) -> None:
    request = wire(*headers, method=method)
    try:
        encoded = b"".join(request.encoded())
    except ValueError:
        return
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(encoded)
    event = reader.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (method.encode(), b"/a?b=c")
    assert [(name.decode(), value.decode()) for name, value in event.headers] == [
        (name.lower(), value.strip(" \t")) for name, value in request.headers
    ]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\r\n", "\n", "a\0", "\x1b[31m", "é", "a\x7f", "\ud800"])
def test_a_value_is_one_line_of_ascii(value: str) -> None:
    with pytest.raises(ValueError, match="a header cannot be written"):
        wire(("X-A", value)).encoded()


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X\r\nA", "é", "X-A:"])
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="a header cannot be written"):
        wire((name, "value")).encoded()


@pytest.mark.parametrize("method", ["", "PO ST", "POST /x HTTP/1.1\r\nX:", "PÖST"])
def test_a_method_is_a_token(method: str) -> None:
    with pytest.raises(ValueError, match="the method cannot be written"):
        wire(method=method).encoded()


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", None, "0"), ("POST", b"", "0"), ("GET", None, None), ("GET", b"", "0"), ("DELETE", b"ab", "2")],
)
def test_a_length_is_given_where_content_is_expected_or_there(
    method: str, body: bytes | None, length: str | None
) -> None:
    assert dict(wire(method=method, body=body).headers).get("Content-Length") == length


def test_a_small_request_is_one_piece_and_a_large_body_is_not_copied() -> None:
    url = HttpUrl.of("https://receiver.example/")
    small, large = (AttemptRequest("POST", "https://receiver.example/", (), b"x" * size) for size in (65_536, 65_537))
    assert len(WireRequest.of(small, url).encoded()) == 1
    head, body = WireRequest.of(large, url).encoded()
    assert head.endswith(b"\r\nContent-Length: 65537\r\n\r\n")
    assert body is large.body

"""Headers that came; which ones a callback may set, and what they may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.errors import ConfigurationError
from callback_middleware.headers import Headers, check_header_name, check_header_value


@pytest.mark.parametrize(
    "name", ["x-id", "X-Tenant", "Authorization", "User-Agent", "idempotency-key", "traceparent", "!#$%&'*+-.^_`|~"]
)
def test_a_header_of_the_callbacks_own_is_allowed(name: str) -> None:
    check_header_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "TRANSFER-ENCODING",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "proxy-anything",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "HTTP2-Settings",
        "Content-Type",
        "Content-Encoding",
        "Accept-Encoding",
        "webhook-id",
        "Webhook-Signature",
        "Callback-Depth",
    ],
)
def test_a_header_of_somebody_elses_is_refused_and_the_error_names_it(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        check_header_name(name)


@pytest.mark.parametrize("name", ["", "x id", "x:", "x\r\ny", "é", "x\x00", ":path", "x-id\n"])
def test_what_is_no_field_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name of a header field"):
        check_header_name(name)


@pytest.mark.parametrize("value", ["", "a", "a b", "Bearer x.y-z", "~!\"'<>"])
def test_printable_ascii_passes(value: str) -> None:
    assert check_header_value(value) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a\r\nx: 1", "U+000D at position 1"),
        ("a\n", "U+000A at position 1"),
        ("a\tb", "U+0009"),
        ("\x00", "U+0000 at position 0"),
        ("\x1b[2J", "U+001B"),
        ("\x7f", "U+007F"),
        ("é", "U+00E9"),
        ("\u2028", "U+2028"),
        ("\ud800", "U+D800"),
        (" a", "begins or ends with a space"),
        ("a ", "begins or ends with a space"),
    ],
)
def test_everything_else_is_refused_and_never_stripped(value: str, problem: str) -> None:
    found = check_header_value(value)
    assert found is not None
    assert problem in found
    assert found.isprintable()


@given(st.text())
def test_what_passes_is_one_line_of_printable_ascii(value: str) -> None:
    if check_header_value(value) is None:
        assert value.isascii()
        assert value == "" or value.isprintable()
        assert value == value.strip()


_NAMES = st.sampled_from(["a", "A", "b-c", "Content-Type", "content-type", "CONTENT-ENCODING", "content-encoding"])


@given(st.lists(st.tuples(_NAMES.map(str.encode), st.binary(max_size=3)), max_size=6), _NAMES)
def test_a_header_is_the_first_of_its_name_in_any_case(raw: list[tuple[bytes, bytes]], name: str) -> None:
    headers = Headers(raw)
    values = [value.decode("latin-1") for field, value in raw if field.decode().lower() == name.lower()]
    assert headers.get_all(name) == values
    assert headers.first(name) == headers.get(name) == (values[0] if values else None)
    assert (name in headers) == bool(values)
    assert headers.content() == (headers.get("content-type"), headers.get("content-encoding"))

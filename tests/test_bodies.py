"""From bytes to a value by content type; or missing, with a reason that quotes nothing of the body."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.bodies import form_pairs, parse_body
from callback_middleware.bodies.media_types import parse_media_type
from callback_middleware.values import MISSING

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=X"


def part(content: bytes, disposition: str = 'form-data; name="a"', *more: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: {disposition}", *more]).encode()
    return b"--X\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


END = b"--X--\r\n"


@pytest.mark.parametrize(
    ("content_type", "content", "value"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/json", b"null", None),
        ("Application/JSON ; charset=utf-8", b'"x"', "x"),
        ('application/json; charset="UTF-8"', b'"x"', "x"),
        ("application/json; charset=utf-16", '{"a":"é"}'.encode("utf-16"), {"a": "é"}),
        ("application/json; charset=iso-8859-1", b'"\xe9"', "é"),
        ("application/problem+json", b"1", 1),
        ("application/vnd.api+json;v=1", b"[]", []),
        (FORM, b"a=1&b=x+y&c=", {"a": "1", "b": "x y", "c": ""}),
        (FORM, b"a=1&a=2&a=3&b", {"a": ["1", "2", "3"], "b": ""}),
        (FORM, b"a=%C3%A9&b=%zz&c=%ff", {"a": "é", "b": "%zz", "c": "\ufffd"}),
        (FORM + "; charset=iso-8859-1", b"a=%E9", {"a": "é"}),
        (FORM, b"&&=x&", {"": "x"}),
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=ISO-8859-1", b"\xe9", "é"),
        ("text/csv", b"a,b", "a,b"),
        ("application/xml", b"<a/>", "<a/>"),
        ("text/xml", b"<a/>", "<a/>"),
        ("application/atom+xml", b"<a/>", "<a/>"),
        (MULTIPART, part(b"1") + END, {"a": "1"}),
        (FORM, b"&".join([b"a"] * 10_000), {"a": [""] * 10_000}),
        (MULTIPART, part(b"1") * 1000 + END, {"a": ["1"] * 1000}),
        (MULTIPART, part(b"1") + part(b"2") + END, {"a": ["1", "2"]}),
        (MULTIPART, part(b"") + END, {"a": ""}),
        (MULTIPART, part("é".encode()) + END, {"a": "é"}),
        (MULTIPART, part(b"\xe9", 'form-data; name="a"', "Content-Type: text/plain; charset=latin1") + END, {"a": "é"}),
        (MULTIPART, part(b"{}", 'form-data; name="a"', "Content-Type: application/json") + END, {"a": "{}"}),
        (MULTIPART, part(b"1", "form-data; name=a") + END, {"a": "1"}),
        (MULTIPART, part(b"1", 'form-data; name="\xe9"') + END, {"\xe9": "1"}),
        (MULTIPART, part(b"1", 'form-data; name="a;\\"b"') + END, {'a;"b': "1"}),
        (MULTIPART, part(b"1") + part(b"x", 'form-data; name="f"; filename="f.txt"') + END, {"a": "1"}),
        (MULTIPART, part(b"x", 'form-data; name="f"; filename=""') + END, {}),
        (MULTIPART, part(b"x", "form-data; name=\"f\"; filename*=utf-8''f") + END, {}),
        (MULTIPART, part(b"x", "form-data") + END, {}),
        ('multipart/form-data; charset=utf-8; boundary="X"', part(b"1") + END, {"a": "1"}),
    ],
)
def test_a_body_is_understood_by_its_content_type(content_type: str, content: bytes, value: Any) -> None:
    body = parse_body(content, content_type)
    assert body.value == value
    assert body.problem == ""


@pytest.mark.parametrize(
    ("content_type", "content", "problem"),
    [
        ("application/json", b"", "the body is empty"),
        (None, b"x", "no content type"),
        ("image/png", b"x", "its content type is 'image/png'"),
        ("", b"x", "its content type is ''"),
        ("application/octet-stream", b"{}", "application/octet-stream"),
        ("application/json", b"{secret", "not JSON"),
        ("application/json", b"NaN", "NaN"),
        ("application/json", b"\xff\xfe", "not UTF-8, at byte 0"),
        ("application/json; charset=ascii", b'"\xe9"', "it is not ascii, at byte 1"),
        ("text/plain", b"\xe9", "it is not utf-8, at byte 0"),
        ("text/plain; charset=klingon", b"x", "its charset 'klingon' is unknown"),
        ("text/plain; charset=unicode_escape", b"x", "unknown"),
        ("text/plain; charset=punycode", b"x", "unknown"),
        ("text/plain; charset=zlib", b"x", "unknown"),
        ("text/plain; charset=", b"x", "unknown"),
        (FORM, b"a=\xe9", "it is not utf-8"),
        (FORM, b"a&" * 10_000, "more than 10000 fields"),
        (MULTIPART, part(b"1") * 1001 + END, "more than 1000 parts"),
        ("multipart/form-data", part(b"1") + END, "no boundary"),
        (MULTIPART, b"secret", "it is no multipart/form-data"),
        (MULTIPART, part(b"1"), "ends before its last boundary"),
        (MULTIPART, part(b"\xe9") + END, "it is not utf-8"),
        ("multipart/form-data; boundary=" + "X" * 1000, b"x", "it is no multipart/form-data"),
    ],
)
def test_what_is_not_understood_is_missing_with_the_reason(
    content_type: str | None, content: bytes, problem: str
) -> None:
    body = parse_body(content, content_type)
    assert body.value is MISSING
    assert problem in body.problem
    assert "secret" not in body.problem


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x" * 9999, "\x1b[2J"])
def test_nothing_is_ever_decompressed(encoding: str) -> None:
    body = parse_body(b"{}", "application/json", encoding)
    assert body.value is MISSING
    assert "content-encoding" in body.problem
    assert len(body.problem) < 400
    assert body.problem.isprintable()


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_identity_is_no_encoding(encoding: str | None) -> None:
    assert parse_body(b"{}", "application/json", encoding).value == {}


def test_without_the_extra_a_multipart_body_is_missing_and_the_reason_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    for name in ("python_multipart.multipart", "python_multipart.exceptions", "callback_middleware.bodies.multipart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    body = parse_body(part(b"1") + END, MULTIPART)
    assert body.value is MISSING
    assert "callback_middleware[multipart]" in body.problem


@pytest.mark.parametrize(
    ("content_type", "bodies"),
    [
        ("application/json", {b'"a"': "a", b'"b"': "b"}),
        ("application/json; charset=utf-16le", {'"a"'.encode("utf-16le"): "a", '"b"'.encode("utf-16le"): "b"}),
        (FORM, {b"x=a": {"x": "a"}, b"x=b": {"x": "b"}}),
        (MULTIPART, {part(b"1") + END: {"a": "1"}, part(b"2") + END: {"a": "2"}}),
        ("text/plain; charset=latin1", {b"\xe9": "é", b"\xe8": "è"}),
    ],
)
def test_what_reads_one_type_keeps_nothing_of_a_body(content_type: str, bodies: dict[bytes, Any]) -> None:
    assert {content: parse_body(content, content_type).value for content in bodies} == bodies


@given(
    content=st.binary(max_size=80) | st.just(part(b"1") + END),
    content_type=st.text(max_size=40)
    | st.sampled_from(
        ["application/json", FORM, MULTIPART, "text/plain; charset=utf-16", "application/json; charset=gbk"]
    ),
    encoding=st.none() | st.text(max_size=10),
)
def test_no_body_and_no_header_ever_raises(content: bytes, content_type: str, encoding: str | None) -> None:
    body = parse_body(content, content_type, encoding)
    assert (body.value is MISSING) == bool(body.problem)
    assert body.problem.isprintable()


@pytest.mark.parametrize(
    ("header", "media_type", "options"),
    [
        ("a/b", "a/b", {}),
        (" A/B ;C=D", "a/b", {"c": "D"}),
        ('a/b; c="d;e\\"f" ; g=h', "a/b", {"c": 'd;e"f', "g": "h"}),
        ("a/b;; c=1;c=2;", "a/b", {"c": "1"}),
        ("a/b; junk; c = 1; d=2", "a/b", {"d": "2"}),
        ('a/b; c="open; d=2', "a/b", {"d": "2"}),
        ('a/b; c="x"y; d=2', "a/b", {"d": "2"}),
        ("", "", {}),
    ],
)
def test_a_media_type_is_read_past_what_is_malformed(header: str, media_type: str, options: dict[str, str]) -> None:
    assert parse_media_type(header) == (media_type, options)


@given(st.text(max_size=60) | st.text(';="\\ ab', max_size=60))
def test_reading_a_media_type_never_raises(header: str) -> None:
    parse_media_type(header)


def test_form_pairs_keep_order_and_blanks() -> None:
    assert form_pairs("b=&a=1+1&b=%2B&c") == [("b", ""), ("a", "1 1"), ("b", "+"), ("c", "")]


@given(st.text(max_size=40) | st.text("&=+%aé20C3 ", max_size=40))
def test_a_query_is_read_as_the_standard_library_reads_it(text: str) -> None:
    assert form_pairs(text) == parse_qsl(text, keep_blank_values=True)

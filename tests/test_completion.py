"""A client knows that a response is whole before the last ASGI message comes."""

from __future__ import annotations

import pytest

from callback_middleware.asgi import Message
from callback_middleware.completion import Remainder, content_length, ends_at_start


@pytest.mark.parametrize(
    ("method", "status", "length", "ends"),
    [
        ("POST", 200, None, False),
        ("POST", 200, 1, False),
        ("POST", 200, 0, True),
        ("POST", 204, None, True),
        ("GET", 304, 1000, True),
        ("HEAD", 200, 1000, True),
    ],
)
def test_a_response_without_a_body_is_whole_at_its_start(
    method: str, status: int, length: int | None, ends: bool
) -> None:
    assert ends_at_start(method, status, length) is ends


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([(b"content-type", b"text/plain"), (b"content-length", b"12")], 12),
        ([(b"Content-Length", b"0")], 0),
        ([(b"content-length", b"many")], None),
        ([(b"content-length", b"-1")], None),
        ([], None),
    ],
)
def test_a_length_is_what_the_header_says_if_it_says_one(
    headers: list[tuple[bytes, bytes]], length: int | None
) -> None:
    assert content_length(headers) == length


@pytest.mark.parametrize(
    ("length", "messages", "ends"),
    [
        (None, [{"type": "http.response.body", "body": b"a"}], [True]),
        (None, [{"type": "http.response.body", "more_body": True}, {"type": "http.response.body"}], [False, True]),
        (
            2,
            [
                {"type": "http.response.body", "body": b"a", "more_body": True},
                {"type": "http.response.body", "body": b"b", "more_body": True},
            ],
            [False, True],
        ),
        (None, [{"type": "http.response.pathsend", "path": "/f"}], [True]),
        (None, [{"type": "http.response.debug"}], [False]),
    ],
)
def test_a_body_ends_with_the_message_that_has_its_last_byte(
    length: int | None, messages: list[Message], ends: list[bool]
) -> None:
    remainder = Remainder(length)
    assert [remainder.ends_with(message) for message in messages] == ends

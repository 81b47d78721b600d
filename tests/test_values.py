"""What a stranger typed is shown escaped and short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.values import excerpt


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "'a'"), ("", "''"), ("it's", '"it\'s"'), ("\x1b[2J\r\n", "'\\x1b[2J\\r\\n'"), ("é\u202e", "'\\xe9\\u202e'")],
)
def test_an_excerpt_is_quoted_and_escaped(text: str, shown: str) -> None:
    assert excerpt(text) == shown


@given(st.text(max_size=600) | st.integers(250, 300).map("x".__mul__))
def test_an_excerpt_is_printable_ascii_of_at_most_256_characters(text: str) -> None:
    shown = excerpt(text)
    assert len(shown) <= 256
    assert shown.isascii()
    assert shown.isprintable()
    assert shown == ascii(text) or shown.endswith("...")

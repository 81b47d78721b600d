"""What stands where in a destination: decided once, at start-up, from its text alone.

::

    destination = expression [ text ]            ; the client's URL; text begins with / ? & or #
                / "http" [ "s" ] "://" authority [ text ]

A fragment goes nowhere and is dropped, with everything in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote

from callback_middleware.destinations.urls import dot_segment, illegal_in_path, illegal_in_query
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import EgressRefused, ExpressionSyntaxError
from callback_middleware.expressions.embedding import Embedded, Part
from callback_middleware.expressions.references import Method, RequestUrl, StatusCode

_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)
_AFTER_AUTHORITY: Final = re.compile(r"[/?#]")

# Illegal in every part of a URL, so no check takes it for text.
_BLANK: Final = "\0"

Base: TypeAlias = Embedded | Sequence[Part]
"""The client's URL; or scheme and authority in parts, one text unless a host is dynamic."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Three positions, each filled by what stands there in order.

    Attributes:
        base: See :data:`Base`.
        path: Empty, or its first part is text that begins with a slash.
        query: Without the ``?`` or ``&`` that leads it.
    """

    base: Base
    path: Sequence[Part]
    query: Sequence[Part]


class _Text:
    """A destination's text with its expressions blanked out, so that every index is an index into the text."""

    def __init__(self, text: str, parts: Sequence[Part]) -> None:
        self.text = text
        self.parts = parts
        self.blanked = "".join(part if isinstance(part, str) else _BLANK * (part.end - part.start) for part in parts)

    def find(self, character: str, start: int, end: int) -> int:
        """Where a character of the text itself stands first; ``end`` if nowhere."""
        index = self.blanked.find(character, start, end)
        return end if index < 0 else index

    def between(self, start: int, end: int) -> list[Part]:
        """The parts from one index to another, neither of which is within an expression."""
        return [part for _, part in self.located(start, end)]

    def located(self, start: int, end: int) -> Iterator[tuple[int, Part]]:
        """Like :meth:`between`, each with its index."""
        index = 0
        for part in self.parts:
            after = index + len(part) if isinstance(part, str) else part.end
            first, last = max(index, start), min(after, end)
            if first < last:
                yield first, (part[first - index : last - index] if isinstance(part, str) else part)
            index = after

    def error(self, reason: str, index: int, meant: str | None = None) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(self.text, reason, index, meant)


def lay_out(text: str, parts: Sequence[Part], *, dynamic_host: bool) -> Layout:
    """Put each part in its place.

    Raises:
        ExpressionSyntaxError: A part stands where it could move the host, or text where it is illegal.
    """
    written = _Text(text, parts)
    base: Base
    if parts and isinstance(parts[0], Embedded):
        base, start = _client_base(written, parts[0]), parts[0].end
    else:
        base, start = _own_base(written, dynamic_host=dynamic_host)
    end = written.find("#", start, len(text))
    question = start if text.startswith("&", start) else written.find("?", start, end)
    _check_path(written, start, question)
    _check_query(written, question + 1, end)
    return Layout(base, written.between(start, question), written.between(question + 1, end))


def _client_base(written: _Text, base: Embedded) -> Embedded:
    text = written.text
    if isinstance(base.reference, RequestUrl):
        braced = text[base.end - 1] == "}"
        meant = "{$request.query.url}" if braced else "$request.query.url"
        raise written.error("$url is the API's own: it would call itself", base.start, meant + text[base.end :])
    if isinstance(base.reference, Method | StatusCode):
        raise written.error(f"{base.written} is never a URL", base.start)
    if base.end < len(text) and written.blanked[base.end] not in "/?&#":
        meant = f"{text[: base.end]}/{text[base.end :]}"
        raise written.error("only / ? & or # may follow the base URL: all else would move its host", base.end, meant)
    return base


def _own_base(written: _Text, *, dynamic_host: bool) -> tuple[Sequence[Part], int]:
    """Scheme and authority, and where they end."""
    text = written.text
    scheme = _SCHEME.match(written.blanked)
    if scheme is None:
        meant = f"{{$request.query.callback_url}}{text}" if text.startswith("/") else None
        raise written.error("a destination begins with an expression, http:// or https://", 0, meant)
    after = _AFTER_AUTHORITY.search(written.blanked, scheme.end())
    end = len(text) if after is None else after.start()
    for index, part in written.located(0, end):
        if not isinstance(part, str) and not dynamic_host:
            raise written.error("this says to which host it goes; dynamic_host=True would allow it", index)
        if isinstance(part, str) and "@" in part:
            raise written.error("a destination carries no user information", index + part.index("@"))
    parts = written.between(0, end)
    if len(parts) == 1:
        try:
            HttpUrl.of(text[:end])
        except EgressRefused as refused:
            raise written.error(refused.rule, scheme.end()) from None
    return parts, end


def _check_path(written: _Text, start: int, end: int) -> None:
    for index, part in written.located(start, end):
        illegal = illegal_in_path(part) if isinstance(part, str) else None
        if illegal is not None:
            raise _illegal(written, index + illegal, "path")
    dots = dot_segment(written.blanked[start:end])
    if dots is not None:
        raise written.error("a . or .. segment: some programs on the way would fold it", start + dots)


def _check_query(written: _Text, start: int, end: int) -> None:
    for index, part in written.located(start, end):
        illegal = illegal_in_query(part) if isinstance(part, str) else None
        if illegal is not None:
            raise _illegal(written, index + illegal, "query")


def _illegal(written: _Text, index: int, where: str) -> ExpressionSyntaxError:
    text = written.text
    meant = f"{text[:index]}{quote(text[index], safe='', errors='replace')}{text[index + 1 :]}"
    return written.error(f"this has no place in a {where} as it is", index, meant)

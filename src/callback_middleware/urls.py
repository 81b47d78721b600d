"""The parts of a destination's URL after its authority: what may stand in them, and how values get in (RFC 3986).

Nothing here is ever normalised: what is not plainly right is refused, so that no two programs on the way can read
it differently.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

MAX_LENGTH: Final = 8192
"""Characters of a whole URL."""

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_ESCAPE: Final = r"%[0-9A-Fa-f]{2}"
# RFC 3986, 3.3 and 3.4.
_PATH: Final = re.compile(rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|{_ESCAPE})*")
# Brackets are not in RFC 3986's query, yet `?ids[]=1` is everyday PHP and Rails, and nobody reads it differently.
_QUERY: Final = re.compile(rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|{_ESCAPE})*")
_DOT_SEGMENT: Final = re.compile(r"(?<![^/])(?:\.|%2[eE]){1,2}(?![^/])")


def encode(value: str) -> str:
    """A value for path or query: everything but RFC 3986's unreserved characters, in UTF-8, as escapes.

    Raises:
        UnicodeEncodeError: The value holds half of a surrogate pair.
    """
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="")


def illegal_in_path(text: str) -> int | None:
    """Where the first character stands that has no place in a path, or None."""
    return _first_illegal(_PATH, text)


def illegal_in_query(text: str) -> int | None:
    """Where the first character stands that has no place in a query, or None."""
    return _first_illegal(_QUERY, text)


def dot_segment(path: str) -> int | None:
    """Where a segment begins that is ``.`` or ``..``, however written; or None."""
    if "." not in path and "%" not in path:
        return None
    match = _DOT_SEGMENT.search(path)
    return None if match is None else match.start()


def _first_illegal(legal: re.Pattern[str], text: str) -> int | None:
    match = legal.match(text)
    end = 0 if match is None else match.end()
    return None if end == len(text) else end

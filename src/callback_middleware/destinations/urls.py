"""The URL of a destination: what may stand in its path and query, and how values get in (RFC 3986).

Nothing here is ever normalised: what is not plainly right is refused, so that no two programs on the way can read
it differently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from callback_middleware.egress.hosts import Authority, HttpUrl
from callback_middleware.errors import EgressRefused
from callback_middleware.values import excerpt

MAX_LENGTH: Final = 8192
"""Characters of a whole URL."""

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_ESCAPE: Final = r"%[0-9A-Fa-f]{2}"
# RFC 3986, 3.3 and 3.4.
_PATH: Final = re.compile(rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|{_ESCAPE})*")
# Brackets are not in RFC 3986's query, yet `?ids[]=1` is everyday PHP and Rails, and nobody reads it differently.
_QUERY: Final = re.compile(rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|{_ESCAPE})*")
_DOT_SEGMENT: Final = re.compile(r"(?<![^/])(?:\.|%2[eE]){1,2}(?![^/])")


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute HTTP URL in its parts, without a fragment.

    Attributes:
        authority: Whom it goes to.
        path: At least ``/``.
        query: Empty for none.
    """

    authority: Authority
    path: str
    query: str


# A receiver hands over one URL again and again. At most 8 MiB, whatever strangers send; refusals are not remembered.
@lru_cache(maxsize=1024)
def read_url(url: str) -> Url:
    """Read a URL strictly. Its fragment and an empty query are dropped, an empty path is ``/``.

    Raises:
        EgressRefused: No policy allows it; the message quotes neither path nor query nor userinfo.
    """
    if len(url) > MAX_LENGTH:
        raise _refused(f"the URL is longer than {MAX_LENGTH} characters", "shorten it")
    split = HttpUrl.of(url)
    if split.authority.scheme not in ("http", "https"):
        raise _refused(f"the scheme {excerpt(split.authority.scheme)} is not HTTP", "write https")
    path, _, query = split.target.decode("ascii").partition("?")
    if (illegal := illegal_in_path(path)) is not None:
        raise _refused(f"the URL's path has an illegal character, {excerpt(path[illegal])}", "percent-encode it")
    if (illegal := illegal_in_query(query)) is not None:
        raise _refused(f"the URL's query has an illegal character, {excerpt(query[illegal])}", "percent-encode it")
    if dot_segment(path) is not None:
        raise _refused("the URL's path has a . or .. segment", "write the path that it leads to")
    return Url(split.authority, path, query)


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


def _refused(rule: str, instead: str) -> EgressRefused:
    return EgressRefused(rule, f"no policy allows it: {instead}")

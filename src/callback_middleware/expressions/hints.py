"""What somebody probably meant by an expression that is none.

A hint is a guess, but never a wrong turn: it is an expression of the specification's grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_KEYWORDS: Final = {"$url": "$url", "$method": "$method", "$statuscode": "$statusCode", "$status_code": "$statusCode"}
_NAME: Final = r'(?P<name>[^"\\\x00-\x1f]+)'

# Tried in order, in any case; the first that fits the whole expression says what was meant.
_MEANT: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), meant)
    for pattern, meant in (
        (r"\$request\.method", lambda _: "$method"),
        (r"\$request\.(?:url|uri)", lambda _: "$url"),
        (r"\$(?:request|response)\.status(?:_?code)?", lambda _: "$statusCode"),
        (
            r"\$(?P<side>request|response)\.headers?[./](?P<name>[!#$%&'*+.^_`|~0-9a-z-]+)",
            lambda match: f"${match['side'].lower()}.header.{match['name']}",
        ),
        (
            rf"\$(?:request|response)\.(?:query(?:_?params?|_?string)?|queries|params?|args)[./]{_NAME}",
            lambda match: f"$request.query.{match['name']}",
        ),
        (
            rf"\$(?:request|response)\.path(?:_?params?|s)?[./]{_NAME}",
            lambda match: f"$request.path.{match['name']}",
        ),
        (
            r"\$(?P<side>request|response)\.(?:body|json|form)[#./]*(?P<steps>[^#~/.][^~?&]*)?",
            lambda match: f"${match['side'].lower()}.body{_pointer(match['steps'] or '')}",
        ),
    )
)
_DOTTED: Final = re.compile(r"[A-Za-z0-9_.\[\]#/-]*")


def meant_by(expression: str) -> str | None:
    """The expression of the ABNF that was probably meant by ``expression``, which begins with ``$``; or None."""
    keyword = _KEYWORDS.get(expression.lower())
    if keyword is not None:
        return keyword
    matches = ((pattern.fullmatch(expression), meant) for pattern, meant in _MEANT)
    return next((meant(match) for match, meant in matches if match is not None), None)


def _pointer(steps: str) -> str:
    """``lines[0].sku`` as ``#/lines/0/sku``; what is no such path stands as it is."""
    if _DOTTED.fullmatch(steps) is None:
        return "#/" + steps
    return "".join(("#/" if index == 0 else "/") + step for index, step in enumerate(re.findall(r"[\w-]+", steps)))

"""What evaluating a runtime expression comes to: a value, null, or missing; and why nothing came of it.

Missing is not null, and neither is the empty string.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Value: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, a list or a dict of them."""

_LONGEST_EXCERPT: Final = 256


class Missing(enum.Enum):
    """The type of :data:`MISSING`: there is no value, not even null. It is false."""

    MISSING = enum.auto()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = Missing.MISSING


class Reason(enum.StrEnum):
    """Why a callback is not sent. Operators filter by these words, so they do not change."""

    NOT_REQUESTED = "not requested"
    UNRESOLVED = "unresolved"
    REFUSED = "refused"
    NO_PAYLOAD = "no payload"
    INVALID_PAYLOAD = "invalid payload"
    STATUS = "status"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    NOBODY_SUBSCRIBED = "nobody subscribed"
    BACKLOG_FULL = "backlog full"


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A resolution that failed, as a value.

    Attributes:
        reason: One of the fixed reasons.
        expression: The expression that it hangs on, as written.
        detail: The cause in words. It quotes no body, no query and no userinfo; what it does quote of what a
            stranger typed went through :func:`excerpt`.
    """

    reason: Reason
    expression: str
    detail: str = ""


def excerpt(text: str) -> str:
    """What a stranger typed, fit to be shown: quoted, escaped to printable ASCII, and cut to 256 characters."""
    # Cut before escaping too: the text may be megabytes.
    escaped = ascii(text[:_LONGEST_EXCERPT])
    if len(escaped) <= _LONGEST_EXCERPT:
        return escaped
    return escaped[: _LONGEST_EXCERPT - 3] + "..."

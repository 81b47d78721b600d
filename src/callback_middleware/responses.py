"""What a callback declares of its receiver's answer, and how an answer differs from it (OpenAPI 3.2, Responses Object).

An answer is judged by its status, then its media type, then its body, as far as each is declared and known. What a
receiver sends is a stranger's text: nothing of it is repeated but the status.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from callback_middleware.bodies.media_types import parse_media_type

_BODILESS: Final = frozenset({204, 205})
"""Successes that have no body (RFC 9110, sections 15.3.5 and 15.3.6)."""

_SHOWN: Final = 10


class AnswerCheck(Protocol):
    """Judges the answers that accept a callback."""

    def __call__(self, status: int, media_type: str | None, body: bytes | None) -> str | None:
        """How an answer differs from what is declared, as one short sentence; None where it does not.

        Args:
            status: From 200 to 299.
            media_type: The ``Content-Type`` as it came, or None.
            body: The whole of it; None where that is not known, and then it is not judged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """One media type that a response may have (OpenAPI 3.2, Media Type Object).

    Attributes:
        media_type: It, or a range of them: ``text/*``, ``*/*``.
        check: Says how a body differs from what is declared, or None; None for a body that is not looked into.
    """

    media_type: str
    check: Callable[[bytes], str | None] | None = None

    def covers(self, media_type: str) -> bool:
        """Whether a media type is this one; parameters do not count."""
        declared, given = parse_media_type(self.media_type)[0], parse_media_type(media_type)[0]
        return declared in ("*/*", given) or (declared.endswith("/*") and given.startswith(declared[:-1]))


class Responses:
    """What one callback declares, an :class:`AnswerCheck`.

    A success of a status that is not declared differs. A response without contents says nothing of its body, and any
    will do; one with several takes a body that fits any of those of its media type. An answer that does not say what
    it is may be any of them.

    Args:
        declared: Contents by status: ``"200"``, ``"2XX"``, ``"default"``; the most specific one counts.
    """

    def __init__(self, declared: Mapping[str, Sequence[Content]]) -> None:
        self._declared = {_key(status): tuple(contents) for status, contents in declared.items()}

    def __call__(self, status: int, media_type: str | None, body: bytes | None) -> str | None:
        for key in (str(status), f"{status // 100}XX", "default"):
            if key in self._declared:
                break
        else:
            return f"answered {status}; declared: {_listed(sorted(self._declared)) or 'no status'}"
        contents = self._declared[key]
        if not contents or status in _BODILESS:
            return None
        # Frameworks write a content type beside no content, too.
        if media_type is not None and body != b"":
            contents = tuple(one for one in contents if one.covers(media_type))
            if not contents:
                types = dict.fromkeys(one.media_type for one in self._declared[key])
                return f"the body is of another media type; declared: {_listed(list(types))}"
        return None if body is None else _problem(contents, body)


def any_of(checks: Sequence[AnswerCheck]) -> AnswerCheck:
    """Where one of several declarations holds and nobody can tell which: what fits any of them fits."""
    if len(checks) == 1:
        return checks[0]

    def check(status: int, media_type: str | None, body: bytes | None) -> str | None:
        problems = [one(status, media_type, body) for one in checks]
        return None if None in problems else problems[0]

    return check


def _problem(contents: Sequence[Content], body: bytes) -> str | None:
    problems = [None if one.check is None else one.check(body) for one in contents]
    return None if None in problems else problems[0]


def _key(status: str) -> str:
    return status.upper() if re.fullmatch("[1-5][xX]{2}", status) else status.lower()


def _listed(declared: Sequence[str]) -> str:
    return ", ".join(declared[:_SHOWN]) + (", …" if len(declared) > _SHOWN else "")

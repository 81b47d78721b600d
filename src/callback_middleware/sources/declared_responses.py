"""What sources find declared of a receiver's answer, as the core judges it (OpenAPI 3.2, Responses Object)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from callback_middleware import jsontext
from callback_middleware.responses import Content, Responses
from callback_middleware.sources.encoding import is_json
from callback_middleware.sources.references import Place, References
from callback_middleware.sources.schemas import Check
from callback_middleware.values import excerpt

_SUCCESS: Final = re.compile(r"2\d\d|2[xX]{2}|default")

MediaTypeCheck = Callable[[Place], Check | None]
"""The check that a Media Type Object asks for; None if there is none, or nothing to check it with."""


def json_content(media_type: str, check: Check | None) -> Content:
    """A content that says of what it is. JSON must be JSON, whatever else is asked; other media types are not read.

    Args:
        media_type: It, or a range.
        check: Asked about JSON; it says what is wrong in words that repeat nothing, or None.
    """
    if is_json(media_type):
        return Content(media_type, _judge(media_type, check))
    # Generators write such a range where they do not know that they mean JSON.
    return Content(media_type, None if check is None or not media_type.endswith("*") else _judge(None, check))


def by_schema(check: Check | None) -> Check | None:
    """A schema's check, as an answer's: its problems may have the names of members in them."""
    if check is None:
        return None

    def judge(value: object) -> str | None:
        problem = check(value)
        return None if problem is None else f"the body does not fit its schema: {excerpt(problem)}"

    return judge


def responses(declared: Mapping[str, Sequence[Content]]) -> Responses:
    """These contents by status, less those of failures.

    JSON of which nothing more is said is not meant: generators of documents write it for functions that say nothing
    of what they return, and receivers that answer ``OK`` are right.
    """
    return Responses(
        {
            status: () if all(is_json(one.media_type) and one.check is None for one in contents) else contents
            for status, contents in declared.items()
            if _SUCCESS.fullmatch(status)
        }
    )


def documented_responses(declared: Place, references: References, check: MediaTypeCheck) -> Responses | None:
    """A Responses Object; None for one that is not there.

    Raises:
        DocumentError: A reference that cannot be followed, or something that is no object.
        ConfigurationError: A schema that is none.
    """
    members = dict(references.follow(declared).members())
    if not members:
        return None
    return responses(
        {
            status: documented_contents(place, references, check)
            for status, place in members.items()
            if _SUCCESS.fullmatch(status)
        }
    )


def documented_contents(response: Place, references: References, check: MediaTypeCheck) -> Sequence[Content]:
    """The contents of a Response Object. Raises as :func:`documented_responses`."""
    return tuple(
        _documented(media_type, references.follow(place), check)
        for media_type, place in references.follow(response).child("content").members()
    )


def _documented(media_type: str, place: Place, check: MediaTypeCheck) -> Content:
    if place.child("schema").value in (None, {}, True):
        return Content(media_type)
    return json_content(media_type, by_schema(check(place)))


def _judge(declared: str | None, check: Check | None) -> Callable[[bytes], str | None]:
    def judge(body: bytes) -> str | None:
        if declared is not None and not body:
            return f"the body is empty; declared: {declared}"
        try:
            value: Any = jsontext.loads(body)
        except ValueError as error:
            return None if declared is None else f"the body cannot be read as JSON ({error})"
        return None if check is None else check(value)

    return judge

"""Which of a document's paths a request is for (OpenAPI 3.2, Paths Object)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

_PARAMETER: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(slots=True)
class _Step(Generic[T]):
    """What may follow one segment of a path."""

    literal: dict[str, _Step[T]] = field(default_factory=dict)
    templated: list[tuple[re.Pattern[str], str, _Step[T]]] = field(default_factory=list)
    ends: list[tuple[Sequence[str], T]] = field(default_factory=list)


class PathTable(Generic[T]):
    """Path templates, and what belongs to each. Concrete segments go before templated ones, from the left."""

    def __init__(self) -> None:
        self._root: _Step[T] = _Step()

    def add(self, template: str, value: T) -> None:
        """Add a path template; of equal ones the first wins."""
        step = self._root
        names: list[str] = []
        for segment in template.split("/"):
            names += _PARAMETER.findall(segment)
            step = _next(step, segment)
        step.ends.append((tuple(names), value))

    def find(self, segments: Sequence[str]) -> Iterator[tuple[T, Mapping[str, str]]]:
        """What belongs to a path, given as its decoded segments, the best first, each with its path parameters."""
        for step, captured in _walk(self._root, segments, 0, ()):
            for names, value in step.ends:
                yield value, dict(zip(names, captured, strict=True))


def segments_of(scope: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The decoded segments of a request's path, ``%2F`` within its segment: as it is; as it came, if that differs."""
    # Litestar takes the slash off the end before its handler runs.
    path: str = scope["path"]
    raw = scope.get("raw_path")
    if not raw:
        return [path.split("/")]
    encoded = raw.partition(b"?")[0].decode("latin-1")
    came = [unquote(segment) for segment in encoded.split("/")]
    return [came] if unquote(encoded) == path else [path.split("/"), came]


def without_base(segments: Sequence[str], base: str) -> Sequence[str] | None:
    """The segments after a base path such as ``/v1``; None if the path is not below it."""
    own = base.rstrip("/").split("/")
    if len(segments) < len(own) or list(segments[: len(own)]) != own:
        return None
    return ["", *segments[len(own) :]] if len(segments) > len(own) else ["", ""]


def _next(step: _Step[T], segment: str) -> _Step[T]:
    if not _PARAMETER.search(segment):
        return step.literal.setdefault(unquote(segment), _Step())
    shape = _PARAMETER.sub("{}", segment)
    for _, known, following in step.templated:
        if known == shape:
            return following
    pattern = "".join(
        "(.+)" if number % 2 else re.escape(unquote(text)) for number, text in enumerate(_PARAMETER.split(segment))
    )
    following = _Step()
    step.templated.append((re.compile(pattern, re.DOTALL), shape, following))
    # The more text a segment fixes, the more concrete it is.
    step.templated.sort(key=lambda entry: -len(entry[1]))
    return following


def _walk(
    step: _Step[T], segments: Sequence[str], position: int, captured: tuple[str, ...]
) -> Iterator[tuple[_Step[T], tuple[str, ...]]]:
    if position == len(segments):
        yield step, captured
        return
    segment = segments[position]
    literal = step.literal.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, position + 1, captured)
    for pattern, _, following in step.templated:
        found = pattern.fullmatch(segment)
        if found is not None:
            yield from _walk(following, segments, position + 1, (*captured, *found.groups()))

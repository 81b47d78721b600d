"""Values as the columns of any database, and back: what the engines that have one write alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

from callback_middleware.destinations import Origin

Pairs: TypeAlias = Sequence[tuple[str, str]]

_SECONDS_OF_A_DAY: Final = 86_400
_MICROSECONDS: Final = 1_000_000


def microseconds(duration: timedelta) -> int:
    """A duration as whole microseconds."""
    return (duration.days * _SECONDS_OF_A_DAY + duration.seconds) * _MICROSECONDS + duration.microseconds


@lru_cache(maxsize=16_384)
def origin_key(origin: Origin) -> int:
    """A signed 64-bit hash: what is claimed in turns is compared by it alone."""
    return int.from_bytes(blake2b(origin.encode(), digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=256)
def pairs_text(pairs: tuple[tuple[str, str], ...]) -> str | None:
    """Headers as a JSON list of pairs; None for none."""
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":")) if pairs else None


@lru_cache(maxsize=256)
def pairs_of(text: str | None) -> tuple[tuple[str, str], ...]:
    """What :func:`pairs_text` wrote."""
    return () if text is None else tuple((name, value) for name, value in json.loads(text))


def tags_text(tags: Mapping[str, str]) -> str | None:
    """Tags as a JSON object; None for none."""
    return json.dumps(dict(tags), ensure_ascii=False, separators=(",", ":")) if tags else None


def tags_of(text: str | None) -> Mapping[str, str]:
    """What :func:`tags_text` wrote."""
    return {} if text is None else json.loads(text)


def storable(text: str) -> str:
    """A text as it is; if it holds half a surrogate pair, which no database takes, with that spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

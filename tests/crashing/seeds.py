"""Where chance begins: told by whoever wants to see a round again, else anew."""

from __future__ import annotations

import os
from collections.abc import Sequence

_VARIABLE = "CRASH_SEED"


def seeds(count: int, *, first: int | None = None) -> Sequence[int]:
    """So many seeds, from ``CRASH_SEED`` on, or from ``first``; without either from one that nobody knows before."""
    given = os.environ.get(_VARIABLE)
    if given is not None:
        first = int(given)
    elif first is None:
        first = int.from_bytes(os.urandom(4))
    return range(first, first + count)

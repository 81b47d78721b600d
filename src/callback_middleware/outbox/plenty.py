"""Who has plenty of room, as of a moment ago: most puts go where nothing is near a bound, and need not ask the file."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final

PLENTY: Final = 1000
"""Who has room for so many more is not looked at before every commit."""

A_WHILE: Final = 1.0
"""Seconds for which that is believed."""


class Plenty:
    """Origins with room for many more, and how many this process may put there without another look.

    What it puts it takes off. What others put meanwhile it does not see, for a second.
    """

    def __init__(self) -> None:
        self._left: dict[int, int] = {}
        self._until = 0.0

    def unsure(self, wanted: Mapping[int, int]) -> Collection[int]:
        """The origins that have to be looked at before so many are put; the others' are taken off."""
        now = time.monotonic()
        if now >= self._until:
            self._left.clear()
            self._until = now + A_WHILE
        left, unsure = self._left, []
        for key, count in wanted.items():
            spare = left.get(key, 0) - count
            if spare < 0:
                unsure.append(key)
            else:
                left[key] = spare
        return unsure

    def learn(self, origin: int, spare: int) -> None:
        """An origin has been looked at."""
        if spare >= PLENTY:
            self._left[origin] = spare

    def forget(self, origin: int) -> None:
        """Something is put there that is not taken off."""
        self._left.pop(origin, None)

"""Waiting for something to become true, woken whenever it may have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

PATIENCE: Final = 60.0
"""Seconds until what should have happened is missed."""

_GLANCE: Final = 0.02
"""Seconds between two looks at what nobody tells."""


class News:
    """Wakes those who wait for something. Of one event loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = anyio.Event()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return as soon as it holds, before anything else happens. Fails if it never does."""
        with anyio.move_on_after(PATIENCE):
            while not holds():
                await self._event.wait()
            return
        raise AssertionError(f"not within {PATIENCE:g} s: {what}")


async def seen(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return when looking again and again shows that it holds. Fails if it never does.

    For what other processes do: nobody tells of it.
    """
    with anyio.move_on_after(PATIENCE):
        while not await look():  # noqa: ASYNC110 - what is looked at is in files
            await anyio.sleep(_GLANCE)
        return
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")

"""What goes on by itself on one event loop, and is waited for when it is to end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from callback_middleware.eventloop import spawn


class Background:
    """Tasks that belong to no task group, until they are over or somebody says that they shall be.

    Attributes:
        over: Set when they are to end. Whoever sleeps waits for it.
    """

    def __init__(self) -> None:
        self.over = anyio.Event()
        self._running = 0
        self._idle = anyio.Event()

    def spawn(self, function: Callable[[], Awaitable[object]]) -> None:
        """Run a function in a task of its own."""
        self._running += 1

        async def counted() -> None:
            try:
                await function()
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        spawn(counted)

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until it is to end."""
        with anyio.move_on_after(seconds):
            await self.over.wait()

    async def end(self, seconds: float) -> None:
        """Have all of them end, and wait for that, so many seconds at most."""
        self.over.set()
        with anyio.move_on_after(seconds):
            while self._running:
                self._idle = anyio.Event()
                await self._idle.wait()

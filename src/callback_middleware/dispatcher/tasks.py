"""The tasks of one round: in no task group, and all seen to their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from callback_middleware.eventloop import spawn


class Tasks:
    """Tasks that end when they are done, or together.

    In no task group: when an event loop is torn down in this very turn, as a test client's is after every request,
    asyncio would say of each task in one that it was never awaited.

    Args:
        failed: Told what a task raised that was not its cancellation.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._scopes: set[anyio.CancelScope] = set()
        self._over = False
        self._landed = anyio.Event()

    def begin(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run a function in a task of its own."""
        spawn(partial(self._task, function))

    async def end(self, seconds: float) -> None:
        """Cancel all tasks and see them end, so that none does anything afterwards; those not begun do nothing.

        One that swallows cancellation is not waited for longer than so many seconds.
        """
        self._over = True
        for scope in self._scopes:
            scope.cancel()
        with anyio.move_on_after(seconds, shield=True):
            while self._scopes:
                self._landed = anyio.Event()
                await self._landed.wait()

    async def _task(self, function: Callable[[], Awaitable[None]]) -> None:
        if self._over:
            return
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                await function()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - whoever began it decides what it means
            self._failed(error)
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._landed.set()

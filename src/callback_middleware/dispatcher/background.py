"""Dispatching beside an application: on each event loop that it is served on, and in none of its task groups."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from callback_middleware.dispatcher import GRACE, Dispatcher
from callback_middleware.eventloop import LoopLocal, spawn

logger = logging.getLogger("callback_middleware")


class Background:
    """At most one dispatcher on each event loop, made by ``new`` when it is needed."""

    def __init__(self, new: Callable[[], Dispatcher]) -> None:
        self._new = new
        self._dispatchers: LoopLocal[Dispatcher] = LoopLocal()

    def start(self) -> None:
        """Dispatch on the running event loop, unless that happens already."""
        if self._dispatchers.get() is not None:
            return
        dispatcher = self._new()
        self._dispatchers.set(dispatcher)
        # Not in a task group: there is none where the server serves no lifespan, and one way is enough.
        spawn(partial(self._run, dispatcher))

    async def stop(self) -> None:
        """Let attempts in flight on the running event loop end, within the grace period, and hand the rest back."""
        dispatcher = self._dispatchers.get()
        if dispatcher is not None:
            # Whoever watches a deploy that takes its time should know why.
            logger.info("stopping: attempts in flight have %d s to end", GRACE.total_seconds())
            await dispatcher.drain()
            self._dispatchers.set(None)

    async def _run(self, dispatcher: Dispatcher) -> None:
        # It may have been stopped before it began.
        if self._dispatchers.get() is not dispatcher:
            return
        try:
            await dispatcher.run()
        finally:
            # Whatever ended it, the next start begins anew.
            if self._dispatchers.get() is dispatcher:
                self._dispatchers.set(None)

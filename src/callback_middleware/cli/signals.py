"""The signals that end a process, and how politely."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from callback_middleware.eventloop import Caller

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""Ctrl-C, what service managers send, and Ctrl-Break on Windows, where nothing sends a SIGTERM that could be heard."""


@contextmanager
def heeding_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Have the first signal call ``stop`` in the running event loop; the second ends the process as it stands.

    In the main thread, and in it alone. Not with the event loop's own handlers, which asyncio has not on Windows, and
    which nothing hears once the loop hangs.
    """
    caller = Caller()

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        for one in SIGNALS:
            signal.signal(one, _end)
        caller.call(stop)

    before = {one: signal.signal(one, hear) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # pragma: no cover - it ends the process
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    # The first process of a container is deaf to that.
    os._exit(128 + number)

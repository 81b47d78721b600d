"""The one edge where the time is read. Everything else is told it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The time as the operating system has it; a :class:`~callback_middleware.ports.Clock`."""

    def now(self) -> datetime:
        """The current time, aware, in UTC. An operator may set it back."""
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock that the rule sends everybody to

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never goes back."""
        return time.monotonic()

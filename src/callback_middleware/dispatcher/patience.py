"""How a dispatcher bears an outbox that fails."""

from __future__ import annotations

import logging
from typing import Final

from callback_middleware.errors import OutboxError

logger = logging.getLogger("callback_middleware")

_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between two calls to an outbox that fails; the last repeats."""


class Patience:
    """How a failing outbox is borne: told to the log once per spell, and asked less and less often."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """Note a failure. Returns the seconds to wait before the next try."""
        if not self._failures:
            # What an outbox says on purpose is a sentence for its operator; anything else is for a developer.
            surprise = None if isinstance(error, OutboxError) else error
            logger.error("deliveries wait until the outbox works again: %s", error, exc_info=surprise)
        self._failures += 1
        return _PAUSES[min(self._failures, len(_PAUSES)) - 1]

    def worked(self) -> None:
        """Note a success."""
        if self._failures:
            logger.warning("the outbox works again, after %d failures", self._failures)
        self._failures = 0

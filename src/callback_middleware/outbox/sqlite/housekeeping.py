"""What keeps the file small: checkpoints while nobody writes, and old deliveries forgotten, a few at a time."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.sqlite.faults import PATIENCE
from callback_middleware.outbox.sqlite.pruning import prune
from callback_middleware.outbox.sqlite.store import Store

logger = logging.getLogger("callback_middleware")

_REST: Final = 1.0
"""Seconds without a job after which the thread is idle."""

_ROUND: Final = 60.0
"""Seconds between two looks for what is old."""

_LATEST: Final = 10 * _ROUND
"""Seconds after which that does not wait for an idle moment."""

_LARGE_LOG: Final = 32 * 1024 * 1024
"""Bytes of write-ahead log at which readers are waited for, a moment, so that it can begin anew."""

_HUGE_LOG: Final = 2 * _LARGE_LOG
"""Bytes of write-ahead log that an operator is told of."""

_LOG_CHECK: Final = 0.25
"""Seconds between two looks at its size under load."""

_PATIENCE_WITH_READERS: Final = 100
"""Milliseconds."""


@dataclass(slots=True)
class Housekeeping:
    """When to tidy, and how.

    Attributes:
        keep: How long what has ended is kept; None for ever.
    """

    keep: timedelta | None
    _last_write: float = 0.0
    _last_round: float = 0.0
    _last_log_check: float = 0.0
    _unchecked: bool = False
    _more: bool = False
    _told: bool = False

    def wrote(self, now: float) -> None:
        """A job was done."""
        self._last_write = now
        self._unchecked = True

    def pause(self, now: float) -> float | None:
        """Seconds until there is something to do if nothing else happens; None for nothing."""
        if self._unchecked or self._more:
            return max(self._last_write + _REST - now, 0.0)
        return None if self.keep is None else max(self._last_round + _ROUND - now, 0.0)

    def idle(self, now: float) -> bool:
        """Whether there is something to do, and nobody who would wait for it."""
        return self.pause(now) == 0.0

    def overdue(self, now: float) -> bool:
        """Whether it must be done between two jobs."""
        return now >= self._last_log_check + _LOG_CHECK

    def tidy(self, store: Store, now: float) -> None:
        """Do what is due, and no more than a moment's work of it."""
        idle, unchecked, more = self.idle(now), self._unchecked, self._more
        due = more or now >= self._last_round + (_ROUND if idle else _LATEST)
        # Written down before it is done: what fails is not tried again at once, and for ever.
        self._last_log_check = now
        self._more = False
        if idle:
            self._unchecked = False
        if due:
            self._last_round = now
        if self._log_size(store) > _LARGE_LOG:
            _checkpoint(store, "TRUNCATE")
            self._tell(store)
        elif idle and unchecked:
            _checkpoint(store, "PASSIVE")
        if due:
            before = None if self.keep is None else store.ground.now() - microseconds(self.keep)
            self._more = prune(store, before).more

    def _tell(self, store: Store) -> None:
        """Say once that the log cannot begin anew, until it could: SQLite keeps what any reader may still look at."""
        size = self._log_size(store)
        if size > _HUGE_LOG and not self._told:
            logger.warning(
                "the write-ahead log %s has grown to %d MiB: another process has been reading the outbox for long; "
                "end what it reads (a shell with an open transaction, a backup that hangs)",
                *(store.log, size // 2**20),
            )
        self._told = size > _HUGE_LOG

    def _log_size(self, store: Store) -> int:
        try:
            return os.stat(store.log).st_size  # noqa: PTH116 - a plain call
        except OSError:
            return 0


def _checkpoint(store: Store, how: str) -> None:
    store.run(f"PRAGMA busy_timeout = {_PATIENCE_WITH_READERS}")
    try:
        store.fetch(f"PRAGMA wal_checkpoint({how})")
    finally:
        store.run(f"PRAGMA busy_timeout = {round(PATIENCE * 1000)}")

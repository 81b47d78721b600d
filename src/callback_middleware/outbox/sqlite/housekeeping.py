"""What keeps the file small: checkpoints while nobody writes, and old deliveries forgotten, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from callback_middleware.outbox.sqlite.rows import microseconds
from callback_middleware.outbox.sqlite.store import Store

AT_ONCE: Final = 500
"""Rows forgotten in one transaction: no put waits for more."""

_REST: Final = 1.0
"""Seconds without a job after which the thread is idle."""

_ROUND: Final = 60.0
"""Seconds between two looks for what is old."""

_LATEST: Final = 10 * _ROUND
"""Seconds after which that does not wait for an idle moment."""

_LARGE_LOG: Final = 32 * 1024 * 1024
"""Bytes of write-ahead log at which readers are waited for, a moment, so that it can begin anew."""

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
        idle = self.idle(now)
        self._last_log_check = now
        if self._log_size(store) > _LARGE_LOG:
            _checkpoint(store, "TRUNCATE")
        elif idle and self._unchecked:
            _checkpoint(store, "PASSIVE")
        if idle:
            self._unchecked = False
        due = self._more or now >= self._last_round + (_ROUND if idle else _LATEST)
        if self.keep is not None and due:
            self._last_round = now
            self._more = prune(store, store.ground.now() - microseconds(self.keep), AT_ONCE) >= AT_ONCE

    def _log_size(self, store: Store) -> int:
        try:
            return os.stat(f"{store.path}-wal").st_size  # noqa: PTH116 - a plain call
        except OSError:
            return 0


def prune(store: Store, before: int, limit: int) -> int:
    """Forget what ended before an instant; at most ``limit`` results. Returns how many deliveries are forgotten."""
    rows: Sequence[tuple[int, int, int]] = store.fetch(
        "SELECT rowid, delivery, ended_at FROM result ORDER BY rowid LIMIT ?", (limit,)
    )
    old = []
    for rowid, delivery, ended_at in rows:
        # They stand in the order in which they ended.
        if ended_at >= before:
            break
        old.append((rowid, delivery))
    with store.transaction():
        store.connection.executemany("DELETE FROM result WHERE rowid = ?", [(rowid,) for rowid, _ in old])
        # One that was replayed is kept for as long as its last run.
        gone = [
            (delivery,)
            for (delivery,) in {(delivery,) for _, delivery in old}
            if not store.fetch(
                "SELECT 1 FROM queue WHERE seq = ? UNION ALL SELECT 1 FROM result WHERE delivery = ?",
                (delivery, delivery),
            )
        ]
        store.connection.executemany("DELETE FROM attempt WHERE delivery = ?", gone)
        store.connection.executemany("DELETE FROM delivery WHERE seq = ?", gone)
        store.run("DELETE FROM dedupe WHERE until <= ?", (store.ground.now(),))
        store.run(
            "DELETE FROM subscription WHERE seq IN (SELECT seq FROM subscription "
            "WHERE ended_at < ? OR expires_at < ? LIMIT ?)",
            (before, before, limit),
        )
    store.run(f"PRAGMA incremental_vacuum({limit})").fetchall()
    return len(gone)


def _checkpoint(store: Store, how: str) -> None:
    store.run(f"PRAGMA busy_timeout = {_PATIENCE_WITH_READERS}")
    try:
        store.fetch(f"PRAGMA wal_checkpoint({how})")
    finally:
        store.run("PRAGMA busy_timeout = 4000")

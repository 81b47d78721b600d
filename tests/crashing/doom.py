"""How a process comes to kill itself at one named moment, with enough requests in flight."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from crashing.journal import Journal
from crashing.settings import Moment, Settings

_LOOK: Final = 0.02
"""Seconds for which an event loop is held still to see a commit."""


class Doom:
    """Waits for one moment, and kills the process there, or stops it.

    Args:
        settings: Which moment, and what else must be so.
        journal: Told before.

    Attributes:
        requests: Those in flight; counted by whoever sees them.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.requests = 0
        self._settings = settings
        self._journal = journal
        self._passages_left = settings.passage

    def at(self, moment: Moment) -> None:
        """Pass a moment; this process may end here."""
        if self.comes(moment):
            self.strike()

    def comes(self, moment: Moment) -> bool:
        """Pass a moment. Whether this process is to end here."""
        if moment is not self._settings.moment:
            return False
        self._passages_left -= 1
        return self._passages_left <= 0 and self.requests >= self._settings.crowd

    def strike(self) -> None:
        """End here as by ``kill -9``, or stop until somebody sends SIGCONT, and then go on for good."""
        self._journal.write("struck", os.getpid(), number=self.requests)
        os.kill(os.getpid(), signal.SIGSTOP if self._settings.stalls else signal.SIGKILL)
        self._settings = replace(self._settings, moment=None)

    def trace_statements(self) -> None:
        """Pass ``INSERTING`` in the middle of every statement that inserts, on every connection from now on."""
        if self._settings.moment is Moment.INSERTING:
            connect = partial(sqlite3.connect, factory=partial(_Traced, self))
            sqlite3.connect = connect  # type: ignore[assignment]  # it takes what it is called with


class _Traced(sqlite3.Connection):
    """A connection that tells when a statement is half done.

    SQLite traces a statement when it begins, and again whenever it enters a trigger, in the words of the whole.
    """

    def __init__(self, doom: Doom, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._doom = doom
        self._last = ""
        self.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        if statement == self._last and statement.startswith("INSERT"):
            self._doom.at(Moment.INSERTING)
        self._last = statement


class CommitWatch:
    """Sees commits to an SQLite file from outside, while the caller holds its event loop still.

    The file's log changes when a commit begins, and other connections see the commit when it is over. What has begun
    since the last look is seen, too.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(f"{path}-wal")
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._version, self._log = self._read_version(), self._read_log()

    def running(self) -> bool:
        """Whether a commit has begun, and is not over."""
        until = time.monotonic() + _LOOK
        while time.monotonic() < until:
            # In this order: what was begun before the version is read, and is not in it, is not over.
            log, over = self._read_log(), self._over()
            if log != self._log and not over:
                return True
        return False

    def committed(self) -> bool:
        """Whether a commit was made while it looked."""
        self._over()
        until = time.monotonic() + _LOOK
        while time.monotonic() < until:
            if self._over():
                return True
        return False

    def _over(self) -> bool:
        """Whether a commit was made since it was asked last."""
        version = self._read_version()
        if version == self._version:
            return False
        self._version, self._log = version, self._read_log()
        return True

    def _read_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _read_log(self) -> tuple[int, int]:
        state = self._path.stat()
        return state.st_size, state.st_mtime_ns

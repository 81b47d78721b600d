"""An open file, and its transactions. Of one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from callback_middleware.backlog import BacklogLimits
from callback_middleware.outbox.sqlite.faults import certain, doubt, is_failure, meaning
from callback_middleware.outbox.sqlite.file import open_writer
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.statements import Statements


class Store(Statements):
    """The one connection that writes. It is in autocommit mode: what is not in a :meth:`transaction` commits by itself.

    Attributes:
        log: Where its write-ahead log is: beside the file itself, not beside a link to it.
        cursor: The origin that was claimed from last; where the next claim goes on.
        next_due: When something that was not due comes due, as far as the last claim saw; None for nothing.
    """

    def __init__(self, path: Path, ground: Ground, limits: BacklogLimits | None = None) -> None:
        super().__init__(path, open_writer(path), ground, limits)
        self._name = os.fspath(path)
        self.log = f"{os.path.realpath(path)}-wal"
        self.cursor = 0
        self.next_due: int | None = None
        self._identity = _identity(self._name)
        self._log_identity = _identity(self.log)

    def close(self) -> None:
        self.connection.close()

    def check_file(self) -> None:
        """Refuse to write into a file that nobody will find again.

        Raises:
            OutboxUnavailable: It was removed or replaced while it was open.
        """
        if _identity(self._name) != self._identity:
            raise certain(
                self.path,
                "it was removed or replaced while it was in use, with all that it held",
                "put it back if it still exists; a new one is made for what comes",
            )
        if _identity(self.log) != self._log_identity:
            raise certain(
                self.path,
                f"its write-ahead log {self.log} was removed or replaced while it was in use, with what was new in it",
                "put it back if it still exists, and leave it to SQLite; a new one is made for what comes",
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that may write from its beginning: one that began by reading could not wait for a writer.

        Raises:
            OutboxUnavailable: It was certainly rolled back.
            OutboxUncertain: The commit failed in a way that a recovery may undo.
        """
        connection = self.connection
        self._unsure.clear()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise meaning(self.path, error) from error
        try:
            yield
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, sqlite3.Error) and is_failure(error):
                raise meaning(self.path, error) from error
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            raise doubt(self.path, error) from error

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Commits within it need not survive a power cut; they survive everything else, and keep their order."""
        self.connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self.connection.execute("PRAGMA synchronous = FULL")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a plain call: it is made for every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is of no more use; whoever sees the first error opens the file afresh.
            return

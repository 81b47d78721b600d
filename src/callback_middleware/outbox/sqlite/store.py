"""An open file, its transactions, and what is remembered of it between them. Of one thread."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callback_middleware.backlog import BacklogLimits
from callback_middleware.outbox.sqlite.faults import certain, doubt, is_failure, meaning
from callback_middleware.outbox.sqlite.file import open_writer
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.plenty import Plenty
from callback_middleware.retry import RetryPolicy


class Store:
    """The one connection that writes.

    Attributes:
        log: Where its write-ahead log is: beside the file itself, not beside a link to it.
        connection: In autocommit mode: what is not in a :meth:`transaction` commits by itself.
        ground: Says what time it is.
        limits: How many deliveries may be live; None for as many as come.
        plenty: Where many more find room.
        cursor: The origin that was claimed from last; where the next claim goes on.
        next_due: When something that was not due comes due, as far as the last claim saw; None for nothing.
    """

    def __init__(self, path: Path, ground: Ground, limits: BacklogLimits | None = None) -> None:
        self.path = path
        self._name = os.fspath(path)
        self.log = f"{os.path.realpath(path)}-wal"
        self.ground = ground
        self.limits = limits
        self.plenty = Plenty()
        self.connection = open_writer(path)
        self.cursor = 0
        self.next_due: int | None = None
        self._identity = _identity(self._name)
        self._log_identity = _identity(self.log)
        self._retry_ids: dict[RetryPolicy, int] = {}
        self._policies: dict[int, RetryPolicy] = {}
        # Made by the transaction that is under way. If that is rolled back, their numbers become others'.
        self._unsure: set[int] = set()

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

    def fetch(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows at once: a cursor left open would keep the write-ahead log from being reset."""
        return self.connection.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement, parameters)

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

    def retry_id(self, policy: RetryPolicy) -> int:
        """The row of a retry policy, made if there is none."""
        number = self._retry_ids.get(policy)
        if number is not None:
            return number
        text = json.dumps(policy.as_dict(), sort_keys=True)
        found = self.fetch("SELECT id FROM retry WHERE policy = ?", (text,))
        if found:
            ((number,),) = found
        else:
            number = self.run("INSERT INTO retry (policy) VALUES (?)", (text,)).lastrowid or 0
            if self.connection.in_transaction:
                self._unsure.add(number)
        if number not in self._unsure:
            self._retry_ids[policy] = number
        return number

    def policy(self, number: int) -> RetryPolicy:
        """The retry policy of a row."""
        policy = self._policies.get(number)
        if policy is None:
            policy = read_policy(self.connection, number)
            if number not in self._unsure:
                self._policies[number] = policy
        return policy


def read_policy(connection: sqlite3.Connection, number: int) -> RetryPolicy:
    """The retry policy of a row."""
    ((text,),) = connection.execute("SELECT policy FROM retry WHERE id = ?", (number,)).fetchall()
    return RetryPolicy.from_dict(json.loads(text))


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

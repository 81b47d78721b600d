"""A second connection, which only reads: a search must not hold up a put."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from callback_middleware.outbox.sqlite.faults import is_failure, meaning
from callback_middleware.outbox.sqlite.file import open_reader
from callback_middleware.outbox.sqlite.store import read_policy
from callback_middleware.retry import RetryPolicy

T = TypeVar("T")


class Reader:
    """One question at a time, from any thread; each sees the file as it is at one moment.

    The file is opened for every question: operators ask seldom, and a connection that is kept would have to be told
    of every file that is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def ask(self, question: Callable[[sqlite3.Connection, Callable[[int], RetryPolicy]], T]) -> T:
        """Answer a question. Blocks.

        Raises:
            OutboxUnavailable: The file cannot be read.
        """
        try:
            with self._lock, closing(open_reader(self._path)) as connection:
                policies: dict[int, RetryPolicy] = {}

                def policy(number: int) -> RetryPolicy:
                    if number not in policies:
                        policies[number] = read_policy(connection, number)
                    return policies[number]

                connection.execute("BEGIN")
                return question(connection, policy)
        except sqlite3.Error as error:
            if is_failure(error):
                raise meaning(self._path, error) from error
            raise

"""A second connection, which only reads: a search must not hold up a put."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import anyio.to_thread

from callback_middleware.eventloop import LoopLocal
from callback_middleware.outbox.sqlite.faults import is_failure, meaning
from callback_middleware.outbox.sqlite.file import open_reader
from callback_middleware.outbox.sqlite.statements import POLICY, policy_of
from callback_middleware.retry import RetryPolicy

T = TypeVar("T")

Policies: TypeAlias = Callable[[int], RetryPolicy]
Question: TypeAlias = Callable[[sqlite3.Connection, Policies], T]

MOST_AT_ONCE: Final = 4
"""Questions of one event loop: a thread each, and an application has other uses for its threads."""


class Reader:
    """Answers questions, from any thread; each statement sees the file as it is at one moment.

    The file is opened for every question: operators ask seldom, and a connection that is kept would have to be told
    of every file that is replaced, and of every fork.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asking = 0
        self._coming_and_going = threading.Condition()
        self._limiters: LoopLocal[anyio.CapacityLimiter] = LoopLocal()

    async def answer(self, question: Question[T]) -> T:
        """Answer a question in a thread of its own, while others are asked; a few at a time.

        Raises:
            OutboxUnavailable: The file cannot be read.
        """
        limiter = self._limiters.get()
        if limiter is None:
            limiter = anyio.CapacityLimiter(MOST_AT_ONCE)
            self._limiters.set(limiter)
        return await anyio.to_thread.run_sync(self.ask, question, limiter=limiter)

    def ask(self, question: Question[T]) -> T:
        """As :meth:`answer`, in the thread that asks."""
        with self._counted():
            try:
                with closing(open_reader(self._path)) as connection:
                    return question(connection, _policies(connection))
            except sqlite3.Error as error:
                if is_failure(error):
                    raise meaning(self._path, error) from error
                raise

    def rest(self, timeout: float) -> bool:
        """Let no question in, and those that are asked come to their end. False if one has not after ``timeout``."""
        self._coming_and_going.acquire()
        return self._coming_and_going.wait_for(lambda: not self._asking, timeout)

    def go_on(self) -> None:
        """The rest is over."""
        self._coming_and_going.release()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._coming_and_going:
            self._asking += 1
        try:
            yield
        finally:
            with self._coming_and_going:
                self._asking -= 1
                self._coming_and_going.notify_all()


def _policies(connection: sqlite3.Connection) -> Policies:
    """Retry policies by their rows, each read once."""
    known: dict[int, RetryPolicy] = {}

    def policy(number: int) -> RetryPolicy:
        if number not in known:
            known[number] = policy_of(connection.execute(POLICY, (number,)).fetchall())
        return known[number]

    return policy

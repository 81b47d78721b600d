"""The one thread that writes, and what it does between two jobs: look for others' news, tidy, try again."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from callback_middleware.errors import OutboxError, OutboxUnavailable
from callback_middleware.outbox.sqlite.faults import breaks_connection, is_failure, meaning
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.housekeeping import Housekeeping
from callback_middleware.outbox.sqlite.store import Store

logger = logging.getLogger("callback_middleware")

LOOK: Final = 0.05
"""Seconds between two looks for what other processes wrote, while somebody waits for news."""

PROBE: Final = 1.0
"""Seconds between two tries of a file that failed."""


class Job(Protocol):
    """Something that the thread does."""

    def run(self, store: Store) -> None:
        """Do it. What it raises is its failure."""
        ...

    def done(self, error: Exception | None) -> None:
        """It is over: tell whoever waits. In the writer's thread."""
        ...


class News(Protocol):
    """Who wants to know that something may be due."""

    def awaited(self) -> bool:
        """Whether anybody waits."""
        ...

    def tell(self, due: int) -> None:
        """Something is due at this instant that was not before."""
        ...

    def tell_all(self) -> None:
        """Anything may have changed."""
        ...


class Writer:
    """Does jobs in their order, in one thread, which is there from the first job until it is closed.

    Attributes:
        outage: What the file failed with last, until it works again.
    """

    def __init__(self, path: Path, ground: Ground, news: News, housekeeping: Housekeeping) -> None:
        self.outage: OutboxUnavailable | None = None
        self._path = path
        self._ground = ground
        self._news = news
        self._housekeeping = housekeeping
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._store: Store | None = None
        self._seen = 0
        self._looked = self._probed = 0.0
        thread = threading.Thread(target=self._run, name=f"outbox {path}", daemon=True)
        thread.start()

    @property
    def next_due(self) -> int | None:
        """When something comes due by itself, as far as the last claim saw."""
        store = self._store
        return None if store is None else store.next_due

    def submit(self, job: Job) -> None:
        """Have a job done. From any thread; it does not wait."""
        self._jobs.put(job)

    def close(self) -> None:
        """Have the thread end after the jobs that were submitted before."""
        self._jobs.put(None)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._pause())
            except Empty:
                self._between()
                continue
            if job is None:
                break
            self._do(job)
            if self._housekeeping.overdue(time.monotonic()):
                self._tidy()
        self._drop()

    def _pause(self) -> float | None:
        """Seconds until something is to be done without a job; None for never."""
        now = time.monotonic()
        waits = [self._housekeeping.pause(now)] if self._store is not None else []
        if self._store is not None and self._news.awaited():
            waits.append(self._looked + LOOK - now)
        if self.outage is not None:
            waits.append(self._probed + PROBE - now)
        known = [wait for wait in waits if wait is not None]
        return max(min(known), 0.0) if known else None

    def _do(self, job: Job) -> None:
        error: Exception | None = None
        try:
            job.run(self._opened())
        except Exception as raised:  # noqa: BLE001 - it is the job's, and told to whoever waits for that
            error = self._failed(raised)
        else:
            self._works()
            self._housekeeping.wrote(time.monotonic())
        job.done(error)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._path, self._ground)
            self._seen = 0
        return self._store

    def _failed(self, error: Exception) -> Exception:
        """What an error of SQLite or the file means; anything else is what it is."""
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if isinstance(error, sqlite3.Error) and is_failure(error):
            error = meaning(self._path, error)
        if not isinstance(error, OutboxError):
            return error
        if isinstance(error, OutboxUnavailable):
            if self.outage is None:
                logger.error("%s", error)
            self.outage = error
            self._probed = time.monotonic()
        if not isinstance(cause, sqlite3.Error) or breaks_connection(cause):
            self._drop()
        return error

    def _works(self) -> None:
        if self.outage is not None:
            logger.warning("the outbox %s works again", self._path)
            self.outage = None
            self._news.tell_all()

    def _between(self) -> None:
        now = time.monotonic()
        if self.outage is not None and now >= self._probed + PROBE:
            self._probed = now
            self._do(_Probe())
        if self._store is not None and self._news.awaited() and now >= self._looked + LOOK:
            self._looked = now
            self._look(self._store)
        if self._housekeeping.idle(now):
            self._tidy()

    def _look(self, store: Store) -> None:
        """Tell those who wait if another process has written."""
        try:
            ((version,),) = store.fetch("PRAGMA data_version")
        except sqlite3.Error as error:
            self._failed(error)
            return
        if version != self._seen:
            self._seen = version
            self._news.tell_all()

    def _tidy(self) -> None:
        if self._store is None:
            return
        try:
            self._housekeeping.tidy(self._store, time.monotonic())
        except Exception as error:  # noqa: BLE001 - it is tried again later, and no caller is concerned
            logger.warning("tidying the outbox %s failed: %s", self._path, self._failed(error))

    def _drop(self) -> None:
        """Close the file; the next job opens it."""
        store, self._store = self._store, None
        if store is None:
            return
        try:
            store.close()
        except sqlite3.Error as error:
            logger.warning("closing the outbox %s failed: %s", self._path, error)


class _Probe:
    """Sees whether the file takes writes again."""

    def run(self, store: Store) -> None:
        with store.transaction():
            store.run(
                "INSERT INTO clock (id, boot, ahead) VALUES (1, '', 0) ON CONFLICT DO UPDATE SET checked = checked + 1"
            )

    def done(self, error: Exception | None) -> None:
        """Nobody waits; whether it works is written down by the writer."""

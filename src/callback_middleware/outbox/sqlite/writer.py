"""The one thread that writes, and what it does between two jobs: look for others' news, tidy, try again."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from callback_middleware.backlog import BacklogLimits
from callback_middleware.errors import OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.sqlite.faults import breaks_connection, is_failure, meaning, primary_code
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.housekeeping import Housekeeping
from callback_middleware.outbox.sqlite.jobs import Job, News
from callback_middleware.outbox.sqlite.mounts import has_room
from callback_middleware.outbox.sqlite.orders import Orders
from callback_middleware.outbox.sqlite.store import Store

logger = logging.getLogger("callback_middleware")

LOOK: Final = 0.05
"""Seconds between two looks for what other processes wrote, while somebody waits for news."""

ROOM: Final = 1024 * 1024
"""Bytes that a disk which was full must have to spare before it is believed."""

PROBE: Final = 1.0
"""Seconds between two tries of a file that failed."""


class Rest:
    """A time without an open file: from when it has ``begun`` until it is ``over``."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()


class Writer:
    """Does jobs in their order, in one thread, which is there until it is closed.

    Args:
        path: The file.
        ground: Says what time it is.
        news: Told what other processes wrote.
        housekeeping: Done in between.
        limits: How many deliveries may be live; None for as many as come.

    Attributes:
        outage: What the file failed with last, until it works again.
    """

    def __init__(
        self,
        path: Path,
        ground: Ground,
        news: News,
        housekeeping: Housekeeping,
        limits: BacklogLimits | None = None,
    ) -> None:
        self.outage: OutboxUnavailable | None = None
        self._full = False
        self._path = path
        self._ground = ground
        self._news = news
        self._housekeeping = housekeeping
        self._limits = limits
        self._orders = Orders()
        # Held while an order is given: none comes after the last.
        self._giving = threading.Lock()
        self._closing = self._over = False
        self._closed: list[Callable[[], object]] = []
        self._store: Store | None = None
        self._seen = 0
        self._looked = self._probed = self._worked = 0.0
        self._dozing = False
        self._thread = threading.Thread(target=self._run, name=f"outbox {path}", daemon=True)
        self._thread.start()

    @property
    def next_due(self) -> int | None:
        """When something comes due by itself, as far as the last claim saw."""
        store = self._store
        return None if store is None else store.next_due

    def submit(self, job: Job) -> bool:
        """Have a job done. From any thread; it does not wait. False if it is closed, and the job another writer's."""
        return self._give(partial(self._do, job))

    def watch(self) -> None:
        """Somebody has begun to wait for news."""
        if self._dozing:
            self._orders.put(self._between)

    def rest(self) -> Rest:
        """Have the file closed, after the jobs that were submitted before, and nothing done until the rest is over."""
        rest = Rest()
        if not self._give(partial(self._rest, rest)):
            rest.begun.set()
        return rest

    def close(self, closed: Callable[[], object]) -> None:
        """Have the file closed and the thread end, after all jobs. ``closed`` is called then, in whichever thread."""
        if not self._give(partial(self._close, closed)):
            closed()

    def abandon(self) -> None:
        """As :meth:`close`, and nobody is told. It waits for no lock: it may be called in the middle of anything."""
        self._orders.put(partial(self._close, None))

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, so many seconds at most."""
        self._thread.join(timeout)

    def _give(self, order: Callable[[], object]) -> bool:
        with self._giving:
            if not self._over:
                self._orders.put(order)
            return not self._over

    def _run(self) -> None:
        while not self._over:
            self._turn()
            if self._closing:
                self._end()
        for closed in self._closed:
            closed()

    def _turn(self) -> None:
        """Wait for something to do, and do it. Of its own, so that nothing is kept of it while there is nothing."""
        # Said before it is looked who waits: who begins to wait after that knows that nobody looks.
        self._dozing = True
        pause = self._pause()
        self._dozing = pause is None or pause > LOOK
        order = self._orders.take(pause)
        self._dozing = False
        (order or self._between)()

    def _pause(self) -> float | None:
        """Seconds until something is to be done without an order; None for never."""
        now = time.monotonic()
        waits = [self._housekeeping.pause(now)] if self._store is not None else []
        if self._store is not None and self._news.awaited():
            waits.append(self._looked + LOOK - now)
        elif self._worked > self._looked:
            # Whoever was told of the last job may be about to wait.
            waits.append(self._worked + LOOK - now)
        if self.outage is not None:
            waits.append(self._probed + PROBE - now)
        known = [wait for wait in waits if wait is not None]
        return max(min(known), 0.0) if known else None

    def _do(self, job: Job) -> None:
        error: BaseException | None = None
        try:
            store = self._opened()
            changes = store.connection.total_changes
            job.run(store)
        except BaseException as raised:  # noqa: BLE001 - it is the job's: who waits is told, and the thread goes on
            error = self._failed(raised)
            if self._store is not None and self._store.connection.in_transaction:
                # It could not be rolled back. What comes would be part of it, and not committed.
                self._drop()
        else:
            # What only reads says nothing about a full disk.
            if store.connection.total_changes != changes:
                self._works()
            self._housekeeping.wrote(time.monotonic())
        self._worked = time.monotonic()
        try:
            job.done(error)
        except Exception:
            logger.exception("telling of something that the outbox %s did failed", self._path)
        if self._housekeeping.overdue(self._worked):
            self._tidy()

    def _rest(self, rest: Rest) -> None:
        self._drop()
        rest.begun.set()
        rest.over.wait()

    def _close(self, closed: Callable[[], object] | None) -> None:
        self._closing = True
        if closed is not None:
            self._closed.append(closed)

    def _end(self) -> None:
        """End, unless something was submitted meanwhile."""
        if self._orders.empty():
            self._drop()
            with self._giving:
                self._over = self._orders.empty()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._path, self._ground, self._limits)
            self._seen = 0
        return self._store

    def _failed(self, error: BaseException) -> BaseException:
        """What an error of SQLite or the file means; anything else is what it is."""
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if isinstance(error, sqlite3.Error) and is_failure(error):
            error = meaning(self._path, error)
        if not isinstance(error, OutboxUnavailable | OutboxUncertain):
            return error
        if isinstance(error, OutboxUnavailable):
            if self.outage is None:
                logger.error("%s", error)
            self.outage = error
            self._full = isinstance(cause, sqlite3.Error) and primary_code(cause) == sqlite3.SQLITE_FULL
            self._probed = time.monotonic()
        if not isinstance(cause, sqlite3.Error) or breaks_connection(cause):
            self._drop()
        return error

    def _works(self) -> None:
        # A small write finds room in the log that is there already, on a disk that has none for the next.
        if self.outage is None or (self._full and not has_room(self._path.parent, ROOM)):
            return
        logger.warning("the outbox %s works again", self._path)
        self.outage = None
        self._news.tell_all()

    def _between(self) -> None:
        now = time.monotonic()
        if self.outage is not None and now >= self._probed + PROBE:
            self._probed = now
            self._do(_Probe())
        if now >= self._looked + LOOK:
            self._looked = now
            if self._store is not None and self._news.awaited():
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
            failure = self._failed(error)
            # What is an outage has been told as one.
            if self.outage is None:
                logger.warning("tidying the outbox %s failed: %s", self._path, failure)

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

    def done(self, error: BaseException | None) -> None:
        """Nobody waits; whether it works is written down by the writer."""

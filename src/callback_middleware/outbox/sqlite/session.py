"""The thread that writes, as long as there is one: begun at first use, ended when closed, begun afresh after a fork.

No connection may cross a fork. SQLite keeps count of a process' locks in that process' memory: a child that inherits
the count of an open connection takes no lock for one that it opens itself, and the next process that closes the file
removes the write-ahead log under it, with what it has acknowledged. So every file is closed for the moment of a fork,
and parent and child open it again when they use it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakSet

import anyio

from callback_middleware.backlog import BacklogLimits
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.eventloop import Caller, LoopLocal
from callback_middleware.outbox.newsroom import Newsroom
from callback_middleware.outbox.sqlite.desk import Desk
from callback_middleware.outbox.sqlite.faults import PATIENCE, certain
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.housekeeping import Housekeeping
from callback_middleware.outbox.sqlite.jobs import Job
from callback_middleware.outbox.sqlite.reader import Reader
from callback_middleware.outbox.sqlite.writer import Rest, Writer

LONGEST_REST: Final = PATIENCE + 1
"""Seconds that a fork, or the end of the process, waits for what was handed over: longer than one transaction."""


class Session:
    """What all event loops and threads of this process ask one outbox' file through.

    Args:
        path: Absolute.
        ground: Says what time it is.
        housekeeping: Makes one for every writer.
        limits: How many deliveries may be live; None for as many as come.
    """

    newsroom: Newsroom
    reader: Reader

    _writer: Writer | None
    _writers: WeakSet[Writer]
    _opening: threading.Lock
    _desks: LoopLocal[Desk]

    def __init__(
        self,
        path: Path,
        ground: Ground,
        housekeeping: Callable[[], Housekeeping],
        limits: BacklogLimits | None = None,
    ) -> None:
        self._path = path
        self._ground = ground
        self._housekeeping = housekeeping
        self._limits = limits
        self._abandoned = False
        self._torn: OutboxUnavailable | None = None
        self._begin()
        with _FORK.not_now:
            _SESSIONS.add(self)

    @property
    def outage(self) -> OutboxUnavailable | None:
        """What the file fails with; None while it does not, or is not in use."""
        writer = self._writer
        return self._torn if writer is None else writer.outage

    @property
    def next_due(self) -> int | None:
        """When something comes due by itself, as far as is known."""
        writer = self._writer
        return None if writer is None else writer.next_due

    def desk(self) -> Desk:
        """The running event loop's."""
        desk = self._desks.get()
        if desk is None:
            desk = Desk(self.submit, self.newsroom)
            self._desks.set(desk)
        return desk

    def submit(self, job: Job) -> None:
        """Have a job done, by the writer that there is, or by a new one. From any thread.

        Raises:
            OutboxUnavailable: There can be no writer.
        """
        while not (writer := self._present()).submit(job):
            with self._opening:
                if self._writer is writer:
                    self._writer = None
        if self._abandoned:
            writer.abandon()

    def watch(self) -> None:
        """Somebody has begun to wait for news."""
        self._present().watch()

    async def close(self) -> None:
        """Close the file, after all that this event loop has asked for."""
        desk = self._desks.get()
        if desk is not None:
            await desk.drain()
        with self._opening:
            writer, self._writer = self._writer, None
        if writer is not None:
            closed, caller = anyio.Event(), Caller()
            writer.close(lambda: caller.call(closed.set))
            await closed.wait()

    def abandon(self) -> None:
        """Close the file when all is done that was asked for: nobody will ask any more.

        It waits for no lock: the garbage collector calls it, in the middle of anything.
        """
        self._abandoned = True
        writer = self._writer
        if writer is not None:
            writer.abandon()

    def _begin(self) -> None:
        """With nothing open, and nobody who waits."""
        self._writer = None
        # A thread that is closing its file is one of them still.
        self._writers = WeakSet()
        self._desks = LoopLocal()
        self._opening = threading.Lock()
        self.newsroom = Newsroom()
        self.reader = Reader(self._path)

    def _present(self) -> Writer:
        writer = self._writer
        if writer is not None:
            return writer
        with _FORK.not_now, self._opening:
            if self._writer is None:
                self._writer = self._new_writer()
                self._writers.add(self._writer)
            return self._writer

    def _new_writer(self) -> Writer:
        if self._torn is not None:
            raise OutboxUnavailable(*self._torn.args)
        try:
            return Writer(self._path, self._ground, self.newsroom, self._housekeeping(), self._limits)
        except RuntimeError as error:
            raise certain(
                self._path,
                f"no thread can be started for it ({error})",
                "let this process have one more, and use the outbox before the process ends",
            ) from error

    def _begin_anew(self, *, rested: bool) -> None:
        if not rested:
            # What SQLite remembers here is the parent's: another connection to the same file would trust it.
            _LEFT_BEHIND.append(self.__dict__.copy())
            self._torn = certain(
                self._path,
                f"this process was forked while its parent had been busy with it for {LONGEST_REST:g} s",
                "fork before the outbox is used, or start processes by 'spawn'",
            )
        self._begin()


class _Fork:
    """What happens around a fork: no file is open while it is made.

    Attributes:
        not_now: Held by whoever forks, and for the moment in which a thread that opens a file is begun.
    """

    def __init__(self) -> None:
        self.not_now = threading.Lock()
        self._sessions: Sequence[Session] = ()
        self._rests: Sequence[Rest] = ()
        self._rested = True

    def before(self) -> None:
        self.not_now.acquire()
        until = time.monotonic() + LONGEST_REST
        self._sessions = list(_SESSIONS)
        self._rests = [writer.rest() for session in self._sessions for writer in session._writers]  # noqa: SLF001
        writers = [rest.begun.wait(max(until - time.monotonic(), 0)) for rest in self._rests]
        readers = [session.reader.rest(max(until - time.monotonic(), 0)) for session in self._sessions]
        self._rested = all(writers) and all(readers)

    def after_in_parent(self) -> None:
        sessions, rests = self._sessions, self._rests
        self._sessions = self._rests = ()
        for rest in rests:
            rest.over.set()
        for session in sessions:
            session.reader.go_on()
        self.not_now.release()

    def after_in_child(self) -> None:
        sessions, self._sessions, self._rests = self._sessions, (), ()
        for session in sessions:
            session._begin_anew(rested=self._rested)  # noqa: SLF001
        self.not_now.release()


def _end_all() -> None:
    """Let what was handed over be stored before the process ends."""
    until = time.monotonic() + LONGEST_REST
    with _FORK.not_now:
        writers = [writer for session in _SESSIONS for writer in session._writers]  # noqa: SLF001
    for writer in writers:
        writer.abandon()
    for writer in writers:
        writer.join(max(until - time.monotonic(), 0))


_SESSIONS: Final[WeakSet[Session]] = WeakSet()

_LEFT_BEHIND: Final[list[object]] = []
"""What a forked child must neither use nor close."""

_FORK: Final = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_FORK.before, after_in_parent=_FORK.after_in_parent, after_in_child=_FORK.after_in_child)
atexit.register(_end_all)

"""A durable outbox in one file: no server, several processes, and nothing lost to a crash or a power cut."""

from __future__ import annotations

import logging
import os
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from callback_middleware.backlog import BACKLOG, BacklogLimits
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.errors import ConfigurationError, OutboxError, OutboxUnavailable
from callback_middleware.outbox.gathering import PATIENCE
from callback_middleware.outbox.newsroom import NEVER
from callback_middleware.outbox.sqlite import claims, settles
from callback_middleware.outbox.sqlite.claims import Claimed
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.guests import Guest, connection_of
from callback_middleware.outbox.sqlite.housekeeping import Housekeeping
from callback_middleware.outbox.sqlite.joining import Trace, fate_of, put_in
from callback_middleware.outbox.sqlite.log import Log
from callback_middleware.outbox.sqlite.session import Session
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, Clock, Fate, Joined, PutReport
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

__all__ = ["SQLiteOutbox"]

logger = logging.getLogger("callback_middleware")

KEEP: Final = timedelta(days=30)
"""How long what has ended is kept, unless an outbox is told otherwise."""


class SQLiteOutbox(Log):
    """An :class:`~callback_middleware.ports.Outbox` and its log in an SQLite file.

    What was put survives the process and a power cut: every put is on disk before it returns
    (``synchronous=FULL``), many in one commit. Several processes of one machine may share the file; a worker in a
    process of its own too. One thread of this process writes, and none is started before something is asked for: an
    application server that forks afterwards is no danger.

    It works on asyncio and trio, and on several event loops at once.

    Args:
        path: The file; made, private to its user, where there is none. Its folder must exist, on a local disk.
        keep: How long deliveries are kept that are delivered, dead or cancelled; None for ever. As long it is
            remembered of an origin that has nothing else in the file that it accepted something.
        clock: Says what is due and which leases have ended; default the system's.
        backlog: How many deliveries may be live; None for as many as come, and nobody is a newcomer. Processes that
            share the file count together, and each refuses by its own limits.

    Raises:
        ConfigurationError: The path is no file's, or ``keep`` is negative.
    """

    durable: ClassVar[bool] = True
    patience: ClassVar[float | None] = PATIENCE

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: timedelta | None = KEEP,
        clock: Clock | None = None,
        backlog: BacklogLimits | None = BACKLOG,
    ) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or name.startswith("file:"):
            raise ConfigurationError(
                f"SQLiteOutbox({name!r}) needs the path of a file; MemoryOutbox() is for what may be lost"
            )
        if keep is not None and keep < timedelta():
            raise ConfigurationError(f"SQLiteOutbox(keep={keep!r}) must not be negative")
        # Absolute, because a program may change its folder, and messages should say which file it is.
        self._path = Path(os.path.abspath(name))  # noqa: PTH100 - `resolve` would look at the disk
        self._ground = Ground.of(clock or SystemClock())
        self._backlog = backlog
        self._alike = partial(SQLiteOutbox, keep=keep, clock=clock, backlog=backlog)
        self._session = Session(self._path, self._ground, partial(Housekeeping, keep), backlog)
        # The thread must not outlive whoever could ask it for anything. The end of the process is the session's.
        weakref.finalize(self, self._session.abandon).atexit = False

    def __repr__(self) -> str:
        return f"SQLiteOutbox({str(self._path)!r})"

    @property
    def path(self) -> Path:
        """The file; absolute."""
        return self._path

    def elsewhere(self, path: str | os.PathLike[str]) -> SQLiteOutbox:
        """An outbox with the same settings, in another file."""
        return self._alike(path)

    @property
    def outage(self) -> OutboxUnavailable | None:
        return self._session.outage

    async def start(self) -> None:
        """Open the file, and bring it up to date.

        One that cannot be opened, or that a newer release has written, is told to the log and tried again: until then
        callbacks are refused, and the rest of the application is served.
        """
        # The writer has told the log, and is trying again.
        with suppress(OutboxError):
            await self._session.desk().call(lambda _: None)

    async def put(self, batch: Batch) -> PutReport:
        return await self._session.desk().put(batch)

    async def put_in(self, connection: object, batch: Batch) -> Joined:
        """As :meth:`put_in_sync`: it blocks the event loop, as everything does that is asked of such a connection."""
        return self.put_in_sync(connection, batch)

    def put_in_sync(self, connection: object, batch: Batch) -> Joined:
        """Store a batch in the transaction that is open on your own connection to this file.

        Where Python begins transactions by itself and has begun none yet, one is begun, ``IMMEDIATE``. From here on
        until it ends nobody else can write in the file, and puts of other requests wait for it.

        Args:
            connection: A ``sqlite3.Connection``, in its own thread; or SQLAlchemy's ``Session`` or ``Connection`` that
                uses one.
            batch: What is stored.

        Raises:
            ConfigurationError: It is to another file, or of a kind that keeps less than this outbox promises; the
                message says which, and what to do.
            SubscriptionExists: A key is another owner's.
            OutboxUnavailable: SQLite refused.
        """
        return put_in(Guest(self._path, connection_of(connection), self._ground, self._backlog), batch)

    async def fate(self, transaction: object) -> Fate:
        if not isinstance(transaction, Trace):
            return Fate.UNKNOWN
        try:
            return await self._session.reader.answer(lambda connection, _: fate_of(transaction, connection))
        except (OutboxUnavailable, sqlite3.Error):
            return Fate.UNKNOWN

    async def committed(self) -> None:
        self._session.newsroom.tell_all()

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        taken = dict(busy)

        def work(store: Store) -> Claimed:
            claimed = claims.claim(store, limit, lease, per_origin, taken)
            # Here, because whoever asked may have been cancelled meanwhile.
            for delivery in claimed.killers:
                logger.error("delivery %s is dead: it %s %d times", delivery, KILLED_ITS_WORKER.reason, SUSPICIONS)
            return claimed

        return (await self._session.desk().call(work, undo=self._unclaim)).claims

    async def extend(self, claims_: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        return await self._session.desk().call(lambda store: claims.extend(store, claims_, lease))

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        if not settlements:
            return frozenset()
        return await self._session.desk().call(lambda store: self._settle(store, settlements))

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's: reaching it is no error
        """Return when something was put or came due, or another process wrote, since the last wait on this event loop.

        What was due before and was not claimed is no news: its caller had no room for it. Another process' news takes
        a twentieth of a second.
        """
        due = self._session.next_due
        until = NEVER if due is None else due
        seconds = timeout.total_seconds()
        if due is not None:
            seconds = min(seconds, (due - self._ground.now()) / 1_000_000)
        await self._session.newsroom.wait(seconds, until, begun=self._session.watch)

    async def aclose(self) -> None:
        """Close the file, after all that was asked for before. It is opened again when it is used again."""
        await self._session.close()

    def _settle(self, store: Store, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        settled = settles.settle(store, settlements)
        # Here, too.
        if settled.due is not None:
            self._session.newsroom.tell(settled.due)
        return settled.applied

    def _unclaim(self, store: Store, claimed: Claimed) -> None:
        if claimed.claims:
            claims.unclaim(store, claimed.claims)
            self._session.newsroom.tell_all()

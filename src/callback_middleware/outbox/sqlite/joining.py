"""Storing in the user's own transaction, and finding out what became of it.

A commit in SQLite leaves no name by which it could be asked for. What was stored tells: it is seen by another
connection when, and only when, it was committed.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final, NamedTuple

from callback_middleware.outbox.sqlite.faults import primary_code
from callback_middleware.outbox.sqlite.guests import Guest
from callback_middleware.outbox.sqlite.puts import put_one
from callback_middleware.ports import Batch, Fate, Joined, PutReport
from callback_middleware.subscription import SubscriptionKey

PROBE: Final = 250
"""Milliseconds for which it is tried to write, where nothing but an open transaction of the user's should forbid it."""


class _Version(NamedTuple):
    """What a row of ``subscription`` was when the transaction had changed it."""

    callback: str
    key: str
    generation: int
    created_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What was stored on a connection, as far as it tells whether that was committed.

    Attributes:
        connection: The user's.
        delivery: The id of a delivery that was new.
        subscription: One that was changed, where no delivery was new.
    """

    connection: sqlite3.Connection
    delivery: bytes | None = None
    subscription: _Version | None = None

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open on the connection: this one, or a later one. From any thread."""
        try:
            return self.connection.in_transaction
        except sqlite3.ProgrammingError:
            # It is closed, and what was open is rolled back.
            return False

    def is_in(self, connection: sqlite3.Connection) -> bool:
        """Whether another connection sees it."""
        if self.delivery is not None:
            return bool(connection.execute("SELECT 1 FROM delivery WHERE id = ?", (self.delivery,)).fetchall())
        version = self.subscription
        if version is None:
            return False
        rows = connection.execute(
            "SELECT 1 FROM subscription WHERE callback = ? AND key = ? AND (generation > ? OR generation = ? "
            # Somebody may have ended it since.
            "AND created_at = ? AND (ended_at IS ? OR ended_at IS NOT NULL))",
            (version.callback, version.key, version.generation, *version[2:]),
        )
        return bool(rows.fetchall())


def put_in(guest: Guest, batch: Batch) -> Joined:
    """Store a batch whole in the transaction that is open on the user's connection.

    Raises:
        ConfigurationError: Not on this connection.
        SubscriptionExists: A key is another owner's.
        OutboxUnavailable: SQLite refused.
    """
    with guest.transaction():
        now = guest.ground.now()
        report = put_one(guest, batch, now)
        return Joined(report, _trace(guest, batch, report, now))


def fate_of(trace: Trace, connection: sqlite3.Connection) -> Fate:
    """What became of the transaction, as another connection sees it, on which nothing is open."""
    if trace.is_in(connection):
        return Fate.COMMITTED
    # In this order: what ended before it is looked has left what it leaves.
    ended = not trace.is_open or _is_free(connection)
    if trace.is_in(connection):
        return Fate.COMMITTED
    if not ended:
        return Fate.OPEN
    nothing_to_see = trace.delivery is None and trace.subscription is None
    return Fate.COMMITTED if nothing_to_see else Fate.ROLLED_BACK


def _trace(guest: Guest, batch: Batch, report: PutReport, now: int) -> Trace:
    if report.stored:
        return Trace(guest.connection, delivery=report.stored[0].bytes)
    if batch.subscribe:
        return Trace(guest.connection, subscription=_version(guest, batch.subscribe[0].key))
    for key in batch.end:
        version = _version(guest, key)
        # One that was not there, or is another's, was not changed.
        if version is not None and version.ended_at == now:
            return Trace(guest.connection, subscription=version)
    return Trace(guest.connection)


def _version(guest: Guest, key: SubscriptionKey) -> _Version | None:
    rows = guest.fetch(
        "SELECT callback, key, generation, created_at, ended_at FROM subscription WHERE callback = ? AND key = ?",
        (key.callback, key.key),
    )
    return _Version(*rows[0]) if rows else None


def _is_free(connection: sqlite3.Connection) -> bool:
    """Whether nobody writes: then whoever had begun to has ended it."""
    connection.execute("PRAGMA query_only = OFF")
    connection.execute(f"PRAGMA busy_timeout = {PROBE}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_BUSY:
            raise
        return False
    connection.execute("ROLLBACK")
    return True

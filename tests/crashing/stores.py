"""Where the processes of a round have their outbox, and how the watcher looks into it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from callback_middleware import MemoryOutbox, SQLiteOutbox
from callback_middleware.ports import DeliveryLog, Outbox


class KeepingOutbox(Outbox, DeliveryLog, Protocol):
    """An outbox that can be asked what it keeps."""


class Store(Protocol):
    """What outlives the processes of a round; or nothing does."""

    @property
    def address(self) -> str | None:
        """By which a process is told of it; None where each has its own, in memory."""
        ...

    async def prepare(self) -> None:
        """Make it ready for the first process."""
        ...

    async def opened(self) -> KeepingOutbox | None:
        """It, for the watcher, who closes it; None where nothing is kept."""
        ...

    def is_free(self) -> bool:
        """Whether a process that stops for a while at this moment keeps nobody else from it."""
        ...


class InMemory:
    """In that of each process."""

    address = None

    async def prepare(self) -> None:
        """There is nothing to make ready."""

    async def opened(self) -> None:
        """It went with the process."""

    def is_free(self) -> bool:
        return True


class InFile:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)

    async def prepare(self) -> None:
        """The first process that needs it makes it."""

    async def opened(self) -> KeepingOutbox:
        # It looks at the machine's clocks when it is made, which is no loop's business.
        return await anyio.to_thread.run_sync(SQLiteOutbox, self.address)

    def is_free(self) -> bool:
        """Whether it can be written now.

        A process that stops in the middle of a transaction keeps everybody out: no fence helps against that.
        """
        with closing(sqlite3.connect(self.address, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True


class InDatabase:
    """A database of PostgreSQL.

    Args:
        url: Of the database, which is empty.
    """

    def __init__(self, url: str) -> None:
        self.address = url

    async def prepare(self) -> None:
        from callback_middleware.outbox.postgres.migrating import migrate
        from callback_middleware.outbox.postgres.migrations import steps

        # They are read from files once, which is no loop's business.
        await anyio.to_thread.run_sync(steps)
        await migrate(self.address)

    async def opened(self) -> KeepingOutbox:
        return _in_database(self.address)

    def is_free(self) -> bool:
        """It always is: whoever stops between two statements is in no transaction."""
        return True


def outbox_at(address: str | None) -> Outbox:
    """The outbox of a process that is told of it so.

    It takes as much as a round puts, whether its receiver is there or not.
    """
    if address is None:
        return MemoryOutbox(backlog=None)
    return _in_database(address) if "://" in address else SQLiteOutbox(address, backlog=None)


def _in_database(url: str) -> KeepingOutbox:
    # Few processes of the rounds need its driver.
    from callback_middleware.outbox.postgres import PostgresOutbox

    return PostgresOutbox(url, backlog=None)

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlite_setting import SQLiteSetting, WriterTurns, stored

from callback_middleware import SQLiteOutbox
from callback_middleware.errors import DeliveryNotFound, OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.sqlite import file, writer
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.states import IllegalTransition
from callback_middleware.testing import VirtualClock

HOUR = timedelta(hours=1)


class Disk:
    """What SQLite says of every transaction that writes, while it has something to say."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.of: tuple[str, ...] = ("BEGIN IMMEDIATE", "INSERT INTO delivery")
        self.opened = 0
        self.refused = 0

    def connect(self, path: Path, **settings: Any) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if disk.code is not None and statement.startswith(disk.of):
                    disk.refused += 1
                    error = sqlite3.OperationalError("so it is")
                    error.sqlite_errorcode = disk.code
                    raise error
                return super().execute(statement, *parameters)

        self.opened += 1
        return Connection(path, **settings)


async def loop_until(true: Callable[[], object]) -> None:
    """Wait for what another task of this loop makes true."""
    with anyio.fail_after(30):
        while not true():
            await anyio.lowlevel.checkpoint()


class TestOutage(SQLiteSetting):
    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> Disk:
        disk = Disk()
        monkeypatch.setattr(file.sqlite3, "connect", disk.connect)  # type: ignore[attr-defined]
        monkeypatch.setattr(writer, "PROBE", 0.02)
        return disk

    @pytest.fixture
    def turns(self, monkeypatch: pytest.MonkeyPatch) -> WriterTurns:
        return WriterTurns(monkeypatch)

    async def fail(self, outbox: SQLiteOutbox, clock: VirtualClock, kind: type[OutboxError]) -> None:
        with pytest.raises(kind):
            await self.put(outbox, self.delivery(clock))

    async def test_a_put_that_fails_is_an_outage_until_the_file_works_again(
        self, outbox: SQLiteOutbox, clock: VirtualClock, disk: Disk, turns: WriterTurns
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        assert outbox.outage is None

        disk.code = sqlite3.SQLITE_FULL
        await self.fail(outbox, clock, OutboxUnavailable)
        during = outbox.outage
        disk.code = None
        await turns.until(lambda: outbox.outage is None)

        assert during is not None
        assert "free space" in str(during)
        await self.put(outbox, self.delivery(clock))

    async def test_what_only_reads_ends_no_outage(self, outbox: SQLiteOutbox, clock: VirtualClock, disk: Disk) -> None:
        """A full disk can be read: a worker that finds nothing to claim must not open the door for requests."""
        await self.put(outbox, self.delivery(clock, due_in=HOUR))
        await self.claim(outbox)
        disk.code = sqlite3.SQLITE_FULL
        await self.fail(outbox, clock, OutboxUnavailable)

        for act in (self.claim(outbox), outbox.counts(), outbox.put(Batch())):
            await act

            assert outbox.outage is not None
        disk.code = None

    async def test_an_outage_is_told_once_and_so_is_its_end(
        self,
        outbox: SQLiteOutbox,
        clock: VirtualClock,
        disk: Disk,
        turns: WriterTurns,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "callback_middleware")
        for _ in range(2):
            disk.code = sqlite3.SQLITE_READONLY
            for _ in range(3):
                await self.fail(outbox, clock, OutboxUnavailable)
            refused = disk.refused
            await turns.until(lambda: disk.refused > refused + 2)  # noqa: B023 - called at once
            disk.code = None
            await turns.until(lambda: outbox.outage is None)

        told = [(record.levelno, record.getMessage().split(":")[0]) for record in caplog.records]
        name = f"the outbox {outbox._path}"
        assert told == [(logging.ERROR, f"{name} is out of reach"), (logging.WARNING, f"{name} works again")] * 2

    async def test_who_waits_hears_of_the_end_of_an_outage(
        self, outbox: SQLiteOutbox, clock: VirtualClock, disk: Disk
    ) -> None:
        await outbox.wait(HOUR)
        disk.code = sqlite3.SQLITE_FULL
        await self.fail(outbox, clock, OutboxUnavailable)
        await outbox.wait(timedelta(seconds=2 * writer.LOOK))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(outbox.wait, HOUR)
                await loop_until(outbox._session.newsroom.awaited)
                disk.code = None

        assert outbox.outage is None

    async def test_a_commit_in_doubt_is_no_outage_and_is_put_again(
        self, outbox: SQLiteOutbox, clock: VirtualClock, disk: Disk, path: Path
    ) -> None:
        batch = Batch([self.delivery(clock)])
        await self.put(outbox, self.delivery(clock))
        disk.code = sqlite3.SQLITE_IOERR_FSYNC

        with pytest.raises(OutboxUncertain):
            await outbox.put(batch)
        disk.code = None
        await outbox.put(batch)

        assert outbox.outage is None
        assert stored(path) == 2

    @pytest.mark.parametrize(
        ("code", "opened"),
        [(sqlite3.SQLITE_BUSY, 0), (sqlite3.SQLITE_FULL, 0), (sqlite3.SQLITE_CORRUPT, 1), (sqlite3.SQLITE_IOERR, 1)],
    )
    async def test_a_connection_that_may_remember_what_is_no_longer_so_is_opened_afresh(
        self,
        outbox: SQLiteOutbox,
        clock: VirtualClock,
        disk: Disk,
        *,
        code: int,
        opened: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(writer, "PROBE", 60.0)
        await self.put(outbox, self.delivery(clock))
        before = disk.opened
        disk.of, disk.code = ("INSERT INTO delivery",), code
        await self.fail(outbox, clock, OutboxError)
        disk.code = None

        await self.put(outbox, self.delivery(clock))

        assert disk.opened == before + opened

    async def test_what_an_operator_asks_wrongly_leaves_the_file_open(
        self, outbox: SQLiteOutbox, clock: VirtualClock, disk: Disk
    ) -> None:
        """It is no fault of the file's: whose turn it is, among others, is remembered with the connection."""
        await self.put_and_end(outbox, clock, self.delivery(clock))
        before = outbox._session._present()._store
        pending = self.delivery(clock)
        await self.put(outbox, pending)

        with pytest.raises(DeliveryNotFound):
            await outbox.cancel(self.delivery(clock).id)
        with pytest.raises(IllegalTransition):
            await outbox.replay(pending.id)

        assert outbox.outage is None
        assert outbox._session._present()._store is before

    async def test_a_file_that_was_removed_is_told_and_made_anew(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        await anyio.Path(path).unlink()

        await self.fail(outbox, clock, OutboxUnavailable)
        await self.put(outbox, self.delivery(clock))

        assert stored(path) == 1

    async def test_a_transaction_that_could_not_be_undone_takes_nothing_with_it(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        """What came next would be part of it: reported as stored, and never committed."""

        def leave_open(store: Store) -> None:
            store.run("BEGIN IMMEDIATE")
            raise LookupError

        with pytest.raises(LookupError):
            await outbox._session.desk().call(leave_open)
        await self.put(outbox, self.delivery(clock))

        assert stored(path) == 1

    async def test_who_is_told_badly_harms_nobody_else(
        self, outbox: SQLiteOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Rude:
            def run(self, store: Store) -> None:
                """Do nothing."""

            def done(self, error: BaseException | None) -> None:
                raise LookupError("not interested")

        outbox._session.submit(Rude())
        await self.put(outbox, self.delivery(clock))

        assert ["not interested" in (record.exc_text or "") for record in caplog.records] == [True]

    async def test_another_process_that_locks_the_file_for_a_moment_is_waited_for(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.put, outbox, self.delivery(clock))
                await loop_until(lambda: outbox._session.desk()._away)
                other.execute("COMMIT")

        assert stored(path) == 2

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlite_setting import SQLiteSetting

from callback_middleware import SQLiteOutbox
from callback_middleware.outbox.sqlite import housekeeping
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE


def broken(code: int) -> sqlite3.OperationalError:
    """What SQLite raises of a disk that fails."""
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorcode = code
    return error


class TestHousekeeping(SQLiteSetting):
    @pytest.fixture
    def idle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread is idle as soon as it has nothing to do."""
        monkeypatch.setattr(housekeeping, "_REST", 0.0)

    @pytest.mark.usefixtures("idle")
    async def test_an_idle_thread_brings_the_log_into_the_file(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))

        with anyio.fail_after(30):
            while (await anyio.Path(path).read_bytes()).find(b"invoice_notification") < 0:
                await anyio.lowlevel.checkpoint()

    @pytest.mark.usefixtures("idle")
    async def test_what_is_older_than_it_is_kept_is_forgotten_by_itself(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path, clock=clock, keep=timedelta(days=1))
        old, young = self.delivery(clock), self.delivery(clock)
        await self.put_and_end(outbox, clock, old)
        clock.advance(timedelta(days=1))
        await self.put_and_end(outbox, clock, young)
        clock.advance(LEASE)
        # Its next round would be in a minute.
        outbox._session._present()._housekeeping._last_round = 0

        with anyio.fail_after(30):
            while sum((await outbox.counts()).values()) > 1:
                await anyio.lowlevel.checkpoint()

        assert (await outbox.get(young.id)).id == young.id
        await outbox.aclose()

    @pytest.mark.usefixtures("idle")
    async def test_what_is_kept_for_ever_is_not_forgotten(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path, clock=clock, keep=None)
        await self.put_and_end(outbox, clock, self.delivery(clock, dedupe="key"))
        clock.advance(timedelta(days=10_000))
        looked = outbox._session._present()._housekeeping
        looked._last_round = 0

        with anyio.fail_after(30):
            while not looked._last_round:
                await outbox.counts()

        assert sum((await outbox.counts()).values()) == 1
        await outbox.aclose()

    @pytest.mark.usefixtures("idle")
    @pytest.mark.parametrize(
        "error", [broken(sqlite3.SQLITE_FULL), broken(sqlite3.SQLITE_IOERR), LookupError("a mistake of ours")], ids=repr
    )
    async def test_tidying_that_fails_is_not_tried_again_at_once_and_for_ever(
        self,
        outbox: SQLiteOutbox,
        clock: VirtualClock,
        error: Exception,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """On a full disk the log cannot be brought into the file: that is told as an outage, and not twice."""
        tried = threading.Semaphore(0)

        def fail(store: Store, how: str) -> None:
            tried.release()
            raise error

        monkeypatch.setattr(housekeeping, "_checkpoint", fail)
        await self.put(outbox, self.delivery(clock))
        await anyio.to_thread.run_sync(tried.acquire)
        # Were it tried again at once, it would be while this thread has nothing else to do.
        again = await anyio.to_thread.run_sync(lambda: tried.acquire(timeout=0.2))

        assert not again
        assert [record.levelno for record in caplog.records] == [
            logging.ERROR if isinstance(error, sqlite3.Error) else logging.WARNING
        ]

    async def log_size(self, outbox: SQLiteOutbox) -> int:
        """After what was done and tidied before."""
        return await outbox._session.desk().call(lambda store: Path(store.log).stat().st_size)

    async def test_a_log_that_has_grown_large_is_emptied_under_load(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(housekeeping, "_LARGE_LOG", 100_000)
        monkeypatch.setattr(housekeeping, "_LOG_CHECK", 0.0)

        sizes = []
        for _ in range(30):
            await self.put(outbox, self.delivery(clock, body=b"x" * 20_000))
            sizes.append(await self.log_size(outbox))

        assert max(sizes) < 300_000
        assert sizes.count(0) >= 2

    async def test_a_log_that_a_reader_keeps_from_beginning_anew_is_told_once(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        for name, value in (("_LARGE_LOG", 50_000), ("_HUGE_LOG", 100_000), ("_LOG_CHECK", 0.0)):
            monkeypatch.setattr(housekeeping, name, value)
        monkeypatch.setattr(housekeeping, "_PATIENCE_WITH_READERS", 1)
        await self.put(outbox, self.delivery(clock))
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM queue").fetchall()
            for _ in range(20):
                await self.put(outbox, self.delivery(clock, body=b"x" * 20_000))
        during = [record.getMessage() for record in caplog.records]
        for _ in range(20):
            await self.put(outbox, self.delivery(clock, body=b"x" * 20_000))

        assert len(during) == 1
        assert f"{path}-wal has grown to" in during[0]
        assert len(caplog.records) == 1
        assert await self.log_size(outbox) <= 100_000

    async def test_the_log_of_a_linked_file_is_found_where_the_file_is(
        self, path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(housekeeping, "_LARGE_LOG", 0)
        monkeypatch.setattr(housekeeping, "_LOG_CHECK", 0.0)
        there = path.with_name("elsewhere.db")
        await anyio.Path(path).symlink_to(there)
        outbox = SQLiteOutbox(path, clock=clock)

        await self.put(outbox, self.delivery(clock))

        assert await self.log_size(outbox) == 0
        assert await anyio.Path(f"{there}-wal").exists()
        await outbox.aclose()

    async def test_tidying_leaves_the_patience_with_others_as_it_was(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(housekeeping, "_LARGE_LOG", 0)
        monkeypatch.setattr(housekeeping, "_LOG_CHECK", 0.0)
        await self.put(outbox, self.delivery(clock))

        assert await outbox._session.desk().call(lambda store: store.fetch("PRAGMA busy_timeout")) == [(4000,)]

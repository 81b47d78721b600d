# ruff: noqa: ASYNC240 - the file is looked at before and after, and nobody else runs meanwhile
from __future__ import annotations

import logging
import multiprocessing
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_setting import SQLiteSetting, ask, stored, tell

from callback_middleware import SQLiteOutbox
from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.sqlite import file, migrations
from callback_middleware.outbox.sqlite.file import APPLICATION_ID, open_reader, open_writer
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def locks_on(path: Path) -> list[str]:
    """The locks of this process on a file, as the kernel knows them (proc_locks(5))."""
    status = path.stat()
    number = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [line[3] for line in lines if line[4:6] == [str(os.getpid()), number]]


def run_at_once(target: Callable[..., None], *arguments: object, processes: int = 6) -> list[int | None]:
    """Run a function in processes of their own that begin together. Their exit codes."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    started = [context.Process(target=target, args=(barrier, *arguments)) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def make_together(barrier: threading.Barrier, folder: Path, times: int) -> None:
    for number in range(times):
        barrier.wait(60)
        with closing(open_writer(folder / f"{number}.db")) as connection:
            connection.execute("INSERT INTO retry (policy) VALUES (?)", (str(os.getpid()),))


class TestFile(SQLiteSetting):
    def test_the_file_and_its_log_are_their_users_alone(self, path: Path) -> None:
        before = os.umask(0)
        try:
            with closing(open_writer(path)) as connection:
                connection.execute("UPDATE clock SET checked = 1")
                made = {one.name: mode_of(one) for one in path.parent.iterdir()}
        finally:
            os.umask(before)

        assert made == dict.fromkeys(("callbacks.db", "callbacks.db-wal", "callbacks.db-shm"), 0o600)

    def test_a_file_behind_a_link_that_leads_nowhere_yet_is_its_users_alone(self, path: Path) -> None:
        there = path.with_name("elsewhere.db")
        path.symlink_to(there)

        open_writer(path).close()

        assert mode_of(there) == 0o600
        assert path.is_symlink()

    def test_what_an_operator_has_permitted_stays(self, path: Path) -> None:
        path.touch()
        path.chmod(0o640)

        open_writer(path).close()

        assert mode_of(path) == 0o640

    def test_the_file_says_what_it_is_and_can_shrink(self, path: Path) -> None:
        open_writer(path).close()

        for pragma, value in {
            "journal_mode": "wal",
            "auto_vacuum": 2,
            "application_id": APPLICATION_ID,
            "user_version": len(migrations.steps()),
        }.items():
            assert ask(path, f"PRAGMA {pragma}") == [(value,)]

    def test_every_commit_is_synced(self, path: Path) -> None:
        with closing(open_writer(path)) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def test_a_file_of_a_newer_version_is_refused_and_not_changed(self, path: Path) -> None:
        open_writer(path).close()
        tell(path, "PRAGMA user_version = 99")
        before = path.read_bytes()

        with pytest.raises(OutboxUnavailable, match=r"its schema is version 99, .* upgrade callback_middleware"):
            open_writer(path)

        assert path.read_bytes() == before

    async def test_a_file_of_a_newer_version_stops_no_start(self, path: Path, outbox: SQLiteOutbox) -> None:
        await outbox.start()
        await outbox.aclose()
        tell(path, "PRAGMA user_version = 99")

        await outbox.start()

        assert "its schema is version 99" in str(outbox.outage)

    async def test_a_file_that_is_out_of_reach_stops_no_start(
        self, path: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        outbox = SQLiteOutbox(path.parent / "missing" / path.name, clock=clock)

        await outbox.start()

        assert "there is no folder" in str(outbox.outage)
        assert "there is no folder" in caplog.text
        await outbox.aclose()

    def test_another_applications_database_is_refused_and_not_changed(self, path: Path) -> None:
        tell(path, "CREATE TABLE users (name)", "INSERT INTO users VALUES ('them')")
        before = path.read_bytes()

        with pytest.raises(OutboxUnavailable, match=r"callbacks\.db.* another application's database"):
            open_writer(path)

        assert path.read_bytes() == before

    async def test_what_is_no_database_is_refused_and_not_changed(self, path: Path, clock: VirtualClock) -> None:
        text = b"invoices of 2030\n" * 100
        path.write_bytes(text)
        outbox = SQLiteOutbox(path, clock=clock)

        with pytest.raises(OutboxUnavailable, match=r"callbacks\.db.* no SQLite database"):
            await outbox.put(Batch([self.delivery(clock)]))
        await outbox.aclose()

        assert path.read_bytes() == text

    async def test_a_folder_that_is_not_there_is_not_made(self, tmp_path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(tmp_path / "missing" / "callbacks.db", clock=clock)

        with pytest.raises(OutboxUnavailable, match=r"there is no folder .*missing; create it"):
            await outbox.put(Batch([self.delivery(clock)]))
        await outbox.aclose()

        assert list(tmp_path.iterdir()) == []

    async def test_a_folder_in_the_files_place_is_refused(self, path: Path, clock: VirtualClock) -> None:
        path.mkdir()
        outbox = SQLiteOutbox(path, clock=clock)

        with pytest.raises(OutboxUnavailable, match="there is a folder in its place"):
            await outbox.put(Batch([self.delivery(clock)]))
        await outbox.aclose()

    async def test_a_relative_path_is_meant_from_where_it_was_written(
        self, tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(tmp_path)
        outbox = SQLiteOutbox("callbacks.db", clock=clock)
        monkeypatch.chdir(elsewhere)

        await outbox.put(Batch([self.delivery(clock)]))
        await outbox.aclose()

        assert stored(tmp_path / "callbacks.db") == 1
        assert list(elsewhere.iterdir()) == []
        assert str(tmp_path / "callbacks.db") in repr(outbox)

    @pytest.mark.parametrize("name", ["", ":memory:", "file:callbacks.db", "file:callbacks.db?mode=memory"])
    def test_what_is_no_path_of_a_file_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"needs the path of a file; MemoryOutbox\(\)"):
            SQLiteOutbox(name)

    async def test_nothing_is_opened_before_first_use(self, path: Path) -> None:
        threads = threading.active_count()

        outbox = SQLiteOutbox(path)
        await outbox.aclose()

        assert outbox.outage is None
        assert not path.exists()
        assert threading.active_count() == threads

    def test_a_question_makes_no_file(self, path: Path) -> None:
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            open_reader(path)

        assert not path.exists()

    @pytest.mark.parametrize("name", ["what?#%20.db", "blank space.db", "Zürich.db"])
    def test_a_question_finds_the_file_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        open_writer(tmp_path / name).close()

        with closing(open_reader(tmp_path / name)) as connection:
            assert connection.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("INSERT INTO retry (policy) VALUES ('{}')")

    def test_a_network_file_system_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file, "file_system", {path: "nfs4"}.get)

        with pytest.raises(OutboxUnavailable, match=r"network file system \(nfs4\); move it to a local disk"):
            open_writer(path)

        assert not path.exists()

    def test_a_place_that_does_not_last_is_warned_about_once_with_the_whole_path(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(file, "file_system", {path: "overlay"}.get)

        for _ in range(3):
            open_writer(path).close()

        (record,) = caplog.records
        assert (record.levelno, record.args) == (logging.WARNING, (path, "overlay"))
        assert f"{path} is on overlay" in record.getMessage()

    def test_the_place_of_a_linked_folder_is_where_it_leads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "nfs").mkdir()
        (tmp_path / "data").symlink_to(tmp_path / "nfs")
        monkeypatch.setattr(file, "file_system", {tmp_path / "nfs" / "callbacks.db": "nfs"}.get)

        with pytest.raises(OutboxUnavailable, match="network file system"):
            open_writer(tmp_path / "data" / "callbacks.db")

    def test_to_open_a_file_again_gives_up_no_lock_on_it(self, path: Path) -> None:
        """A descriptor that is closed takes all locks of its process with it: SQLite's as well."""
        with closing(open_writer(path)) as first:
            first.execute("UPDATE clock SET checked = 1")
            before = locks_on(path)

            with closing(open_writer(path)), closing(open_reader(path)):
                assert locks_on(path) == before
            assert locks_on(path) == before

        assert before == ["READ"]

    def test_processes_that_make_the_file_together_all_find_it_whole(self, tmp_path: Path) -> None:
        exits = run_at_once(make_together, tmp_path, 20)

        assert exits == [0] * 6
        for number in range(20):
            path = tmp_path / f"{number}.db"
            assert ask(path, "SELECT count(*) FROM retry") == [(6,)]
            assert ask(path, "PRAGMA auto_vacuum") == [(2,)]
            assert mode_of(path) == 0o600

    def test_who_finds_the_file_in_the_making_waits_for_it(self, path: Path) -> None:
        """SQLite itself gives up at once where two processes both want to change a new file's journal mode."""

        class Contended(sqlite3.Connection):
            refusals = 3

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if statement == "PRAGMA journal_mode = WAL" and self.refusals:
                    self.refusals -= 1
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
                return super().execute(statement, *parameters)

        with closing(Contended(path)) as connection:
            assert file._write_ahead(connection) == "wal"
            assert connection.refusals == 0

"""Made by SQLite itself where that is easy: what it calls an error is not for a test to guess."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.sqlite.faults import breaks_connection, doubt, is_failure, meaning

PATH = Path("/srv/callbacks.db")


def error_of(act: Callable[[sqlite3.Connection], object], path: Path | str = ":memory:") -> sqlite3.Error:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            act(connection)
        except sqlite3.Error as error:
            return error
    raise AssertionError("nothing failed")


def coded(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_BUSY, "locked it for 4 s.*; let that process commit"),
        (sqlite3.SQLITE_FULL, "its disk is full.*; free space"),
        (sqlite3.SQLITE_READONLY, "may not be written.*; give this process write permission"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened.*; create its folder"),
        (sqlite3.SQLITE_PERM, "may not open it.*; give it"),
        (sqlite3.SQLITE_CORRUPT, "it is corrupt.*; move it and its -wal and -shm files away"),
        (sqlite3.SQLITE_NOTADB, "no SQLite database.*; give SQLiteOutbox another path"),
        (sqlite3.SQLITE_IOERR, "reading or writing it failed.*; look at the disk"),
        (sqlite3.SQLITE_ERROR, "SQLite refused.*; see the error"),
    ],
)
def test_an_error_says_which_file_what_happened_and_what_to_do(code: int, words: str) -> None:
    told = meaning(PATH, coded(code))

    assert type(told) is OutboxUnavailable
    assert str(told).startswith("the outbox /srv/callbacks.db is out of reach: ")
    with pytest.raises(OutboxUnavailable, match=words):
        raise told


def test_an_extended_code_means_what_its_primary_one_means() -> None:
    busy = coded(sqlite3.SQLITE_BUSY_SNAPSHOT)

    assert "locked" in str(meaning(PATH, busy))
    assert not breaks_connection(busy)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR, OutboxUncertain),
        (sqlite3.SQLITE_IOERR_FSYNC, OutboxUncertain),
        (sqlite3.SQLITE_IOERR_WRITE, OutboxUncertain),
        (sqlite3.SQLITE_FULL, OutboxUnavailable),
        (sqlite3.SQLITE_BUSY, OutboxUnavailable),
        (sqlite3.SQLITE_READONLY, OutboxUnavailable),
    ],
)
def test_of_a_commit_whose_write_failed_nobody_knows_what_the_disk_has(code: int, kind: type[OutboxError]) -> None:
    assert type(doubt(PATH, coded(code))) is kind


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM nowhere", "SELECT 1 +", "SELECT " + "1," * 3000 + "1"],
    ids=["no table", "no SQL", "too long"],
)
def test_what_sqlite_cannot_do_at_all_is_a_failure(statement: str) -> None:
    assert is_failure(error_of(lambda connection: connection.execute(statement)))


def test_what_is_no_database_is_a_failure_and_breaks_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    path.write_bytes(b"no database" * 100)

    error = error_of(lambda connection: connection.execute("SELECT * FROM sqlite_schema"), path)

    assert is_failure(error)
    assert breaks_connection(error)
    assert "no SQLite database" in str(meaning(PATH, error))


def test_a_file_that_another_locks_leaves_the_connection_whole(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        error = error_of(lambda connection: connection.execute("BEGIN EXCLUSIVE"), path)

    assert is_failure(error)
    assert not breaks_connection(error)


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"], ids=["of no type", "too large", "half a character"])
def test_a_value_that_sqlite_refuses_is_no_failure(value: object) -> None:
    try:
        error: Exception = error_of(lambda connection: connection.execute("SELECT ?", (value,)))
    except (OverflowError, UnicodeEncodeError) as refused:
        error = refused

    assert not is_failure(error)


def test_a_rule_of_the_schema_is_no_failure() -> None:
    def act(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (a NOT NULL)")
        connection.execute("INSERT INTO t VALUES (NULL)")

    assert not is_failure(error_of(act))

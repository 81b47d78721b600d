"""What SQLite's errors mean for an outbox: certainly not stored, or perhaps, and what an operator can do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain

PATIENCE: Final = 4.0
"""Seconds that a transaction waits for another process: less than a response waits for its put."""

_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: (
        f"another process has locked it for {PATIENCE:g} s",
        "let that process commit, and open it with nothing that holds a transaction for long",
    ),
    sqlite3.SQLITE_FULL: ("its disk is full", "free space on it, or move the file"),
    sqlite3.SQLITE_READONLY: ("it may not be written", "give this process write permission on the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "create its folder, and give this process read and write permission on both",
    ),
    sqlite3.SQLITE_PERM: ("this process may not open it", "give it read and write permission on the file"),
    sqlite3.SQLITE_CORRUPT: (
        "it is corrupt",
        "move it and its -wal and -shm files away together, restore a copy, or begin anew with an empty one",
    ),
    sqlite3.SQLITE_NOTADB: ("it is no SQLite database", "give SQLiteOutbox another path, or move that file away"),
    sqlite3.SQLITE_IOERR: ("reading or writing it failed", "look at the disk, and at the system's log"),
}


class NewerFile(OutboxUnavailable):
    """A file that a newer release of this library has written. Waiting does not mend that."""


def certain(path: Path, problem: str, remedy: str) -> OutboxUnavailable:
    """An error that says which file, what happened and what to do; nothing was stored."""
    return OutboxUnavailable(f"the outbox {path} is out of reach: {problem}; {remedy}")


def meaning(path: Path, error: sqlite3.Error) -> OutboxUnavailable:
    """What an error of SQLite comes to where nothing can have been stored."""
    code = primary_code(error)
    problem, remedy = _MEANINGS.get(code, ("SQLite refused", "see the error that is named here"))
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return certain(path, f"{problem} ({name}: {error})", remedy)


def doubt(path: Path, error: sqlite3.Error) -> OutboxError:
    """What an error of SQLite comes to that a commit ended with."""
    known = meaning(path, error)
    # Of a commit whose last write or sync failed nobody knows what the disk has: a recovery may find it whole.
    return OutboxUncertain(f"{known}; it may have been stored all the same") if is_doubtful(error) else known


def is_failure(error: BaseException) -> bool:
    """Whether SQLite, or the disk under it, failed; and not merely refused a value."""
    # Its other errors are refinements of DatabaseError, and speak of what they were given.
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def is_doubtful(error: sqlite3.Error) -> bool:
    """Whether a commit that ended so may yet be found stored."""
    return primary_code(error) == sqlite3.SQLITE_IOERR


def breaks_connection(error: sqlite3.Error) -> bool:
    """Whether to open the file afresh: the connection may remember what is no longer so."""
    return primary_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; an extended one has it in its low byte."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF

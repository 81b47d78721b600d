"""The database file: made, checked, opened, and brought up to date."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from callback_middleware.outbox.sqlite import migrations
from callback_middleware.outbox.sqlite.faults import PATIENCE, NewerFile, certain, primary_code
from callback_middleware.outbox.sqlite.mounts import NETWORK, PASSING, file_system

logger = logging.getLogger("callback_middleware")

APPLICATION_ID: Final = 0x43_42_4D_57
"""``CBMW``: in the header of every file of ours."""

OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with RETURNING."""

_SETTINGS: Final = (
    "PRAGMA synchronous = FULL",
    # Kept beyond what a checkpoint needs, so that a burst does not leave its size behind for ever.
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA cache_size = -8000",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)


_TURN: Final = 0.01
"""Seconds between two tries of what SQLite does not wait for."""

_MAKING: Final = threading.Lock()

_WARNED: Final[set[Path]] = set()
"""Of these it was said that they may not last: once in a process, however often they are opened."""


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for writing; made, private to its user, if it is not there; migrated to this version.

    Raises:
        OutboxUnavailable: It is not ours, newer than this library, or on a file system that cannot hold it.
        sqlite3.Error: SQLite could not.
    """
    _check_place(path)
    _make(path)
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        _prepare(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Make the file, if there is none, before SQLite does, readable by everybody.

    One that is there is never opened but by SQLite: to close any descriptor of a file is to give up all locks that this
    process has on it (fcntl(2)), and another process would remove the log that a connection here still writes.
    """
    try:
        # Another thread that finds it waits here until it is closed.
        with _MAKING:
            # A link may lead to where there is no file yet.
            os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise certain(
            path,
            f"it cannot be made ({error.strerror})",
            "give this process permission to write in its folder, or give SQLiteOutbox another path",
        ) from error


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    if _check_owner(path, connection):
        # Only before the first table: later it is a write that changes nothing.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = _write_ahead(connection)
    if mode != "wal":
        raise certain(path, f"its journal mode stays {mode}", "move it to a local file system that can lock files")
    for setting in _SETTINGS:
        connection.execute(setting)
    _migrate(path, connection)


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Have changes written to a log first. The journal mode that it has then."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # SQLite does not wait here for another process that is about to do the same with a new file.
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_TURN)
        else:
            return str(mode)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading, in whichever thread. The writer has opened it before; it is never made here."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def version(path: Path) -> int:
    """The version of a file's schema: 0 where there is no file yet, or nothing in it. Nothing is changed.

    Raises:
        OutboxUnavailable: It is not ours, newer than this library, or on a file system that cannot hold it.
        sqlite3.Error: SQLite could not read it.
    """
    _check_place(path)
    if not path.exists():
        return 0
    with closing(open_reader(path)) as connection:
        _check_owner(path, connection)
        return _check_version(path, connection)


def _check_place(path: Path) -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise certain(path, f"this Python has SQLite {sqlite3.sqlite_version}", f"use one with {needed} or newer")
    if not path.parent.is_dir():
        raise certain(path, f"there is no folder {path.parent}", "create it, or give SQLiteOutbox another path")
    if path.is_dir():
        raise certain(
            path,
            "there is a folder in its place",
            "give SQLiteOutbox the path of a file in it; a container's volume is a folder, and never a file",
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        # SQLite would open it for reading, and leave files beside it that nobody may write.
        raise certain(path, "it may not be written", "give this process read and write permission on the file")
    kind = file_system(Path(os.path.realpath(path)))
    if kind in NETWORK:
        raise certain(path, f"it is on a network file system ({kind})", "move it to a local disk")
    if kind in PASSING and path not in _WARNED:
        _WARNED.add(path)
        logger.warning(
            "the outbox %s is on %s: it is lost with the container, or the machine's next start, unless it lies on a "
            "volume",
            *(path, kind),
        )


def _check_owner(path: Path, connection: sqlite3.Connection) -> bool:
    """Refuse a database that is somebody else's, before anything in it is changed. True if it is empty."""
    # In this order: a process that makes the file now commits both together.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if owner != APPLICATION_ID and tables:
        raise certain(path, "it is another application's database", "give SQLiteOutbox a file of its own")
    _check_version(path, connection)
    return not tables


def _check_version(path: Path, connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(migrations.steps())
    if version > known:
        problem = f"its schema is version {version}, and this library knows {known}"
        raise NewerFile(*certain(path, problem, "upgrade callback_middleware to the release that wrote it").args)
    return int(version)


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    steps = migrations.steps()
    if _check_version(path, connection) == len(steps):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Again, because another process may have been here first.
        for number, step in enumerate(steps, 1):
            if number > _check_version(path, connection):
                for statement in migrations.statements(step):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    with closing(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")) as cursor:
        cursor.fetchall()

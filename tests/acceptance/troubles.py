"""What may be wrong with the file of an outbox, or with the place where it is to be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import power_load


@dataclass(frozen=True)
class Trouble:
    """Something is wrong until the block ends.

    Attributes:
        begin: Given the path of the outbox.
        problem: What its error says of it.
        remedy: What its error says is to be done.
    """

    begin: Callable[[Path], AbstractContextManager[None]]
    problem: str
    remedy: str


@contextmanager
def no_folder(path: Path) -> Iterator[None]:
    path.parent.rmdir()
    yield
    path.parent.mkdir()


@contextmanager
def closed_folder(path: Path) -> Iterator[None]:
    path.parent.chmod(0o500)
    yield
    path.parent.chmod(0o700)


@contextmanager
def read_only_file(path: Path) -> Iterator[None]:
    work(path)
    path.chmod(0o400)
    yield
    path.chmod(0o600)


@contextmanager
def folder_in_its_place(path: Path) -> Iterator[None]:
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def no_database(path: Path) -> Iterator[None]:
    path.write_text("Dear diary, " * 1000)
    yield
    path.unlink()


@contextmanager
def database_of_others(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoice (id)")
    yield
    path.unlink()


@contextmanager
def newer_version(path: Path) -> Iterator[None]:
    work(path)
    (version,) = tell(path, "PRAGMA user_version")
    tell(path, "PRAGMA user_version = 999")
    yield
    tell(path, f"PRAGMA user_version = {version}")


@contextmanager
def corrupt_file(path: Path) -> Iterator[None]:
    work(path)
    sound = path.read_bytes()
    path.write_bytes(sound[:4096] + os.urandom(len(sound) - 4096))
    yield
    # As the error says.
    for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(sound)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Another process holds it for longer than an outbox waits: until the end of the trouble."""
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:  # noqa: S603 - ours
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield


AT_START: Final = {
    "no folder": Trouble(no_folder, "there is no folder", "create it"),
    "a folder that may not be written": Trouble(closed_folder, "it cannot be made", "write in its folder"),
    "a file that may not be written": Trouble(read_only_file, "it may not be written", "write permission"),
    "a folder in its place": Trouble(folder_in_its_place, "a folder", "path"),
    "no database": Trouble(no_database, "it is no SQLite database", "another path"),
    "a database of others": Trouble(database_of_others, "another application's database", "a file of its own"),
    "a newer version": Trouble(newer_version, "version 999", "upgrade callback_middleware"),
    "a corrupt file": Trouble(corrupt_file, "it is corrupt", "restore a copy"),
    "a lock": Trouble(locked_file, "another process has locked it", "let that process commit"),
}


def work(path: Path) -> None:
    """An outbox works there, in a process of its own, and ends."""
    subprocess.run([sys.executable, power_load.__file__, path, os.devnull, "--puts", "50"], check=True)  # noqa: S603 - ours
    # All of it in the one file.
    tell(path, "PRAGMA wal_checkpoint(TRUNCATE)")


def tell(path: Path, statement: str) -> tuple[int, ...]:
    """One statement, and the first row of what it says."""
    with closing(sqlite3.connect(path)) as connection:
        row: tuple[int, ...] = connection.execute(statement).fetchone() or ()
        return row

"""A connection of the user's to the same file: what it must be, so that what is stored through it is as safe as ever.

Nothing of how the user has set it up is changed, or in the way: whatever its factories make of rows and of text.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.sqlite import migrations
from callback_middleware.outbox.sqlite.faults import certain, meaning, primary_code
from callback_middleware.outbox.sqlite.file import APPLICATION_ID
from callback_middleware.outbox.sqlite.statements import Statements

_FULL: Final = 2
"""``PRAGMA synchronous`` from which on a commit survives a power cut."""

_LEGACY: Final = -1
"""``sqlite3.LEGACY_TRANSACTION_CONTROL``: what a connection's ``autocommit`` is unless something else was asked for."""

_OURS: Final = ("delivery", "queue", "subscription", "dedupe", "retry", "origin", "owner")
"""The tables that a put names."""

_LOCK: Final = "UPDATE main.clock SET checked = checked WHERE 0"
"""Changes nothing, and takes the file's lock for writing, for which it waits as long as the connection is set to."""


class Guest(Statements):
    """The user's connection, which nobody else uses meanwhile."""

    def fetch(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        return self._cursor().execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._cursor().execute(statement, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The user's transaction; begun, if Python would begin it with the next statement. Nobody else writes then.

        What raises in it is undone alone: what the user did before stays, and can be committed.

        Raises:
            ConfigurationError: What is stored here would not be as safe as the outbox says.
            OutboxUnavailable: SQLite refused.
        """
        with self._plain_text():
            undo: Sequence[str] = ()
            try:
                self._check_file()
                if self._begin():
                    undo = ("ROLLBACK",)
                self._lock()
                self._check_safety()
                self.run("SAVEPOINT callback_middleware")
                undo = undo or ("ROLLBACK TO callback_middleware", "RELEASE callback_middleware")
                yield
                self.run("RELEASE callback_middleware")
            except BaseException as error:
                self._undo(undo)
                if isinstance(error, sqlite3.Error):
                    raise self._meaning(error) from error
                raise

    def _cursor(self) -> sqlite3.Cursor:
        # As SQLite's own module makes one: a connection of a class of the user's may make others.
        cursor = sqlite3.Connection.cursor(self.connection)
        cursor.row_factory = None
        return cursor

    @contextmanager
    def _plain_text(self) -> Iterator[None]:
        # Cursors ask their connection for it.
        connection = self.connection
        before = connection.text_factory
        connection.text_factory = str
        try:
            yield
        finally:
            connection.text_factory = before

    def _check_file(self) -> None:
        places = {name: place for _, name, place in self.fetch("PRAGMA database_list")}
        main = places.pop("main")
        if not main or not _same(main, self.path):
            if any(place and _same(place, self.path) for place in places.values()):
                raise self._refusal(
                    "the outbox is attached to it, beside another file",
                    "connect to the outbox' file itself: what is in two files is not committed as one",
                )
            raise self._refusal(
                f"it is a connection to {main or 'memory'}", "give one to the outbox' own file, with your tables in it"
            )
        attached = sorted(name for name, place in places.items() if place and name != "temp")
        if attached:
            raise self._refusal(
                f"{', '.join(attached)} is attached to it, and what is in two files is not committed as one",
                "DETACH it, or use a connection of its own for this transaction",
            )

    def _begin(self) -> bool:
        """Begin the transaction that Python would begin. False if there is one."""
        connection = self.connection
        if connection.in_transaction:
            return False
        autocommit = getattr(connection, "autocommit", _LEGACY)
        if autocommit is True or (autocommit == _LEGACY and connection.isolation_level is None):
            raise self._refusal(
                "it commits every statement by itself, and no transaction is open",
                "BEGIN IMMEDIATE before, and COMMIT after it",
            )
        self.run("BEGIN IMMEDIATE")
        return True

    def _lock(self) -> None:
        try:
            self.run(_LOCK)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            # There is no such table.
            raise self._other_schema("nothing") from error

    def _check_safety(self) -> None:
        ((owner,),) = self.fetch("PRAGMA main.application_id")
        ((version,),) = self.fetch("PRAGMA main.user_version")
        if owner != APPLICATION_ID or version != _known():
            raise self._other_schema(f"version {version}")
        ((mode,),) = self.fetch("PRAGMA main.journal_mode")
        if mode != "wal":
            raise self._refusal(f"the file's journal mode is {mode}", "leave it at WAL, as the outbox has set it")
        ((synchronous,),) = self.fetch("PRAGMA main.synchronous")
        if synchronous < _FULL:
            raise self._refusal(
                "a power cut may undo what it commits (PRAGMA synchronous is below FULL)",
                "PRAGMA synchronous = FULL when you connect, before the transaction begins",
            )
        hidden = [name for (name,) in self.fetch("SELECT lower(name) FROM sqlite_temp_schema")]
        hiding = sorted(set(hidden).intersection(_OURS))
        if hiding:
            raise self._refusal(
                f"a temporary table hides the outbox' own ({', '.join(hiding)})", "give it another name, or drop it"
            )

    def _undo(self, statements: Sequence[str]) -> None:
        try:
            # An error of the disk may have rolled everything back.
            if self.connection.in_transaction:
                for statement in statements:
                    self.run(statement)
        except sqlite3.Error:
            # The connection is closed, or another thread's: whoever asked is told by the first error.
            return

    def _meaning(self, error: sqlite3.Error) -> Exception:
        if isinstance(error, sqlite3.ProgrammingError):
            return self._refusal(f"it cannot be used here ({error})", "give an open one, in the thread that made it")
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY_SNAPSHOT:
            return certain(
                self.path,
                "another connection has written since this transaction began to read",
                "BEGIN IMMEDIATE, or let commit_with come before you read, and try the whole transaction again",
            )
        if primary_code(error) == sqlite3.SQLITE_BUSY:
            return certain(
                self.path,
                "another connection was writing for as long as this one waits",
                "keep transactions short, and give sqlite3.connect(…) a longer timeout",
            )
        return meaning(self.path, error)

    def _other_schema(self, has: str) -> ConfigurationError:
        return self._refusal(
            f"the outbox' schema in the file is {has}, and this library's is version {_known()}",
            "let the outbox open the file first, as the middleware does when the application starts",
        )

    def _refusal(self, problem: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"commit_with cannot store on this connection, for {self.path}: {problem}; {remedy}")


def connection_of(given: object) -> sqlite3.Connection:
    """The connection of the standard library's ``sqlite3`` that is meant, or that SQLAlchemy uses.

    Raises:
        ConfigurationError: There is none.
    """
    engine, orm = sys.modules.get("sqlalchemy.engine"), sys.modules.get("sqlalchemy.orm")
    found = given
    if orm is not None and isinstance(found, orm.Session):
        found = found.connection()
    if engine is not None and isinstance(found, engine.Connection):
        if not found.in_transaction():
            raise ConfigurationError(
                "commit_with: no transaction is open on this SQLAlchemy connection, and its commit() would do nothing: "
                "begin() one before"
            )
        found = found.connection.driver_connection
    if not isinstance(found, sqlite3.Connection):
        raise ConfigurationError(
            f"commit_with: SQLiteOutbox cannot use a {type(given).__module__}.{type(given).__qualname__}; it takes a "
            "sqlite3.Connection, or SQLAlchemy's Session or Connection that uses one"
        )
    return found


@cache
def _known() -> int:
    """The version of the schema. It is asked at every put, and files are read for it."""
    return len(migrations.steps())


def _same(place: str, path: Path) -> bool:
    """Whether both lead to the same file, links followed."""
    try:
        return path.samefile(place)
    except OSError:
        return False

"""The schema of an outbox: which steps it lacks, and how it gets them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Protocol

import anyio

from callback_middleware.cli.outboxes import is_postgres, masked, refuse_schema, sqlite_path, unknown
from callback_middleware.cli.refusals import Refused
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.outbox.sqlite.migrating import migrate, pending
from callback_middleware.ports import Outbox


class Schema(Protocol):
    """What is brought up to date."""

    def __str__(self) -> str:
        """Where it is, without a password."""
        ...

    def pending(self) -> Sequence[str]:
        """The names of the steps that it lacks. Nothing is changed."""
        ...

    def migrate(self) -> Sequence[str]:
        """Take the steps that it lacks. Returns their names."""
        ...


class FileSchema:
    """That of an SQLite file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()

    def __str__(self) -> str:
        return f"the file {self._path}"

    def pending(self) -> Sequence[str]:
        return pending(self._path)

    def migrate(self) -> Sequence[str]:
        return migrate(self._path)


class DatabaseSchema:
    """One in a PostgreSQL database, by its name, or the one that an outbox has unless it is told otherwise."""

    def __init__(self, url: str, name: str | None) -> None:
        self._url = url
        self._named = {} if name is None else {"schema": name}

    def __str__(self) -> str:
        name = self._named.get("schema")
        return masked(self._url) if name is None else f"{masked(self._url)} (schema {name})"

    def pending(self) -> Sequence[str]:
        return self._run(_engine().pending)

    def migrate(self) -> Sequence[str]:
        return self._run(_engine().migrate)

    def _run(self, function: Callable[..., Awaitable[Sequence[str]]]) -> Sequence[str]:
        return anyio.run(partial(function, self._url, **self._named))


def script(name: str | None) -> str:
    """Every step in SQL, for whoever applies them in person."""
    named = {} if name is None else {"schema": name}
    text: str = _engine().script(**named)
    return text


def schema_at(url: str, name: str | None) -> Schema:
    """The schema of the outbox that a URL names."""
    if is_postgres(url):
        return DatabaseSchema(url, name)
    path = sqlite_path(url)
    if path is None:
        raise unknown(url)
    refuse_schema(name)
    return FileSchema(path)


def schema_of(outbox: Outbox, name: str | None) -> Schema:
    """The schema of an application's outbox.

    Raises:
        Refused: It has none that this library knows of.
    """
    if isinstance(outbox, SQLiteOutbox):
        return schema_at(f"sqlite:{outbox.path}", name)
    # Without its driver nobody can have one of the other kind.
    with suppress(ImportError):
        from callback_middleware.outbox.postgres import PostgresOutbox

        if isinstance(outbox, PostgresOutbox):
            return DatabaseSchema(outbox.url, name or outbox.schema)
    raise Refused(f"{type(outbox).__name__} has no schema that could be brought up to date")


def _engine() -> ModuleType:
    try:
        from callback_middleware.outbox.postgres import migrating
    except ImportError as error:
        raise Refused(str(error)) from None
    return migrating

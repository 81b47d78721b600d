"""Storing in the transaction of somebody else: on their connection, with their driver, in two statements.

The first asks which transaction this is, and the second stores only if it is still the same: where every statement
commits by itself, nothing is stored. What becomes of it is known to the server by its number, whatever becomes of the
connection (``pg_xact_status``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from callback_middleware.backlog import BacklogLimits
from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.postgres.puts import bounds_text, reports
from callback_middleware.outbox.postgres.rows import batches_text
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.ports import Batch, Fate, Joined, PutReport

_WHICH: Final = "SELECT CAST(pg_current_xact_id() AS text)"

_KINDS: Final = (
    "an asyncpg connection, a psycopg (3) connection, or SQLAlchemy's session or connection: "
    "the asynchronous ones with commit_with, the others with commit_with_sync"
)

_REFUSALS: Final = {
    "no transaction": "has no transaction open: every statement on it commits by itself. Open one, and give the "
    "connection while it is open",
    "synchronous_commit": "has synchronous_commit = off: what it commits may be lost. Set it to on in this "
    "transaction: SET LOCAL synchronous_commit TO on",
    "elsewhere": "is to another outbox than the application's: its schema has the name, and is not the same. Connect "
    "it to the database of the outbox",
}

_FATES: Final = {
    "in progress": Fate.OPEN,
    "committed": Fate.COMMITTED,
    "aborted": Fate.ROLLED_BACK,
}


class Joining:
    """Stores batches on connections of others.

    Args:
        schema: Where.
        name: How the outbox is called in errors.
        limits: How many deliveries may be live; None for as many as come.

    Attributes:
        identity: Which outbox this is, as soon as its database was asked.
    """

    def __init__(self, schema: Schema, name: str, limits: BacklogLimits | None) -> None:
        self.identity: UUID | None = None
        self._name = name
        self._limits = limits
        self._put = (
            f"SELECT CAST({schema.name}.put_joined(CAST(CAST({{0}} AS text) AS json), "
            "CAST(CAST({1} AS text) AS timestamptz), CAST(CAST({2} AS text) AS json), CAST({3} AS text), "
            "CAST(CAST({4} AS text) AS uuid)) AS text)"
        )

    async def put(self, connection: object, batch: Batch, now: datetime) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in`."""
        ask = _asynchronous(connection)
        if ask is None:
            raise self._unknown(connection, blocking=_synchronous(connection) is not None)
        try:
            transaction = await ask(_WHICH, ())
            told = await ask(self._put, self._parameters(batch, now, transaction))
        except Exception as error:
            raise self._failed(error) from error
        return Joined(self._report(told, batch), transaction)

    def put_sync(self, connection: object, batch: Batch, now: datetime) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in_sync`."""
        ask = _synchronous(connection)
        if ask is None:
            raise self._unknown(connection, blocking=_asynchronous(connection) is None)
        try:
            transaction = ask(_WHICH, ())
            told = ask(self._put, self._parameters(batch, now, transaction))
        except Exception as error:
            raise self._failed(error) from error
        return Joined(self._report(told, batch), transaction)

    def _parameters(self, batch: Batch, now: datetime, transaction: str) -> Sequence[str | None]:
        (whole,) = json.loads(batches_text([batch]))
        identity = None if self.identity is None else str(self.identity)
        return json.dumps(whole), now.isoformat(), bounds_text(self._limits), transaction, identity

    def _report(self, told: str, batch: Batch) -> PutReport:
        if told.startswith("{"):
            raise ConfigurationError(f"the connection that was given {_REFUSALS[json.loads(told)['refused']]}")
        (result,) = reports(told, [batch], self._limits)
        if isinstance(result, Exception):
            raise result
        return result

    def _failed(self, error: Exception) -> OutboxUnavailable:
        return OutboxUnavailable(
            f"the outbox {self._name} was not reached through the connection that was given, and nothing was stored: "
            f"{error}; see that it is open, to that database, and that its user may use the outbox' schema"
        )

    @staticmethod
    def _unknown(connection: object, *, blocking: bool) -> ConfigurationError:
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        other = "; this one belongs to the other of these two" if blocking else ""
        return ConfigurationError(f"{kind} is no connection whose transaction can be joined: give {_KINDS}{other}")


def fate_of(status: str | None) -> Fate:
    """What ``pg_xact_status`` says."""
    return _FATES.get(status or "", Fate.UNKNOWN)


def _asynchronous(connection: Any) -> Callable[[str, Sequence[str | None]], Awaitable[str]] | None:
    """Asks on a connection of an asynchronous driver; None for any other connection."""
    if _is(connection, "asyncpg", "Connection") or _is(connection, "asyncpg.pool", "PoolConnectionProxy"):

        async def ask(statement: str, values: Sequence[str | None]) -> str:
            marks = (f"${number}" for number in range(1, len(values) + 1))
            return str(await connection.fetchval(statement.format(*marks), *values))

    elif _is(connection, "psycopg", "AsyncConnection"):

        async def ask(statement: str, values: Sequence[str | None]) -> str:
            async with connection.cursor(row_factory=_first) as cursor:
                await cursor.execute(statement.format(*["%s"] * len(values)), values or None)
                return str(await cursor.fetchone())

    elif _is(connection, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):

        async def ask(statement: str, values: Sequence[str | None]) -> str:
            return str((await connection.execute(*_clause(statement, values))).scalar_one())

    else:
        return None
    return ask


def _synchronous(connection: Any) -> Callable[[str, Sequence[str | None]], str] | None:
    """Asks on a connection of a driver that blocks; None for any other connection."""
    if _is(connection, "psycopg", "Connection"):

        def ask(statement: str, values: Sequence[str | None]) -> str:
            with connection.cursor(row_factory=_first) as cursor:
                cursor.execute(statement.format(*["%s"] * len(values)), values or None)
                return str(cursor.fetchone())

    elif _is(connection, "sqlalchemy.orm", "Session") or _is(connection, "sqlalchemy", "Connection"):

        def ask(statement: str, values: Sequence[str | None]) -> str:
            return str(connection.execute(*_clause(statement, values)).scalar_one())

    else:
        return None
    return ask


def _clause(statement: str, values: Sequence[str | None]) -> tuple[Any, dict[str, str | None]]:
    """A statement and its parameters as SQLAlchemy takes them."""
    import sqlalchemy

    names = [f"p{number}" for number in range(len(values))]
    return sqlalchemy.text(statement.format(*(f":{name}" for name in names))), dict(zip(names, values, strict=True))


def _first(_cursor: object) -> Callable[[Sequence[Any]], Any]:
    """Rows of one column, whatever the connection makes of rows."""
    return lambda row: row[0]


def _is(connection: object, module: str, *names: str) -> bool:
    """Whether it is of one of these classes: whose module nobody has imported, of that nobody has a connection."""
    known = sys.modules.get(module)
    return known is not None and any(isinstance(connection, getattr(known, name, ())) for name in names)

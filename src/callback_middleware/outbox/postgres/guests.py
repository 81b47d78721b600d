"""Connections of the user's, by their drivers: how one asks on them, and how their transactions are opened.

Nothing of how the user has set them up is changed, or in the way: row factories, adapters, caches, autocommit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

Values: TypeAlias = Sequence[str | None]

KINDS: Final = (
    "await commit_with(…) takes asyncpg's Connection, psycopg's (3) AsyncConnection, and SQLAlchemy's AsyncSession or "
    "AsyncConnection; commit_with_sync(…) takes psycopg's Connection, and SQLAlchemy's Session or Connection"
)


class AnotherDatabase(Exception):
    """A connection is to no PostgreSQL. Says to what."""


class Kind(NamedTuple):
    """Connections of one class.

    Attributes:
        module: Where the class is to be imported from.
        name: The class.
        ask: Runs a statement on a connection that gives one text. Its parameters are texts; where they stand, the
            statement has their numbers from 0 in braces. Raises what the driver does, and ``AnotherDatabase``.
        begin: How it comes that a transaction is open, in Python.
        blocks: Whether ``ask`` returns the answer, and not what is to be awaited for it.
    """

    module: str
    name: str
    ask: Callable[[Any, str, Values], Any]
    begin: str
    blocks: bool


def kind_of(connection: object) -> Kind | None:
    """What kind of a connection it is; None for any other object."""
    return next((kind for kind in _all() if _is(connection, kind)), None)


def cause_of(error: Exception) -> Exception:
    """The driver's own error, and not SQLAlchemy's around it: that shows the parameters, and so what is to be sent."""
    cause = getattr(error, "orig", None)
    return cause_of(cause) if isinstance(cause, Exception) else error


def code_of(error: Exception) -> str:
    """PostgreSQL's code of a driver's error (SQLSTATE); empty where it is none of the server's."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


async def _ask_asyncpg(connection: Any, statement: str, values: Values) -> str:
    marks = (f"${number}" for number in range(1, len(values) + 1))
    return str(await connection.fetchval(statement.format(*marks), *values))


async def _ask_psycopg(connection: Any, statement: str, values: Values) -> str:
    import psycopg

    async with psycopg.AsyncCursor[Any](connection, row_factory=_first) as cursor:
        _speak_plainly(cursor)
        await cursor.execute(_marked(statement, values), values or None)
        return str(await cursor.fetchone())


def _ask_psycopg_sync(connection: Any, statement: str, values: Values) -> str:
    import psycopg

    with psycopg.Cursor[Any](connection, row_factory=_first) as cursor:
        _speak_plainly(cursor)
        cursor.execute(_marked(statement, values), values or None)
        return str(cursor.fetchone())


async def _ask_session(session: Any, statement: str, values: Values) -> str:
    return await _ask_sqlalchemy(await session.connection(), statement, values)


async def _ask_sqlalchemy(connection: Any, statement: str, values: Values) -> str:
    return str((await connection.execute(_clause(connection, statement, len(values)), _named(values))).scalar_one())


def _ask_session_sync(session: Any, statement: str, values: Values) -> str:
    return _ask_sqlalchemy_sync(session.connection(), statement, values)


def _ask_sqlalchemy_sync(connection: Any, statement: str, values: Values) -> str:
    return str(connection.execute(_clause(connection, statement, len(values)), _named(values)).scalar_one())


@cache
def _all() -> Sequence[Kind]:
    asyncpg = "begin one: async with connection.transaction(): …"
    psycopg = "begin one, with connection.transaction(), or leave autocommit off"
    sqlalchemy = 'leave isolation_level="AUTOCOMMIT" off'
    return [
        Kind("asyncpg", "Connection", _ask_asyncpg, asyncpg, blocks=False),
        Kind("asyncpg.pool", "PoolConnectionProxy", _ask_asyncpg, asyncpg, blocks=False),
        Kind("psycopg", "AsyncConnection", _ask_psycopg, psycopg, blocks=False),
        Kind("psycopg", "Connection", _ask_psycopg_sync, psycopg, blocks=True),
        Kind("sqlalchemy.ext.asyncio", "AsyncSession", _ask_session, sqlalchemy, blocks=False),
        Kind("sqlalchemy.ext.asyncio", "AsyncConnection", _ask_sqlalchemy, sqlalchemy, blocks=False),
        Kind("sqlalchemy.orm", "Session", _ask_session_sync, sqlalchemy, blocks=True),
        Kind("sqlalchemy", "Connection", _ask_sqlalchemy_sync, sqlalchemy, blocks=True),
    ]


def _is(connection: object, kind: Kind) -> bool:
    """Whether it is of this kind: whose module nobody has imported, of that nobody has a connection."""
    known = sys.modules.get(kind.module)
    return known is not None and isinstance(connection, getattr(known, kind.name, ()))


def _marked(statement: str, values: Values) -> bytes:
    return statement.format(*["%s"] * len(values)).encode()


def _speak_plainly(cursor: Any) -> None:
    """Have this cursor alone know texts as psycopg does, whatever its connection makes of them."""
    from psycopg.types import string

    cursor.adapters.register_dumper(str, string.StrDumper)
    cursor.adapters.register_loader("text", string.TextLoader)


def _first(_cursor: object) -> Callable[[Sequence[Any]], Any]:
    """Rows of one column, whatever the connection makes of rows."""
    return lambda row: row[0]


def _clause(connection: Any, statement: str, count: int) -> Any:
    if connection.dialect.name != "postgresql":
        raise AnotherDatabase(connection.dialect.name)
    import sqlalchemy

    return sqlalchemy.text(statement.format(*(f":p{number}" for number in range(count))))


def _named(values: Values) -> dict[str, str | None]:
    return {f"p{number}": value for number, value in enumerate(values)}

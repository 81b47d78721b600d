"""The schema, made and brought up to date, on purpose and by somebody who may: never by an application that starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.postgres.faults import out_of_reach
from callback_middleware.outbox.postgres.keeping import make_days
from callback_middleware.outbox.postgres.line import CONNECTING
from callback_middleware.outbox.postgres.migrations import Step, steps
from callback_middleware.outbox.postgres.schema import SCHEMA, Schema
from callback_middleware.outbox.postgres.urls import check_url, shown, typed

OLDEST_SERVER: Final = 140_000
"""PostgreSQL 14: the first with functions whose bodies are read when they are made."""

_APPLIED: Final = (
    "CREATE TABLE IF NOT EXISTS {0}.migration "
    "(number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
)


_DAYS: Final = """SELECT make_part(parent, (now() AT TIME ZONE 'UTC')::date + number)
FROM generate_series(-1, 7) AS number, unnest(ARRAY['delivery', 'result', 'attempt']) AS parent;"""


async def migrate(url: str, *, schema: str = SCHEMA) -> Sequence[str]:
    """Apply every step that is missing, each in a transaction of its own. Their names; none where it is up to date.

    Several at once wait for each other.

    Raises:
        ConfigurationError: The server, or its schema, is none that this library can use.
        OutboxUnavailable: It cannot be reached, or refuses.
    """
    where = Schema(schema)
    async with _connected(url) as connection:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"{where.name} migrations")
        # One that was made for its user may be all that this user may have: CREATE asks for more, whatever is there.
        if await connection.fetchval("SELECT to_regnamespace($1)", where.name) is None:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {where.name}")
        await connection.execute(_APPLIED.format(where.name))
        missing = await _found_missing(connection, where, url)
        for step in missing:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL search_path TO {where.name}, pg_temp")
                await connection.execute(step.script)
                await connection.execute(
                    f"INSERT INTO {where.name}.migration (number, name) VALUES ($1, $2)",  # noqa: S608 - a name of ours
                    *(step.number, step.name),
                )
        await make_days(connection, where)
    return [step.name for step in missing]


async def pending(url: str, *, schema: str = SCHEMA) -> Sequence[str]:
    """The names of the steps that :func:`migrate` would apply. It changes nothing, and raises what that does."""
    where = Schema(schema)
    async with _connected(url) as connection:
        return [step.name for step in await _found_missing(connection, where, url)]


def script(schema: str = SCHEMA) -> str:
    """All steps as one script, for whoever applies SQL by hand. It is for a database that has none of them."""
    name = Schema(schema).name
    parts = [
        "BEGIN;",
        f"CREATE SCHEMA IF NOT EXISTS {name};",
        f"{_APPLIED.format(name)};",
        f"SET LOCAL search_path TO {name}, pg_temp;",
    ]
    for step in steps():
        parts += [
            f"-- {step.name}",
            step.script.strip(),
            f"INSERT INTO {name}.migration (number, name) VALUES ({step.number}, '{step.name}');",  # noqa: S608
        ]
    parts += [
        "-- The days that come; a process that owns the schema makes the later ones by itself.",
        _DAYS,
        "COMMIT;",
    ]
    return "\n\n".join(parts) + "\n"


async def version(connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, schema: Schema) -> int:
    """How many steps a schema has; 0 where there is none."""
    table = await connection.fetchval("SELECT to_regclass($1)", f"{schema.name}.migration")
    if table is None:
        return 0
    number: int = await connection.fetchval(f"SELECT coalesce(max(number), 0) FROM {schema.name}.migration")  # noqa: S608
    return number


def check(found: int, schema: Schema, url: str) -> None:
    """Refuse a schema that is not this library's. Raises ``ConfigurationError`` with what to do."""
    known = len(steps())
    if found < known:
        state = "nothing was migrated there yet" if found == 0 else f"its schema is at step {found} of {known}"
        option = "" if schema.name == SCHEMA else f" --schema {schema.name}"
        raise ConfigurationError(
            f"the outbox {shown(url)} (schema {schema.name}) is not ready: {state}; "
            f"run `callback-middleware migrate{option} {typed(url)}`"
        )
    _missing(schema, found, url)


async def _found_missing(connection: asyncpg.Connection, schema: Schema, url: str) -> Sequence[Step]:
    # Files are read, and this is an event loop.
    await asyncio.to_thread(steps)
    return _missing(schema, await version(connection, schema), url)


def _missing(schema: Schema, found: int, url: str) -> Sequence[Step]:
    known = steps()
    if found > len(known):
        raise ConfigurationError(
            f"the outbox {shown(url)} (schema {schema.name}) is at step {found}, and this library knows {len(known)}: "
            "upgrade callback_middleware to the release that made it"
        )
    return known[found:]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(check_url(url), timeout=CONNECTING)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
        raise out_of_reach(shown(url), error) from error
    try:
        if connection.get_server_version()[0] < OLDEST_SERVER // 10_000:
            raise ConfigurationError(f"the server of {shown(url)} is older than PostgreSQL {OLDEST_SERVER // 10_000}")
        encoding = connection.get_settings().server_encoding
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the database {shown(url)} is encoded in {encoding}: "
                "create one with ENCODING 'UTF8' TEMPLATE template0"
            )
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise OutboxUnavailable(
            f"the outbox {shown(url)} cannot be migrated: {error}; do it as the user who owns its schema, or, where "
            "there is none, as one who may create it (GRANT CREATE ON DATABASE … TO …)"
        ) from error
    except asyncpg.PostgresError as error:
        raise out_of_reach(shown(url), error) from error
    finally:
        await connection.close(timeout=CONNECTING)

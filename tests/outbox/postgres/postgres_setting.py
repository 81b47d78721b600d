"""What the tests of the PostgreSQL outbox start from: an empty schema whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import pytest

from callback_middleware.backlog import BacklogLimits
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.testing import VirtualClock
from postgres_server import DatabaseServer

TABLES = ("attempt", "result", "delivery", "queue", "dedupe", "subscription", "retry", "origin")

STILL = """
CREATE SCHEMA test;
CREATE TABLE test.clock (now timestamptz NOT NULL);
INSERT INTO test.clock VALUES (now());
CREATE OR REPLACE FUNCTION callback_middleware.instant() RETURNS timestamptz LANGUAGE sql STABLE
  AS 'SELECT now FROM test.clock'
"""


@pytest.fixture(scope="session")
def database(postgres_server: DatabaseServer) -> str:
    """A database with the schema, whose clock stands still."""
    url = postgres_server.create_database()
    anyio.run(migrate, url)
    postgres_server.execute(STILL, database=url)
    return url


@pytest.fixture
def migrated(database: str, postgres_server: DatabaseServer) -> str:
    """The database, emptied."""
    empty = (f"DELETE FROM callback_middleware.{table}" for table in TABLES)  # noqa: S608 - names of ours
    postgres_server.execute("; ".join(empty), database=database)
    return database


@pytest.fixture(scope="session")
def pattern(postgres_server: DatabaseServer) -> str:
    """A database with the schema, whose clock stands still, and that nobody is connected to."""
    url = postgres_server.create_database()
    anyio.run(migrate, url)
    postgres_server.execute(STILL, database=url)
    return url


@pytest.fixture
def fresh(pattern: str, postgres_server: DatabaseServer) -> Iterator[str]:
    """A copy of it, for those who change more than rows."""
    url = postgres_server.url(f"callbacks_{uuid4().hex}")
    postgres_server.execute(f"CREATE DATABASE {named(url)} TEMPLATE {named(pattern)}")
    yield url
    postgres_server.drop_database(url)


class PostgresSetting:
    """The fixtures of an ``OutboxSetting``, on a database whose clock is the virtual one."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Asyncpg knows no other."""
        return "asyncio"

    @pytest.fixture
    async def outbox(
        self, migrated: str, postgres_server: DatabaseServer, clock: VirtualClock, backlog: BacklogLimits | None
    ) -> AsyncIterator[PostgresOutbox]:
        set_clock(postgres_server, migrated, clock)
        outbox = PostgresOutbox(migrated, clock=clock, backlog=backlog)
        yield outbox
        await outbox.aclose()

    async def let_pass(self, outbox: Any, clock: VirtualClock, time: timedelta) -> None:
        clock.advance(time)
        await outbox._ask(lambda connection: connection.execute("UPDATE test.clock SET now = $1", clock.now()))


def set_clock(server: DatabaseServer, url: str, clock: VirtualClock) -> None:
    """Have the database's clock say what another says now."""
    server.execute("UPDATE test.clock SET now = %s", (clock.now(),), database=url)


def named(url: str) -> str:
    """The name of a database."""
    return urlsplit(url).path[1:]

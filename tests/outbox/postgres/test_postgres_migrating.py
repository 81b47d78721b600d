from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest
from postgres_setting import named

from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.postgres import PostgresOutbox, migrating
from callback_middleware.outbox.postgres.keeping import AHEAD
from callback_middleware.outbox.postgres.migrating import migrate, pending, script
from callback_middleware.outbox.postgres.migrations import Step, steps
from callback_middleware.outbox.postgres.schema import SCHEMA
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from postgres_server import DatabaseServer

# Once, and where nobody waits for the disk.
NAMES = [step.name for step in steps()]

CATALOG = {
    "columns": "SELECT table_name, column_name, data_type, column_default, is_nullable, is_identity "
    "FROM information_schema.columns WHERE table_schema = %s",
    "indexes": "SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = %s",
    "constraints": "SELECT conrelid::regclass::text, conname, replace(pg_get_constraintdef(oid), nspname || '.', '') "
    "FROM pg_constraint JOIN (SELECT oid AS namespace, nspname FROM pg_namespace) n ON namespace = connamespace "
    "WHERE nspname = %s",
    "functions": "SELECT replace(pg_get_functiondef(p.oid), nspname, '') FROM pg_proc p "
    "JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = %s",
    "tables": "SELECT relname, relkind, reloptions, pg_get_expr(relpartbound, c.oid) FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s",
}
"""All that there is in a schema, without its name."""


def catalog(server: DatabaseServer, url: str, schema: str = SCHEMA) -> dict[str, list[str]]:
    found = {}
    for kind, question in CATALOG.items():
        rows = server.execute(question, (schema,), database=url)
        found[kind] = sorted(str(row).replace(f"{schema}.", "") for row in rows)
    steps_of = server.execute(f"SELECT number, name FROM {schema}.migration", database=url)  # noqa: S608 - ours
    return {**found, "steps": sorted(map(str, steps_of))}


class TestMigrating:
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Asyncpg knows no other."""
        return "asyncio"

    @pytest.fixture
    def role(self, fresh: str, postgres_server: DatabaseServer) -> Iterator[str]:
        """A user who may do nothing."""
        name = f"{named(fresh)}_migrates"
        postgres_server.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        postgres_server.execute(f"DROP OWNED BY {name}", database=fresh)
        postgres_server.execute(f"DROP ROLE {name}")

    async def test_from_nothing_every_step_is_made_and_the_second_time_there_is_nothing_to_do(
        self, postgres: str, postgres_server: DatabaseServer
    ) -> None:
        assert await migrate(postgres) == NAMES
        made = catalog(postgres_server, postgres)
        assert await migrate(postgres) == []
        assert catalog(postgres_server, postgres) == made
        ((today,),) = postgres_server.execute("SELECT (now() AT TIME ZONE 'UTC')::date", database=postgres)
        for number in range(-1, AHEAD + 1):
            assert any(f"delivery_{today + timedelta(days=number):%Y%m%d}" in one for one in made["tables"])

    async def test_two_at_once_wait_for_each_other(self, postgres: str) -> None:
        applied: list[Sequence[str]] = []

        async def one() -> None:
            applied.append(await migrate(postgres))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
        assert sorted(applied, key=len) == [[], [], NAMES]

    async def test_what_is_pending_is_told_and_nothing_is_changed(
        self, postgres: str, postgres_server: DatabaseServer
    ) -> None:
        assert await pending(postgres) == NAMES
        exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'callback_middleware'"
        assert postgres_server.execute(exists, database=postgres) == [(0,)]
        await migrate(postgres)
        assert await pending(postgres) == []
        take_back(postgres_server, postgres)
        assert await pending(postgres) == NAMES[-1:]

    @pytest.mark.parametrize("schema", [SCHEMA, "callbacks_of_ours"])
    async def test_the_script_makes_the_same_schema(
        self, postgres: str, postgres_server: DatabaseServer, schema: str
    ) -> None:
        await migrate(postgres, schema=schema)
        other = postgres_server.create_database()
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute(script(schema).encode())
            assert connection.execute("SHOW search_path").fetchall() == [('"$user", public',)]
        assert catalog(postgres_server, other, schema) == catalog(postgres_server, postgres, schema)
        assert await migrate(other, schema=schema) == []
        postgres_server.drop_database(other)

    async def test_steps_that_come_one_by_one_make_the_same_schema(
        self, postgres: str, fresh: str, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for count in range(1, len(NAMES) + 1):
            monkeypatch.setattr(migrating, "steps", partial(steps().__getitem__, slice(count)))
            # The days are made by what the first steps do not have yet.
            monkeypatch.setattr(migrating, "make_days", _make_none)
            assert await migrate(postgres) == NAMES[count - 1 : count]
        monkeypatch.undo()
        assert await migrate(postgres) == []
        await migrate(fresh)
        theirs = catalog(postgres_server, fresh)
        ours = catalog(postgres_server, postgres)
        # Of the other one the clock stands still.
        del theirs["functions"], ours["functions"]
        assert ours == theirs

    async def test_a_step_that_fails_leaves_nothing_behind_and_those_before_it_stay(
        self, postgres: str, monkeypatch: pytest.MonkeyPatch, postgres_server: DatabaseServer
    ) -> None:
        bad = Step(3, "0003_bad", "CREATE TABLE half (); SELECT 1 / 0")
        with monkeypatch.context() as patch:
            patch.setattr(migrating, "steps", lambda: [*steps()[:2], bad])
            with pytest.raises(OutboxUnavailable, match="division by zero"):
                await migrate(postgres)
        exists = "SELECT to_regclass('callback_middleware.half')"
        assert postgres_server.execute(exists, database=postgres) == [(None,)]
        assert await pending(postgres) == NAMES[2:]
        assert await migrate(postgres) == NAMES[2:]

    async def test_an_older_schema_is_refused_at_the_start_with_the_command(
        self, fresh: str, postgres_server: DatabaseServer
    ) -> None:
        take_back(postgres_server, fresh)
        count = len(NAMES)
        command = (
            f"its schema is at step {count - 1} of {count}; run `callback-middleware migrate postgresql://callbacks@127"
        )
        async with refused(fresh, command):
            pass

    async def test_a_newer_schema_is_refused_by_everybody(self, fresh: str, postgres_server: DatabaseServer) -> None:
        newer = f"INSERT INTO callback_middleware.migration (number, name) VALUES ({len(NAMES) + 1}, 'next')"  # noqa: S608
        postgres_server.execute(newer, database=fresh)
        said = f"is at step {len(NAMES) + 1}, and this library knows {len(NAMES)}: upgrade callback_middleware"
        async with refused(fresh, said):
            pass
        for ask in (migrate, pending):
            with pytest.raises(ConfigurationError, match=said):
                await ask(fresh)

    async def test_a_schema_of_another_name_that_is_missing_is_refused_with_the_whole_command(self, fresh: str) -> None:
        said = (
            "nothing was migrated there yet; run `callback-middleware migrate --schema mine postgresql://callbacks@127"
        )
        async with refused(fresh, said, schema="mine"):
            pass

    async def test_a_password_is_in_no_command(self, fresh: str, postgres_server: DatabaseServer) -> None:
        take_back(postgres_server, fresh)
        parts = urlsplit(fresh)
        url = parts._replace(netloc=parts.netloc.replace("@", ":secret@")).geturl()
        async with refused(url, "run `callback-middleware migrate") as error:
            assert "secret" not in str(error)

    async def test_a_database_of_another_encoding_is_refused(
        self, postgres: str, postgres_server: DatabaseServer
    ) -> None:
        url = urlsplit(postgres)._replace(path=f"/{named(postgres)}_ascii").geturl()
        postgres_server.execute(f"CREATE DATABASE {named(url)} ENCODING 'SQL_ASCII' TEMPLATE template0")
        for ask in (migrate, pending):
            with pytest.raises(ConfigurationError, match=r"is encoded in SQL_ASCII: create one with ENCODING 'UTF8'"):
                await ask(url)
        postgres_server.drop_database(url)

    async def test_a_server_that_is_too_old_is_refused(self, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(migrating, "OLDEST_SERVER", 990_000)
        for ask in (migrate, pending):
            with pytest.raises(ConfigurationError, match=r"the server of postgresql://.* is older than PostgreSQL 99"):
                await ask(postgres)

    async def test_a_user_who_may_not_is_told_who_may(self, fresh: str, role: str) -> None:
        said = "cannot be migrated: permission denied .*; do it as the user who owns its schema, or, .*GRANT CREATE ON"
        parts = urlsplit(fresh)
        url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        for schema in (SCHEMA, "another"):
            with pytest.raises(OutboxUnavailable, match=said):
                await migrate(url, schema=schema)

    async def test_a_schema_that_was_made_for_its_user_is_enough(
        self, fresh: str, role: str, postgres_server: DatabaseServer
    ) -> None:
        postgres_server.execute(f"CREATE SCHEMA mine AUTHORIZATION {role}", database=fresh)
        parts = urlsplit(fresh)
        url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        assert await migrate(url, schema="mine") == NAMES

    async def test_a_database_out_of_reach_is_told(self, postgres: str) -> None:
        missing = urlsplit(postgres)._replace(path="/missing").geturl()
        for ask in (migrate, pending):
            with pytest.raises(OutboxUnavailable, match='"missing" does not exist; create that database'):
                await ask(missing)
            with pytest.raises(OutboxUnavailable, match="see that the server runs, and that this machine may reach it"):
                await ask("postgresql://127.0.0.1:1/callbacks")

    async def test_what_is_no_url_or_no_name_is_refused(self, postgres: str) -> None:
        for ask in (migrate, pending):
            with pytest.raises(ConfigurationError, match="not one of the scheme 'sqlite'"):
                await ask("sqlite:///callbacks.db")
            with pytest.raises(ConfigurationError, match="lower-case letters"):
                await ask(postgres, schema="Mine")
        with pytest.raises(ConfigurationError, match="lower-case letters"):
            script("Mine")


class TestSchemas(OutboxSetting):
    """Two outboxes in one database know nothing of each other."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Asyncpg knows no other."""
        return "asyncio"

    async def test_two_schemas_in_one_database_are_two_outboxes(self, postgres: str, clock: VirtualClock) -> None:
        one = PostgresOutbox(postgres, schema="one", clock=clock, backlog=None)
        other = PostgresOutbox(postgres, clock=clock, backlog=None)
        assert await migrate(postgres, schema="one") == await migrate(postgres) == NAMES
        plain, keyed = self.delivery(clock), self.delivery(clock, dedupe="once")
        for outbox in (one, other):
            await outbox.start()
            report = await outbox.put(Batch([plain, keyed]))
            assert report.stored == [plain.id, keyed.id]
        await self.settle_all(one, clock)
        assert (await one.counts())[State.DELIVERED] == (await other.counts())[State.PENDING] == 2
        assert (one.schema, other.schema) == ("one", SCHEMA)
        for outbox in (one, other):
            await outbox.aclose()

    async def test_an_outbox_elsewhere_has_the_same_settings(self, postgres: str, clock: VirtualClock) -> None:
        one = PostgresOutbox(postgres, schema="one", clock=clock, keep=None, connections=2, pooler=True)
        other = one.elsewhere("postgresql://there/callbacks")
        assert (other.schema, other.url) == ("one", "postgresql://there/callbacks")
        assert (other._keep, other._connections, other._pooler, other._clock) == (None, 2, True, clock)
        assert one.elsewhere(postgres, schema="two").schema == "two"


@asynccontextmanager
async def refused(url: str, said: str, **arguments: Any) -> AsyncIterator[ConfigurationError]:
    """An outbox that does not start, and its error."""
    outbox = PostgresOutbox(url, **arguments)
    with pytest.raises(ConfigurationError) as failed:
        await outbox.start()
    await outbox.aclose()
    assert said in str(failed.value)
    yield failed.value


def take_back(server: DatabaseServer, url: str) -> None:
    """Have a schema look as if its last step had not been made."""
    last = f"DELETE FROM callback_middleware.migration WHERE number = {len(NAMES)}"  # noqa: S608 - ours
    server.execute(last, database=url)


async def _make_none(*_: object) -> None:
    pass

"""However the user has set up a connection: nothing of it is in the way of the outbox, and nothing of it is changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import asyncpg
import psycopg
import pytest
import sqlalchemy
from driving import Mine, Opening, asyncpg_connection, psycopg_async, psycopg_sync, sqlalchemy_url
from joining_setting import INVOICE, JoiningSetting
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper, Loader
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Fate
from callback_middleware.testing import VirtualClock
from postgres_server import DatabaseServer


@dataclass
class Row:
    """What the user makes of theirs."""

    mine: int


class Shouting(Dumper):
    """Writes texts as nobody else does."""

    def dump(self, obj: str) -> bytes:
        return obj.upper().encode()


class Deaf(Loader):
    """Reads no text."""

    def load(self, data: object) -> str:
        return ""


def adapt(context: AdaptContext | Any) -> None:
    context.adapters.register_dumper(str, Shouting)
    for name in ("text", "json", "uuid", "timestamptz"):
        context.adapters.register_loader(name, Deaf)


class Base(orm.DeclarativeBase):
    """The user's models."""


class Invoice(Base):
    __tablename__ = "invoice"
    __table_args__ = {"schema": "public"}  # noqa: RUF012 - SQLAlchemy reads it
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)


class TestGuests(JoiningSetting):
    async def kept(self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine) -> None:
        """It is stored on this connection, twice, so that what is prepared is used again."""
        await mine.begin()
        joined = [await mine.put_in(outbox, self.batch(clock)) for _ in range(2)]
        await mine.commit()
        assert {await outbox.fate(one.transaction) for one in joined} == {Fate.COMMITTED}
        assert await self.total(outbox) == 2

    # psycopg

    @pytest.mark.parametrize("opening", [psycopg_async, psycopg_sync])
    @pytest.mark.parametrize("rows", [dict_row, namedtuple_row, scalar_row, class_row(Row)])
    async def test_psycopgs_row_factories_stay_the_users(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, rows: Any, opening: Opening
    ) -> None:
        async with opening(url, row_factory=rows) as mine:
            await self.kept(outbox, clock, mine)
            assert mine.connection.row_factory is rows

    @pytest.mark.parametrize("kind", ["Cursor", "RawCursor", "ClientCursor"])
    async def test_psycopgs_cursors_stay_the_users(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, kind: str
    ) -> None:
        async with psycopg_async(url, cursor_factory=getattr(psycopg, f"Async{kind}")) as mine:
            await self.kept(outbox, clock, mine)
            assert type(mine.connection.cursor()).__name__ == f"Async{kind}"

    async def test_psycopgs_adapters_stay_the_users(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        async with psycopg_async(url) as mine:
            adapt(mine.connection)
            await self.kept(outbox, clock, mine)
            cursor = await mine.connection.execute("SELECT %s::varchar, 'text'::text", ["mine"])
            assert await cursor.fetchone() == ("MINE", "")

    @pytest.mark.parametrize("threshold", [None, 0])
    async def test_psycopg_may_prepare_nothing_or_everything(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, threshold: int | None
    ) -> None:
        async with psycopg_async(url, prepare_threshold=threshold) as mine:
            await self.kept(outbox, clock, mine)

    async def test_psycopgs_own_transactions_are_joined_also_where_one_is_in_another(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        async with psycopg_async(url, autocommit=True) as mine:
            async with mine.connection.transaction():
                kept = await outbox.put_in(mine.connection, self.batch(clock))
                async with mine.connection.transaction():
                    gone = await outbox.put_in(mine.connection, self.batch(clock))
                    raise psycopg.Rollback
            assert await outbox.fate(kept.transaction) is Fate.COMMITTED
            assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK

    async def test_psycopgs_pipeline_is_joined(self, outbox: PostgresOutbox, clock: VirtualClock, url: str) -> None:
        async with psycopg_async(url) as mine, mine.connection.pipeline():
            await mine.run(INVOICE)
            joined = await outbox.put_in(mine.connection, self.batch(clock))
            await mine.commit()
            assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    # asyncpg

    async def test_asyncpgs_codecs_stay_the_users(self, outbox: PostgresOutbox, clock: VirtualClock, url: str) -> None:
        async with asyncpg_connection(url) as mine:
            for name in ("json", "uuid", "timestamptz", "xid8"):
                await mine.connection.set_type_codec(
                    name, schema="pg_catalog", encoder=json.dumps, decoder=lambda _: "mine"
                )
            await self.kept(outbox, clock, mine)
            assert await mine.connection.fetchval("SELECT '{}'::json") == "mine"

    async def test_asyncpg_may_prepare_nothing_and_have_records_of_its_users(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        class Record(asyncpg.Record):
            """What the user makes of theirs."""

        async with asyncpg_connection(url, statement_cache_size=0, record_class=Record) as mine:
            await self.kept(outbox, clock, mine)

    async def test_asyncpgs_own_transactions_are_joined_also_where_one_is_in_another(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        async with asyncpg_connection(url) as mine:
            async with mine.connection.transaction(isolation="serializable"):
                kept = await outbox.put_in(mine.connection, self.batch(clock))
                nested = mine.connection.transaction()
                await nested.start()
                gone = await outbox.put_in(mine.connection, self.batch(clock))
                await nested.rollback()
            assert await outbox.fate(kept.transaction) is Fate.COMMITTED
            assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK

    async def test_a_connection_that_went_back_to_its_pool_tells_nothing_of_its_next_user(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection, connection.transaction():
                kept = await outbox.put_in(connection, self.batch(clock))
            async with pool.acquire() as connection:
                await connection.execute("BEGIN")
                gone = await outbox.put_in(connection, self.batch(clock))
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(INVOICE)
                assert await outbox.fate(kept.transaction) is Fate.COMMITTED
                assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK

    # SQLAlchemy

    async def test_sqlalchemys_unit_of_work_is_committed_with_it(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, postgres_server: DatabaseServer
    ) -> None:
        engine = create_async_engine(sqlalchemy_url(url, "asyncpg"))
        async with AsyncSession(engine) as session:
            session.add(Invoice(id="7"))
            kept = await outbox.put_in(session, self.batch(clock))
            # It has not asked for anything to be written yet.
            assert session.new
            async with session.begin_nested() as nested:
                gone = await outbox.put_in(session, self.batch(clock))
                await nested.rollback()
            await session.commit()
        await engine.dispose()
        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        assert self.invoices(postgres_server, url) == 1

    async def test_sqlalchemys_block_that_commits_is_joined(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))

        def handler() -> Sequence[Any]:
            with orm.Session(engine) as session, session.begin():
                session.add(Invoice(id="7"))
                kept = outbox.put_in_sync(session, self.batch(clock))
            with suppress(LookupError), orm.Session(engine) as session, session.begin():
                gone = outbox.put_in_sync(session, self.batch(clock))
                raise LookupError
            engine.dispose()
            return kept.transaction, gone.transaction

        kept, gone = await anyio.to_thread.run_sync(handler)
        assert [await outbox.fate(kept), await outbox.fate(gone)] == [Fate.COMMITTED, Fate.ROLLED_BACK]

    async def test_two_phases_are_open_until_the_second(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))

        def begin() -> Any:
            connection = engine.connect()
            transaction = connection.begin_twophase()
            joined = outbox.put_in_sync(connection, self.batch(clock))
            transaction.prepare()
            return connection, transaction, joined.transaction

        connection, transaction, joined = await anyio.to_thread.run_sync(begin)
        assert await outbox.fate(joined) is Fate.OPEN
        await anyio.to_thread.run_sync(transaction.commit)
        assert await outbox.fate(joined) is Fate.COMMITTED
        await anyio.to_thread.run_sync(connection.close)
        engine.dispose()

    async def test_another_database_of_sqlalchemys_is_refused(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        def handler() -> None:
            with sqlalchemy.create_engine("sqlite://").connect() as connection:
                outbox.put_in_sync(connection, self.batch(clock))

        with pytest.raises(ConfigurationError, match="it is to sqlite, and no PostgreSQL"):
            await anyio.to_thread.run_sync(handler)

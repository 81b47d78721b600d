"""Between the user's connection and the server is a PgBouncer: their transaction is joined on whatever it is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import pytest
from driving import DRIVERS, Mine, Opening, autocommit
from joining_setting import INVOICE, JoiningSetting
from postgres_setting import set_clock

from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Fate
from callback_middleware.testing import VirtualClock
from pgbouncer import pgbouncer, pooled
from postgres_server import DatabaseServer

KINDS: Final = (
    "asyncpg",
    "psycopg async",
    "psycopg",
    "AsyncSession, asyncpg",
    "AsyncConnection, asyncpg",
    "Session, psycopg",
    "Connection, psycopg",
)
"""The drivers that prepare. Sessions connect to the pooler anew for each transaction; the others stay its clients."""

HERE: Final = "INSERT INTO public.invoice SELECT pg_backend_pid()"
"""An invoice with the number of the server's process, which there can be one of."""


class Pooler(NamedTuple):
    """A PgBouncer in transaction mode, with two connections to hand out."""

    port: int
    prepares: bool


@pytest.fixture(scope="module", params=[False, True], ids=["prepares nothing", "prepares"])
def pooler(request: pytest.FixtureRequest, postgres_server: DatabaseServer) -> Iterator[Pooler]:
    with pgbouncer(postgres_server, prepares=request.param) as port:
        yield Pooler(port, request.param)


def options(driver: str, *, prepares: bool) -> dict[str, Any]:
    """How a driver prepares all that it can, or nothing that is to last."""
    wrapper, _, dbapi = driver.rpartition(", ")
    arguments: dict[str, Any] = {}
    if "psycopg" in dbapi:
        arguments = {"prepare_threshold": 0 if prepares else None}
    elif not prepares:
        # SQLAlchemy keeps what it prepares on asyncpg in a cache of its own.
        arguments = {"statement_cache_size": 0} | ({"prepared_statement_cache_size": 0} if wrapper else {})
    return {"connect_args": arguments} if wrapper else arguments


class TestPooledGuests(JoiningSetting):
    @pytest.fixture(params=KINDS)
    def driver(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def opening(self, url: str, pooler: Pooler, driver: str) -> Opening:
        """Connects through the pooler."""
        return partial(DRIVERS[driver], pooled(url, pooler.port), **options(driver, prepares=pooler.prepares))

    @pytest.fixture
    async def mine(self, opening: Opening) -> AsyncIterator[Mine]:
        """The user's connection, with a transaction open."""
        async with opening() as mine:
            await mine.begin()
            yield mine

    async def test_committed_it_is_delivered_once_and_nobody_sees_it_before(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        await mine.run(INVOICE)
        joined = await mine.put_in(outbox, self.batch(clock))
        assert await outbox.fate(joined.transaction) is Fate.OPEN
        assert not await self.claim(outbox)
        await mine.commit()

        assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        claim = await self.claim_one(outbox)
        assert [claim.delivery.id] == list(joined.report.stored)
        await self.deliver(outbox, claim, clock.now())
        assert not await self.claim(outbox)
        assert await self.total(outbox) == 1
        assert self.invoices(postgres_server, url) == 1

    async def test_rolled_back_there_is_nothing(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        await mine.run(INVOICE)
        joined = await mine.put_in(outbox, self.batch(clock))
        await mine.rollback()

        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK
        assert await self.total(outbox) == 0
        assert self.invoices(postgres_server, url) == 0

    async def test_a_savepoint_that_is_taken_back_takes_its_delivery_with_it(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        kept = await mine.put_in(outbox, self.batch(clock))
        await mine.run("SAVEPOINT mine")
        gone = await mine.put_in(outbox, self.batch(clock))
        await mine.run("ROLLBACK TO mine")
        await mine.commit()

        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        assert [(await self.claim_one(outbox)).delivery.id] == list(kept.report.stored)

    async def test_a_client_has_another_connection_in_its_next_transaction_and_joins_that(
        self,
        outbox: PostgresOutbox,
        clock: VirtualClock,
        mine: Mine,
        opening: Opening,
        postgres_server: DatabaseServer,
    ) -> None:
        await mine.run(HERE)
        first = await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        async with opening() as other:
            # The pooler hands out what it got back last: this takes the one that was mine.
            await other.begin()
            gone = await other.put_in(outbox, self.batch(clock))
            await mine.begin()
            await mine.run(HERE)
            second = await mine.put_in(outbox, self.batch(clock))
            await mine.commit()
            assert await outbox.fate(gone.transaction) is Fate.OPEN
            await other.rollback()

        assert self.invoices(postgres_server, outbox.url) == 2
        fates = [await outbox.fate(one.transaction) for one in (first, gone, second)]
        assert fates == [Fate.COMMITTED, Fate.ROLLED_BACK, Fate.COMMITTED]
        stored = {*first.report.stored, *second.report.stored}
        assert {claim.delivery.id for claim in await self.claim(outbox)} == stored

    async def test_a_transaction_that_a_crash_may_undo_is_refused_and_the_next_of_its_connection_is_not(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("SET LOCAL synchronous_commit TO off")
        with pytest.raises(ConfigurationError, match=r"synchronous_commit is off"):
            await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        assert await self.total(outbox) == 0

        await mine.begin()
        await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        assert await self.total(outbox) == 1

    async def test_where_every_statement_commits_by_itself_nothing_is_stored(
        self, outbox: PostgresOutbox, clock: VirtualClock, opening: Opening, driver: str
    ) -> None:
        async with opening(**autocommit(driver)) as mine:
            with pytest.raises(ConfigurationError, match="no transaction is open on it"):
                await mine.put_in(outbox, self.batch(clock))
        assert await self.total(outbox) == 0

    async def test_an_outbox_behind_the_same_pooler_knows_what_became_of_it(
        self, clock: VirtualClock, mine: Mine, url: str, pooler: Pooler, postgres_server: DatabaseServer
    ) -> None:
        set_clock(postgres_server, url, clock)
        outbox = PostgresOutbox(pooled(url, pooler.port), clock=clock, pooler=True)
        kept = await mine.put_in(outbox, self.batch(clock))
        assert await outbox.fate(kept.transaction) is Fate.OPEN
        await mine.commit()
        await mine.begin()
        gone = await mine.put_in(outbox, self.batch(clock))
        await mine.rollback()

        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        assert [(await self.claim_one(outbox)).delivery.id] == list(kept.report.stored)
        await outbox.aclose()


class TestOneConnection(JoiningSetting):
    async def test_an_outbox_that_gets_none_because_the_users_have_them_all_stores_nothing_and_leaves_theirs(
        self, clock: VirtualClock, url: str, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pgbouncer(postgres_server, connections=1) as port:
            outbox = PostgresOutbox(pooled(url, port), clock=clock, pooler=True)
            async with DRIVERS["asyncpg"](pooled(url, port), **options("asyncpg", prepares=False)) as mine:
                await mine.begin()
                await mine.run(INVOICE)
                with monkeypatch.context() as patch:
                    patch.setattr("callback_middleware.outbox.postgres.ASKING", 0.3)
                    with pytest.raises(OutboxUnavailable, match="is out of reach"):
                        await mine.put_in(outbox, self.batch(clock))
                await mine.commit()
            assert await self.total(outbox) == 0
            await outbox.aclose()
        assert self.invoices(postgres_server, url) == 1

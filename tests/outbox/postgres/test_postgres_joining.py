"""What is stored in the user's own transaction is there if that commits, once; with every driver, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import anyio.to_thread
import asyncpg
import pytest
import sqlalchemy
from driving import ASYNC, DRIVERS, SYNC, Mine, autocommit
from joining_setting import INVOICE, REFERENCE, JoiningSetting
from postgres_setting import set_clock
from sqlalchemy import orm

from callback_middleware.backlog import Bound
from callback_middleware.errors import ConfigurationError, OutboxUnavailable, SubscriptionExists
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.fates import Transaction
from callback_middleware.ports import Batch, Fate, Joined, TransactionalOutbox
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, bounded
from postgres_server import DatabaseServer

ENGINE = sqlalchemy.create_engine("postgresql+psycopg://nowhere.invalid/")
"""Never used."""


class TestEveryDriver(JoiningSetting):
    async def test_committed_it_is_there_once_and_nobody_sees_it_before(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        delivery = self.delivery(clock)
        await mine.run(INVOICE)
        joined = await mine.put_in(outbox, Batch([delivery]))

        assert list(joined.report.stored) == [delivery.id]
        assert await outbox.fate(joined.transaction) is Fate.OPEN
        assert not await self.claim(outbox)
        assert await self.total(outbox) == 0
        await mine.commit()

        assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        assert (await self.claim_one(outbox)).delivery == await outbox.get(delivery.id)
        assert not await self.claim(outbox)
        assert self.invoices(postgres_server, url) == 1

    async def test_rolled_back_there_is_nothing(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        await mine.run(INVOICE)
        joined = await mine.put_in(outbox, self.batch(clock, dedupe="7"))
        await mine.rollback()

        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK
        assert await self.total(outbox) == 0
        assert self.invoices(postgres_server, url) == 0
        # Its dedupe key was not used either.
        assert (await outbox.put(self.batch(clock, dedupe="7"))).stored

    async def test_what_a_savepoint_took_back_is_rolled_back_whatever_becomes_of_the_rest(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        kept = await mine.put_in(outbox, self.batch(clock))
        await mine.run(INVOICE)
        await mine.run("SAVEPOINT mine")
        gone = await mine.put_in(outbox, self.batch(clock))
        await mine.run("ROLLBACK TO mine")
        await mine.run("SAVEPOINT yours")
        released = await mine.put_in(outbox, self.batch(clock))
        await mine.run("RELEASE yours")
        joined = [kept.transaction, gone.transaction, released.transaction]
        assert [await outbox.fate(one) for one in joined] == [Fate.OPEN] * 3
        await mine.commit()

        assert [await outbox.fate(one) for one in joined] == [Fate.COMMITTED, Fate.ROLLED_BACK, Fate.COMMITTED]
        assert await self.total(outbox) == 2
        assert self.invoices(postgres_server, url) == 1

    async def test_everything_that_a_batch_may_hold_is_stored(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        other = KEY._replace(key="invoice 8")
        await self.subscribe(outbox, self.subscription(clock, other))
        await self.put(outbox, self.delivery(clock, dedupe="used"))
        used, unheard = self.delivery(clock, dedupe="used"), self.notification(clock, KEY._replace(owner="bob"))
        batch = Batch(
            [self.delivery(clock), used], [self.subscription(clock)], [self.notification(clock), unheard], [other]
        )

        report = (await mine.put_in(outbox, batch)).report
        assert [one.key for one in await outbox.subscriptions()] == [other]
        await mine.commit()

        assert (len(report.stored), list(report.duplicates)) == (2, [used.id])
        assert list(report.unsubscribed) == [unheard.id]
        assert [one.key for one in await outbox.subscriptions()] == [KEY]
        assert len(await self.claim(outbox)) == 3

    async def test_a_key_of_another_owner_leaves_the_transaction_as_it_was(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        theirs = self.subscription(clock, KEY._replace(owner="mallory"))
        await mine.run(INVOICE)
        with pytest.raises(SubscriptionExists, match="invoice 7"):
            await mine.put_in(outbox, Batch([self.delivery(clock)], [theirs]))
        await mine.commit()

        assert await self.total(outbox) == 0
        assert [one.key.owner for one in await outbox.subscriptions()] == ["alice"]
        assert self.invoices(postgres_server, url) == 1

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    async def test_a_stricter_isolation_is_joined_too(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, level: str
    ) -> None:
        await mine.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
        await mine.run("SELECT count(*) FROM public.invoice")
        # What came to be since then, its transaction does not see.
        await outbox.put(self.batch(clock))
        joined = await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        assert await self.total(outbox) == 2

    # What keeps less than the outbox promises

    async def test_where_every_statement_commits_by_itself_nothing_is_stored(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, driver: str
    ) -> None:
        async with DRIVERS[driver](url, **autocommit(driver)) as mine:
            with pytest.raises(ConfigurationError, match="no transaction is open on it") as refused:
                await mine.put_in(outbox, self.batch(clock))
        remedy = 'isolation_level="AUTOCOMMIT"' if "," in driver else "connection.transaction()"
        assert remedy in str(refused.value)
        assert await self.total(outbox) == 0

    async def test_a_transaction_that_a_crash_may_undo_is_refused_until_it_is_told_otherwise(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("SET synchronous_commit TO off")
        with pytest.raises(ConfigurationError, match=r"synchronous_commit is off .*SET LOCAL synchronous_commit TO on"):
            await mine.put_in(outbox, self.batch(clock))
        await mine.run("SET LOCAL synchronous_commit TO on")
        await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        assert await self.total(outbox) == 1

    async def test_another_database_with_an_outbox_of_the_same_name_is_refused(
        self, outbox: PostgresOutbox, clock: VirtualClock, elsewhere: str, driver: str, postgres_server: DatabaseServer
    ) -> None:
        async with DRIVERS[driver](elsewhere) as mine:
            await mine.begin()
            with pytest.raises(ConfigurationError, match="it is to another outbox"):
                await mine.put_in(outbox, self.batch(clock))
            await mine.commit()
        queued = postgres_server.execute("SELECT count(*) FROM callback_middleware.queue", database=elsewhere)
        assert queued == [(0,)]

    async def test_a_database_without_an_outbox_is_refused(
        self, outbox: PostgresOutbox, clock: VirtualClock, driver: str, postgres: str
    ) -> None:
        async with DRIVERS[driver](postgres) as mine:
            await mine.begin()
            with pytest.raises(ConfigurationError, match="callback_middleware of its database has no outbox"):
                await mine.put_in(outbox, self.batch(clock))
            await mine.run("CREATE TABLE usable ()")
            await mine.commit()

    async def test_a_transaction_that_may_only_read_is_refused(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("SET TRANSACTION READ ONLY")
        with pytest.raises(ConfigurationError, match="it may only read"):
            await mine.put_in(outbox, self.batch(clock))
        await mine.run("SELECT 1")

    async def test_a_transaction_that_has_failed_says_so(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        with pytest.raises(Exception, match="division by zero"):
            await mine.run("SELECT 1 / 0")
        with pytest.raises(OutboxUnavailable, match=r"nothing was stored .*roll the transaction back, and begin again"):
            await mine.put_in(outbox, self.batch(clock))
        await mine.rollback()
        await mine.begin()
        await mine.put_in(outbox, self.batch(clock))

    async def test_a_connection_that_is_closed_or_cut_off_says_so(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, driver: str, postgres_server: DatabaseServer
    ) -> None:
        await mine.run(INVOICE)
        joined = await mine.put_in(outbox, self.batch(clock))
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name <> 'callback_middleware' AND pid <> pg_backend_pid()",
            database=outbox.url,
        )
        with pytest.raises(OutboxUnavailable, match=r"nothing was stored in the outbox .*see that the connection is"):
            await mine.put_in(outbox, self.batch(clock))
        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK
        await mine.close()
        # SQLAlchemy's sessions begin anew.
        if "Session" not in driver:
            with pytest.raises(OutboxUnavailable, match=r"closed|released|lost"):
                await mine.put_in(outbox, self.batch(clock))
        assert await self.total(outbox) == 0


class TestKinds(JoiningSetting):
    @pytest.mark.parametrize("driver", SYNC)
    async def test_one_that_blocks_is_for_the_other_method(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"commit_with: .* cannot use a .* there: .*commit_with_sync\(…\)"):
            await outbox.put_in(mine.connection, self.batch(clock))

    @pytest.mark.parametrize("driver", ASYNC)
    async def test_an_asynchronous_one_is_for_the_other_method(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        with pytest.raises(
            ConfigurationError, match=r"commit_with_sync: .* cannot use a .* there: await commit_with\("
        ):
            await anyio.to_thread.run_sync(outbox.put_in_sync, mine.connection, self.batch(clock))

    @pytest.mark.parametrize(
        "connection", [None, "postgresql://", ENGINE, orm.scoped_session(orm.sessionmaker(ENGINE))]
    )
    async def test_what_is_no_connection_is_refused_with_those_that_are(
        self, outbox: PostgresOutbox, clock: VirtualClock, connection: object
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot use a [\w.]+ there: .*AsyncSession"):
            await outbox.put_in(connection, self.batch(clock))

    async def test_psycopg2s_own_connection_is_refused(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str
    ) -> None:
        async with DRIVERS["Connection, psycopg2"](url) as mine:
            with pytest.raises(ConfigurationError, match=r"cannot use a psycopg2\.\S+ there"):
                await outbox.put_in(mine.connection.connection.dbapi_connection, self.batch(clock))

    async def test_the_outbox_is_one_that_can_join(self, outbox: PostgresOutbox) -> None:
        assert isinstance(outbox, TransactionalOutbox)

    @bounded(newcomer=1)
    @pytest.mark.parametrize("driver", ["asyncpg"])
    async def test_what_finds_no_room_is_refused(self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        report = (await mine.put_in(outbox, Batch([first, second]))).report
        await mine.commit()
        assert list(report.stored) == [first.id]
        assert report.refused[second.id].bound is Bound.NEWCOMER


@pytest.fixture
def role(url: str, postgres_server: DatabaseServer) -> Iterator[str]:
    """A role that may do nothing but connect, and write invoices."""
    name = f"web_{uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {name}; GRANT ALL ON public.invoice TO {name}", database=url)
    yield name
    postgres_server.execute(f"DROP OWNED BY {name}; DROP ROLE {name}", database=url)


class TestServer(JoiningSetting):
    """What is the same with every driver."""

    @pytest.fixture
    def driver(self) -> str:
        return "asyncpg"

    async def fates(self, outbox: PostgresOutbox, *joined: Joined) -> list[Fate]:
        return [await outbox.fate(one.transaction) for one in joined]

    async def test_several_puts_are_one_transaction(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        joined = [await mine.put_in(outbox, self.batch(clock)) for _ in range(3)]
        await mine.commit()
        assert await self.fates(outbox, *joined) == [Fate.COMMITTED] * 3
        assert await self.total(outbox) == 3

    async def test_a_commit_that_fails_leaves_nothing(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str, postgres_server: DatabaseServer
    ) -> None:
        await mine.run(REFERENCE)
        joined = await mine.put_in(outbox, self.batch(clock))
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await mine.commit()
        assert await self.fates(outbox, joined) == [Fate.ROLLED_BACK]
        assert await self.total(outbox) == 0

    async def test_a_subscription_tells_where_nothing_else_does(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("SAVEPOINT mine")
        gone = await mine.put_in(outbox, Batch(subscribe=[self.subscription(clock)]))
        await mine.run("ROLLBACK TO mine")
        kept = await mine.put_in(outbox, Batch(subscribe=[self.subscription(clock)]))
        await mine.commit()
        await mine.begin()
        await mine.run("SAVEPOINT mine")
        not_ended = await mine.put_in(outbox, Batch(end=[KEY]))
        await mine.run("ROLLBACK TO mine")
        ended = await mine.put_in(outbox, Batch(end=[KEY]))
        nothing = await mine.put_in(outbox, Batch(end=[KEY._replace(key="nobody's")]))
        assert await self.fates(outbox, ended, nothing) == [Fate.OPEN, Fate.OPEN]
        await mine.commit()
        # It was there, and somebody has replaced it since.
        await self.subscribe(outbox, self.subscription(clock))

        assert await self.fates(outbox, gone, not_ended) == [Fate.ROLLED_BACK] * 2
        assert await self.fates(outbox, kept, ended, nothing) == [Fate.COMMITTED] * 3

    async def test_what_was_there_before_says_nothing_of_the_transaction(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        known, used = self.delivery(clock), self.delivery(clock, dedupe="7")
        await self.put(outbox, known, used)
        await self.subscribe(outbox, self.subscription(clock))
        await self.unsubscribe(outbox, KEY)
        joined = await mine.put_in(outbox, Batch([known, self.delivery(clock, dedupe="7")], end=[KEY]))
        assert not joined.report.stored
        assert await self.fates(outbox, joined) == [Fate.OPEN]
        await mine.rollback()
        assert await self.fates(outbox, joined) == [Fate.ROLLED_BACK]

    async def test_what_nobody_can_say_is_unknown(self, outbox: PostgresOutbox, url: str) -> None:
        assert await outbox.fate(object()) is Fate.UNKNOWN
        # The server has forgotten it; and it is yet to come.
        for number in ("3", str(1 << 40)):
            assert await outbox.fate(Transaction(number, number)) in {Fate.UNKNOWN, Fate.COMMITTED}
        nowhere = PostgresOutbox(urlsplit(url)._replace(netloc="callbacks@127.0.0.1:1").geturl())
        assert await nowhere.fate(Transaction("3", "3")) is Fate.UNKNOWN
        await nowhere.aclose()

    # Others meanwhile

    async def test_a_new_retry_policy_keeps_nobody_waiting(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        new = RetryPolicy.fixed(61)
        await mine.put_in(outbox, Batch([self.delivery(clock, retry=new)], [self.subscription(clock, retry=new)]))
        another = PostgresOutbox(outbox.url, clock=clock)
        with anyio.fail_after(20):
            assert (await another.put(self.batch(clock, retry=new))).stored
        await another.aclose()

    async def test_a_dedupe_key_waits_for_who_used_it_and_says_for_how_long(
        self, outbox: PostgresOutbox, clock: VirtualClock, url: str, mine: Mine
    ) -> None:
        await mine.put_in(outbox, self.batch(clock, dedupe="7"))
        for driver in ("asyncpg", "psycopg async", "Session, psycopg2", "AsyncSession, asyncpg"):
            async with DRIVERS[driver](url) as other:
                await other.begin()
                await other.run("SET LOCAL lock_timeout TO 1")
                with pytest.raises(OutboxUnavailable, match=r"lock timeout; .* waits \(pg_stat_activity\)") as refused:
                    await other.put_in(outbox, self.batch(clock, dedupe="7", body=b"secret"))
                # SQLAlchemy shows what is to be sent, and the driver does not.
                assert not hasattr(refused.value.__cause__, "orig")
        await mine.rollback()
        assert (await outbox.put(self.batch(clock, dedupe="7"))).stored

    async def test_two_that_cannot_both_be_are_told_to_try_again(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await mine.run("SELECT 1 FROM public.invoice")
        await outbox.put(self.batch(clock, dedupe="7"))
        with pytest.raises(OutboxUnavailable, match=r"could not serialize .* try yours again, from its beginning"):
            await mine.put_in(outbox, self.batch(clock, dedupe="7"))

    @bounded(newcomer=20)
    async def test_two_serializable_ones_count_the_same_and_one_tries_again(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, url: str
    ) -> None:
        async with DRIVERS["asyncpg"](url) as other:
            await other.begin()
            for one in (mine, other):
                await one.run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                await one.put_in(outbox, self.batch(clock))
            await mine.commit()
            with pytest.raises(asyncpg.SerializationError):
                await other.commit()
        assert await self.total(outbox) == 1

    # An outbox that was not started

    @pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
    async def test_an_outbox_that_was_never_asked_knows_its_own_database(
        self, clock: VirtualClock, url: str, elsewhere: str, driver: str, postgres_server: DatabaseServer
    ) -> None:
        set_clock(postgres_server, url, clock)
        for place, count in ((elsewhere, 0), (url, 1)):
            outbox = PostgresOutbox(url, clock=clock)
            async with DRIVERS[driver](place) as mine:
                await mine.begin()
                if place is elsewhere:
                    with pytest.raises(ConfigurationError, match="to another outbox"):
                        await mine.put_in(outbox, self.batch(clock))
                else:
                    await mine.put_in(outbox, self.batch(clock))
                await mine.commit()
            assert await self.total(outbox) == count
            await outbox.aclose()

    @pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
    async def test_an_outbox_that_cannot_be_asked_stores_nothing_and_leaves_the_transaction(
        self, clock: VirtualClock, url: str, mine: Mine, postgres_server: DatabaseServer
    ) -> None:
        nowhere = PostgresOutbox(urlsplit(url)._replace(netloc="callbacks@127.0.0.1:1").geturl(), clock=clock)
        await mine.run(INVOICE)
        with pytest.raises(OutboxUnavailable, match=r"127\.0\.0\.1:1/.* is out of reach"):
            await mine.put_in(nowhere, self.batch(clock))
        await mine.commit()
        await nowhere.aclose()
        assert self.invoices(postgres_server, url) == 1

    # Who may

    async def test_a_role_needs_two_grants_and_is_told_which(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine, role: str, postgres_server: DatabaseServer
    ) -> None:
        # The session's: what may be done is looked up when a transaction begins.
        await mine.run(f"SET ROLE {role}")
        await mine.commit()
        await mine.begin()
        with pytest.raises(ConfigurationError, match="its user may not store there") as refused:
            await mine.put_in(outbox, self.batch(clock))
        grants = str(refused.value).partition("as the schema's owner: ")[2]
        assert grants == (
            f"GRANT USAGE ON SCHEMA callback_middleware TO {role}; "
            f"GRANT EXECUTE ON FUNCTION callback_middleware.put_joined TO {role}"
        )
        usage, execute = grants.split("; ")
        await mine.rollback()
        postgres_server.execute(usage, database=outbox.url)
        await mine.begin()
        with pytest.raises(ConfigurationError, match="its user may not store there"):
            await mine.put_in(outbox, self.batch(clock))
        await mine.rollback()
        postgres_server.execute(execute, database=outbox.url)
        await mine.begin()

        await self.subscribe(outbox, self.subscription(clock))
        everything = Batch(
            [self.delivery(clock, dedupe="7", retry=RetryPolicy.fixed(62))],
            [self.subscription(clock, KEY._replace(key="invoice 8"))],
            [self.notification(clock)],
            [KEY],
        )
        joined = await mine.put_in(outbox, everything)
        # It may store, and read nothing of what others have stored.
        await mine.run("SAVEPOINT mine")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await mine.run("SELECT body FROM callback_middleware.delivery")
        await mine.run("ROLLBACK TO mine")
        await mine.commit()
        assert await self.fates(outbox, joined) == [Fate.COMMITTED]
        assert len(joined.report.stored) == 2

    async def test_what_a_user_puts_in_the_way_of_its_names_is_not_used(
        self, outbox: PostgresOutbox, clock: VirtualClock, mine: Mine
    ) -> None:
        await mine.run("CREATE TEMP TABLE queue (mine text)")
        await mine.run("CREATE TEMP TABLE probe (identity uuid)")
        await mine.run("SET LOCAL search_path TO pg_temp, public, pg_catalog")
        joined = await mine.put_in(outbox, self.batch(clock))
        await mine.commit()
        assert await self.fates(outbox, joined) == [Fate.COMMITTED]
        assert await self.total(outbox) == 1

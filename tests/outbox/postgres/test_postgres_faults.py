from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import asyncpg
import psycopg
import pytest
from postgres_setting import STILL, PostgresSetting, named, set_clock
from watching import connected, until, until_idle

from callback_middleware.errors import ConfigurationError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.postgres import PostgresOutbox, office
from callback_middleware.outbox.postgres.faults import meaning, out_of_reach
from callback_middleware.outbox.postgres.line import SETTINGS
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.outbox.postgres.urls import shown
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from postgres_server import DatabaseServer, PostgresServer, private_postgres

SECRET = "s3cret"  # noqa: S105 - and none at all
SCHEMA = "callback_middleware"


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that these tests may stop, and whose passwords they may ask for."""
    with private_postgres() as server:
        yield server


@pytest.fixture
def own(own_server: PostgresServer) -> Iterator[str]:
    """A database on it, with the schema."""
    url = own_server.create_database()
    anyio.run(migrate, url)
    own_server.execute(STILL, database=url)
    yield url
    own_server.drop_database(url)


def by(url: str, user: str, password: str = SECRET) -> str:
    """The URL for another user."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return urlsplit(url)._replace(netloc=f"{user}:{password}@{host}").geturl()


class TestFaults(PostgresSetting, OutboxSetting):
    """What fails is told with what happened, where, and what to do, and without a password."""

    @pytest.fixture
    async def outbox(  # another database than its neighbours'
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> AsyncIterator[PostgresOutbox]:
        set_clock(postgres_server, fresh, clock)
        outbox = PostgresOutbox(fresh, clock=clock, backlog=None, connections=1)
        yield outbox
        await outbox.aclose()

    @pytest.fixture
    def role(self, fresh: str, postgres_server: DatabaseServer) -> Iterator[str]:
        """A user who may do nothing."""
        name = f"{named(fresh)}_user"
        postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
        yield name
        postgres_server.execute(f"DROP OWNED BY {name}", database=fresh)
        postgres_server.execute(f"DROP ROLE {name}")

    async def fails(
        self,
        url: str,
        said: str,
        clock: VirtualClock,
        *,
        kind: type[Exception] = OutboxUnavailable,
    ) -> None:
        """A put into this database fails with these words."""
        outbox = PostgresOutbox(url, clock=clock, backlog=None)
        with pytest.raises(kind, match=said) as failed:
            await self.put(outbox, self.delivery(clock))
        assert shown(url) in str(failed.value)
        assert SECRET not in str(failed.value)
        assert outbox.outage is not None
        await outbox.aclose()

    async def test_a_password_that_is_wrong(
        self, own: str, own_server: PostgresServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_server.execute(f"CREATE ROLE locked LOGIN PASSWORD 'another than {SECRET}'")
        with asking_for_passwords(own_server, "locked"):
            await self.fails(
                by(own, "locked"), "password authentication failed .*; give the outbox the URL of a user", clock
            )
        assert SECRET not in caplog.text
        own_server.execute("DROP ROLE locked")

    async def test_a_user_whom_nobody_knows(self, fresh: str, clock: VirtualClock) -> None:
        await self.fails(by(fresh, "nobody_at_all"), "that may connect, with its password", clock)

    async def test_a_database_that_is_missing(self, fresh: str, clock: VirtualClock) -> None:
        url = urlsplit(fresh)._replace(path="/missing").geturl()
        await self.fails(url, 'database "missing" does not exist; create that database', clock)

    async def test_a_database_without_a_schema(self, postgres: str, clock: VirtualClock) -> None:
        await self.fails(postgres, "run `callback-middleware migrate`", clock)
        outbox = PostgresOutbox(postgres)
        with pytest.raises(
            OutboxUnavailable, match=r'relation "callback_middleware.queue" does not exist; run `callback'
        ):
            await outbox.counts()
        await outbox.aclose()

    async def test_a_schema_that_lacks_a_function(
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> None:
        postgres_server.execute(f"DROP FUNCTION {SCHEMA}.learn_retry", database=fresh)
        await self.fails(fresh, "function .*learn_retry.* does not exist; run `callback-middleware migrate`", clock)

    async def test_a_user_who_may_not_use_the_schema(self, fresh: str, role: str, clock: VirtualClock) -> None:
        await self.fails(
            by(fresh, role), "permission denied for schema .*; grant that user the use of the schema", clock
        )

    async def test_a_user_who_may_not_use_the_tables(
        self, fresh: str, role: str, clock: VirtualClock, postgres_server: DatabaseServer
    ) -> None:
        postgres_server.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}", database=fresh)
        await self.fails(by(fresh, role), "permission denied for table .*; grant that user", clock)

    async def test_a_server_that_only_reads(
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> None:
        postgres_server.execute(f"ALTER DATABASE {named(fresh)} SET default_transaction_read_only = on")
        await self.fails(fresh, "in a read-only transaction; connect to the primary", clock)

    async def test_too_many_connections(
        self, fresh: str, role: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> None:
        postgres_server.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        await self.fails(by(fresh, role), "too many connections for role .*; raise max_connections", clock)

    async def test_a_statement_that_the_server_finds_too_slow(
        self, fresh: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with psycopg.connect(fresh) as somebody:
            somebody.execute(f"LOCK TABLE {SCHEMA}.delivery")
            monkeypatch.setitem(SETTINGS, "statement_timeout", "100ms")
            await self.fails(fresh, r"statement timeout; see what makes it slow \(pg_stat_activity\)$", clock)

    async def test_a_lock_that_somebody_holds_for_long(
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> None:
        postgres_server.execute(f"ALTER FUNCTION {SCHEMA}.learn_retry SET lock_timeout = '50ms'", database=fresh)
        with psycopg.connect(fresh) as somebody:
            somebody.execute(f"LOCK TABLE {SCHEMA}.retry")
            outbox = PostgresOutbox(fresh, clock=clock, backlog=None)
            with pytest.raises(OutboxUncertain, match=r"was busy: .* lock timeout; put it again$"):
                await self.put(outbox, self.delivery(clock))
            # The database works: nobody else is refused.
            assert outbox.outage is None
            await outbox.aclose()

    async def test_a_server_that_is_told_to_end_everybody(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str, postgres_server: DatabaseServer
    ) -> None:
        with psycopg.connect(fresh) as somebody:
            somebody.execute(f"LOCK TABLE {SCHEMA}.delivery")
            async with anyio.create_task_group() as tasks:

                async def put() -> None:
                    with pytest.raises(
                        OutboxUncertain, match="due to administrator command; see that the server runs, "
                    ):
                        await self.put(outbox, self.delivery(clock))

                tasks.start_soon(put)
                await until(lambda: waiting_for_a_lock(postgres_server, fresh))
                for pid in connected(postgres_server, fresh):
                    postgres_server.execute("SELECT pg_terminate_backend(%s)", (pid,))

    async def test_a_server_that_crashes_and_comes_back_is_told_of_once_each_and_goes_on(
        self, own: str, own_server: PostgresServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_clock(own_server, own, clock)
        outbox = PostgresOutbox(own, clock=clock, backlog=None)
        kept = self.delivery(clock)
        await self.put(outbox, kept)
        assert outbox.outage is None
        await anyio.to_thread.run_sync(own_server._control, "stop", "--mode=immediate")
        for _ in range(3):
            with pytest.raises(OutboxUnavailable, match="see that the server runs"):
                await self.put(outbox, self.delivery(clock))
        assert isinstance(outbox.outage, OutboxUnavailable)
        await anyio.to_thread.run_sync(own_server._control, "start", f"--log={own_server._log}")
        # Nobody puts: it is found out all the same.
        await until(lambda: outbox.outage is None)
        assert caplog.text.count("is out of reach") == 1
        assert caplog.text.count("works again") == 1
        assert (await self.claim_one(outbox)).delivery.id == kept.id
        await outbox.aclose()

    async def test_what_is_put_ends_an_outage_too(
        self, outbox: PostgresOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        outbox._outage.begin(OutboxUnavailable("for a test"))
        outbox._outage.begin(OutboxUnavailable("for another one"))
        await self.put(outbox, self.delivery(clock))
        assert outbox.outage is None
        assert "for another one" not in caplog.text
        outbox._outage.begin(OutboxUnavailable("for a third one"))
        await self.settle_all(outbox, clock)
        assert outbox.outage is None

    async def test_what_is_put_again_because_nobody_knows_is_stored_once(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = outbox._puts.put_all

        async def lose_the_answer(*arguments: Any) -> Any:
            await store(*arguments)
            raise ConnectionResetError("reset by peer")

        monkeypatch.setattr(outbox._office(), "_store", lose_the_answer)
        batch = Batch([self.delivery(clock), self.delivery(clock, dedupe="once")])
        with pytest.raises(OutboxUncertain, match=r"reset by peer; .* \(it may have been stored all the same\)"):
            await outbox.put(batch)
        monkeypatch.undo()
        again = PostgresOutbox(outbox.url, clock=clock, backlog=None)
        report = await again.put(batch)
        assert (report.stored, report.duplicates) == ([], [])
        assert (await again.counts())[State.PENDING] == 2
        await again.aclose()

    async def test_what_is_too_slow_to_be_stored_is_uncertain_and_may_be_put_again(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delivery = self.delivery(clock)
        with psycopg.connect(fresh) as somebody:
            somebody.execute(f"LOCK TABLE {SCHEMA}.queue")
            monkeypatch.setattr(office, "PATIENCE", 0.2)
            with pytest.raises(OutboxUncertain, match=r"did not answer within 0\.2 s"):
                await self.put(outbox, delivery)
            monkeypatch.undo()
        assert (await outbox.put(Batch([delivery]))).stored == [delivery.id]

    async def test_a_schema_that_is_not_ready_is_refused_at_the_start_and_what_is_out_of_reach_is_not(
        self, postgres: str, fresh: str, clock: VirtualClock
    ) -> None:
        missing = PostgresOutbox(postgres)
        with pytest.raises(
            ConfigurationError, match="nothing was migrated there yet; run `callback-middleware migrate"
        ):
            await missing.start()
        await missing.aclose()
        unreachable = PostgresOutbox(urlsplit(fresh)._replace(path="/missing").geturl(), clock=clock)
        await unreachable.start()
        assert "create that database" in str(unreachable.outage)
        await unreachable.aclose()

    @pytest.mark.parametrize(
        ("setting", "told"),
        [
            ("synchronous_commit = off", "has synchronous_commit = off: what was acknowledged would be lost"),
            ("default_transaction_isolation = 'repeatable read'", "two workers would claim by what was true before"),
        ],
        ids=["what it acknowledged may be lost", "what it sees may be old"],
    )
    async def test_a_database_whose_settings_break_promises_is_refused_at_the_start(
        self, outbox: PostgresOutbox, fresh: str, postgres_server: DatabaseServer, setting: str, told: str
    ) -> None:
        postgres_server.execute(f"ALTER DATABASE {named(fresh)} SET {setting}")
        # A session of ours says so itself; one behind a pooler is as the database has it.
        await outbox.start()
        pooled = outbox.elsewhere(fresh)
        pooled._pooler = True
        with pytest.raises(ConfigurationError, match=told):
            await pooled.start()
        await pooled.aclose()

    async def test_a_probe_writes(self, outbox: PostgresOutbox, fresh: str, postgres_server: DatabaseServer) -> None:
        await outbox._office().line._try()
        checked = "SELECT checked FROM callback_middleware.probe"
        assert postgres_server.execute(checked, database=fresh) == [(1,)]

    async def test_nobody_probes_for_an_outbox_that_was_closed(
        self, fresh: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "callback_middleware")
        await self.fails(urlsplit(fresh)._replace(path="/missing").geturl(), "create that database", clock)
        await until_idle()
        assert caplog.text.count("still fails") <= 1

    async def test_keeping_it_small_is_left_to_others_where_the_user_owns_nothing_and_that_is_no_outage(
        self,
        fresh: str,
        role: str,
        postgres_server: DatabaseServer,
        clock: VirtualClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        set_clock(postgres_server, fresh, clock)
        postgres_server.execute(
            f"GRANT USAGE ON SCHEMA {SCHEMA}, test TO {role}; "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA}, test TO {role}",
            database=fresh,
        )
        outbox = PostgresOutbox(by(fresh, role), clock=clock)
        await outbox.start()
        await until(lambda: "days" in caplog.text)
        await self.put_and_end(outbox, clock, self.delivery(clock))
        await outbox.aclose()
        await until_idle()
        assert outbox.outage is None
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "a user who owns the schema" in caplog.text


@contextmanager
def asking_for_passwords(server: PostgresServer, role: str) -> Iterator[None]:
    file = server._data / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"host all {role} all scram-sha-256\n{before}")
    server.execute("SELECT pg_reload_conf()")
    yield
    file.write_text(before)
    server.execute("SELECT pg_reload_conf()")


def waiting_for_a_lock(server: DatabaseServer, url: str) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    return bool(server.execute(waiting, (named(url),)))


NAME = "postgresql://here/callbacks"


def of_class(code: str) -> asyncpg.PostgresError:
    error = asyncpg.PostgresError.new({"C": code, "M": "said"})
    assert isinstance(error, asyncpg.PostgresError)
    return error


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("53100", "free space on the server's disk"),
        ("53200", "look at the server's memory, disk and limits"),
        ("57P03", "see that the server runs, and what its log says"),
        ("42704", "leave that out of the options of its URL"),
        ("26000", "behind a pooler give the outbox pooler=True"),
        ("XX000", "see what the server's log says"),
    ],
)
def test_what_the_server_fails_with_is_certainly_not_stored(code: str, remedy: str) -> None:
    meant = meaning(NAME, of_class(code))
    assert type(meant) is OutboxUnavailable
    assert str(meant) == f"the outbox {NAME} is out of reach: said; {remedy}"


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "0A000"])
def test_who_was_in_the_way_of_another_asks_again(code: str) -> None:
    meant = meaning(NAME, of_class(code))
    assert isinstance(meant, OutboxUncertain)
    assert str(meant) == f"the outbox {NAME} was busy: said; put it again"


@pytest.mark.parametrize("code", ["08006", "57P01", "57P02", "57P05", "25P03"])
def test_where_the_server_ends_the_connection_nobody_knows(code: str) -> None:
    assert isinstance(meaning(NAME, of_class(code)), OutboxUncertain)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        EOFError(),
        asyncpg.InterfaceError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("odd"),
    ],
)
def test_where_the_connection_is_lost_nobody_knows(error: Exception) -> None:
    assert isinstance(meaning(NAME, error), OutboxUncertain)


@pytest.mark.parametrize(
    "error",
    [of_class("22P02"), of_class("23505"), of_class("21000"), KeyError("x"), asyncpg.DataError("x")],
)
def test_an_error_about_what_was_asked_for_is_none_of_the_outbox(error: Exception) -> None:
    assert meaning(NAME, error) is None


def test_a_url_that_asyncpg_refuses_is_to_be_corrected() -> None:
    error = asyncpg.ClientConfigurationError("`sslmode` parameter must be one of: disable")
    assert str(out_of_reach(NAME, error)).endswith("disable; correct the URL that the outbox is given")


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert "is out of reach: EOFError; see" in str(out_of_reach(NAME, EOFError()))

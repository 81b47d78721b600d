from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest
from postgres_setting import PostgresSetting
from watching import connected, until, until_idle

from callback_middleware.errors import ConfigurationError, OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.line import SETTINGS, Connection, Line
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from postgres_server import DatabaseServer

FOREVER = "SELECT pg_sleep(600)"
AGAIN = "INSERT INTO callback_middleware.probe (id) VALUES (1)"


async def pid_of(connection: Connection) -> int:
    found: int = await connection.fetchval("SELECT pg_backend_pid()")
    return found


class TestLine(PostgresSetting, OutboxSetting):
    @pytest.fixture
    def migrated(self, fresh: str) -> str:
        """Nobody else is connected to it."""
        return fresh

    @pytest.fixture
    async def line(self, outbox: PostgresOutbox) -> Line:
        return outbox._office().line

    async def test_a_session_is_set_up_so_that_it_holds_nothing_for_long(self, line: Line) -> None:
        async def shown(connection: Connection) -> dict[str, str]:
            return {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}

        assert await line.run(shown, seconds=10) == {**SETTINGS, "tcp_user_timeout": "10000"}

    async def test_a_connection_is_used_again(self, line: Line) -> None:
        assert await line.run(pid_of, seconds=10) == await line.run(pid_of, seconds=10)

    async def test_a_task_that_is_cancelled_closes_its_connection_and_the_server_stops_working_for_it(
        self, line: Line, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: line.run(lambda connection: connection.execute(FOREVER), seconds=60))
            await until(lambda: asleep(postgres_server, before))
            tasks.cancel_scope.cancel()
        await until(lambda: not connected(postgres_server, migrated))
        assert outbox.outage is None
        assert await line.run(pid_of, seconds=10) != before

    async def test_a_task_that_asyncio_itself_cancels_leaves_no_connection_in_its_middle(
        self, line: Line, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        task = asyncio.create_task(line.run(lambda connection: connection.execute(FOREVER), seconds=60))
        await until(lambda: asleep(postgres_server, before))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: before not in connected(postgres_server, migrated))
        assert await line.run(pid_of, seconds=10) != before

    async def test_who_is_cancelled_while_waiting_for_a_connection_takes_none_away(self, migrated: str) -> None:
        outbox = PostgresOutbox(migrated, connections=1)
        line = outbox._office().line
        taken, leave = anyio.Event(), anyio.Event()

        async def hold(_: Connection) -> None:
            taken.set()
            await leave.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: line.run(hold, seconds=60))
            await taken.wait()
            with anyio.move_on_after(0.05):
                await line.run(pid_of, seconds=60)
            leave.set()
        await line.run(pid_of, seconds=10)
        assert outbox.outage is None
        await outbox.aclose()

    async def test_a_statement_that_is_too_slow_is_uncertain_and_its_connection_is_gone(
        self, line: Line, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        with pytest.raises(OutboxUncertain, match=r"did not answer within 0\.2 s; see what makes it slow"):
            await line.run(lambda connection: connection.execute(FOREVER), seconds=0.2)
        assert outbox.outage is not None
        await until(lambda: before not in connected(postgres_server, migrated))
        assert await line.run(pid_of, seconds=10) != before
        await until(lambda: outbox.outage is None)

    async def test_a_connection_that_the_server_ended_is_uncertain_and_another_one_is_made(
        self, line: Line, outbox: PostgresOutbox, postgres_server: DatabaseServer
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        async with anyio.create_task_group() as tasks:

            async def cut_off() -> None:
                with pytest.raises(OutboxUncertain, match="it may have been stored all the same"):
                    await line.run(lambda connection: connection.execute(FOREVER), seconds=60)

            tasks.start_soon(cut_off)
            await until(lambda: asleep(postgres_server, before))
            postgres_server.execute("SELECT pg_terminate_backend(%s)", (before,))
        assert await line.run(pid_of, seconds=10) != before
        await until(lambda: outbox.outage is None)

    async def test_a_connection_that_was_ended_while_nobody_used_it_is_replaced_unnoticed(
        self, line: Line, outbox: PostgresOutbox, postgres_server: DatabaseServer
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        pool = await line._open()
        postgres_server.execute("SELECT pg_terminate_backend(%s)", (before,))
        await until(lambda: pool.get_size() == 0)
        assert await line.run(pid_of, seconds=10) != before
        assert outbox.outage is None

    async def test_an_error_of_the_asked_keeps_the_connection_and_is_no_outage(
        self, line: Line, outbox: PostgresOutbox
    ) -> None:
        before = await line.run(pid_of, seconds=10)
        with pytest.raises(asyncpg.UniqueViolationError):
            await line.run(lambda connection: connection.execute(AGAIN), seconds=10)
        with pytest.raises(asyncpg.DataError):
            await line.run(lambda connection: connection.fetchval("SELECT $1::integer", 2**40), seconds=10)
        with pytest.raises(ZeroDivisionError):
            await line.run(_divide, seconds=10)
        assert await line.run(pid_of, seconds=10) == before
        assert outbox.outage is None

    async def test_there_are_no_more_connections_than_that_however_many_ask(
        self, migrated: str, postgres_server: DatabaseServer
    ) -> None:
        outbox = PostgresOutbox(migrated, connections=2)
        line = outbox._office().line
        pids, both = [], anyio.Event()

        async def work(connection: Connection) -> None:
            pids.append(await pid_of(connection))
            if len(pids) > 1:
                both.set()
            await both.wait()

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(lambda: line.run(work, seconds=60))
        assert len(pids) == 20
        assert len(set(pids)) == 2
        assert connected(postgres_server, migrated) == set(pids)
        await outbox.aclose()

    async def test_who_finds_every_connection_taken_for_too_long_is_told_so(self, migrated: str) -> None:
        outbox = PostgresOutbox(migrated, connections=1)
        line = outbox._office().line

        async def hold(_: Connection) -> None:
            with pytest.raises(
                OutboxUnavailable,
                match=r"was asked too much: all 1 connections .* for 0\.1 s; give PostgresOutbox more",
            ):
                await line.run(pid_of, seconds=0.1)

        await line.run(hold, seconds=60)
        await outbox.aclose()

    async def test_closed_and_used_again_it_leaves_no_connection_behind(
        self, clock: VirtualClock, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        for _ in range(3):
            await self.put(outbox, self.delivery(clock))
            await outbox.wait(timedelta())
            await outbox.aclose()
            await until(lambda: not connected(postgres_server, migrated))
        assert (await outbox.counts())[State.PENDING] == 3

    async def test_what_goes_on_by_itself_opens_nothing_any_more_when_it_was_closed(
        self, clock: VirtualClock, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        # The second one is told to others a moment later.
        for _ in range(2):
            await self.put(outbox, self.delivery(clock))
            await anyio.wait_all_tasks_blocked()
        await outbox.aclose()
        await until_idle()
        await until(lambda: not connected(postgres_server, migrated))

    async def test_who_asks_one_that_was_closed_is_refused_and_it_is_no_outage(
        self, outbox: PostgresOutbox, line: Line
    ) -> None:
        await outbox.aclose()
        with pytest.raises(OutboxUnavailable, match="was closed: nothing was done"):
            await line.run(pid_of, seconds=10)
        assert outbox.outage is None

    async def test_what_is_under_way_when_it_is_closed_ends_first(self, outbox: PostgresOutbox, line: Line) -> None:
        at_work = anyio.Event()
        done = []

        async def work(connection: Connection) -> None:
            at_work.set()
            done.append(await connection.fetchval("SELECT 1 FROM pg_sleep(0.2)"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: line.run(work, seconds=60))
            await at_work.wait()
            await outbox.aclose()
        assert done == [1]

    async def test_what_does_not_end_when_it_is_closed_is_cut_off_and_it_is_no_outage(
        self,
        outbox: PostgresOutbox,
        line: Line,
        monkeypatch: pytest.MonkeyPatch,
        postgres_server: DatabaseServer,
        migrated: str,
    ) -> None:
        monkeypatch.setattr("callback_middleware.outbox.postgres.line.CONNECTING", 0.5)
        at_work = anyio.Event()

        async def work(connection: Connection) -> None:
            at_work.set()
            await connection.execute("SELECT pg_sleep(2)")

        async def cut_off() -> None:
            with pytest.raises(OutboxError):
                await line.run(work, seconds=60)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_off)
            await at_work.wait()
            await outbox.aclose()
        assert outbox.outage is None
        await until(lambda: not connected(postgres_server, migrated))

    async def test_event_loops_of_several_threads_share_an_outbox_each_with_connections_of_its_own(
        self, clock: VirtualClock, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        pids: list[set[int]] = []
        together = threading.Barrier(3)

        async def elsewhere() -> None:
            await self.put(outbox, self.delivery(clock))
            mine = {await outbox._ask(pid_of)}
            await anyio.to_thread.run_sync(together.wait)
            pids.append(mine)
            await outbox.aclose()

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(anyio.to_thread.run_sync, anyio.run, elsewhere)
        assert len(set.union(*pids)) == 3
        assert (await outbox.counts())[State.PENDING] == 3
        await outbox.aclose()
        await until(lambda: not connected(postgres_server, migrated))

    async def test_behind_a_pooler_nothing_is_set_and_nothing_is_prepared(
        self, migrated: str, clock: VirtualClock
    ) -> None:
        outbox = PostgresOutbox(migrated, pooler=True, clock=clock)
        await self.put_and_end(outbox, clock, self.delivery(clock))
        assert (
            await outbox._ask(lambda connection: connection.fetchval("SHOW application_name")) != "callback_middleware"
        )
        prepared = "SELECT name FROM pg_prepared_statements WHERE name <> ''"
        assert await outbox._ask(lambda connection: connection.fetch(prepared)) == []
        await outbox.aclose()

    async def test_a_probe_that_fails_is_made_again_until_one_succeeds(
        self,
        outbox: PostgresOutbox,
        line: Line,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG, "callback_middleware")
        monkeypatch.setattr("callback_middleware.outbox.postgres.line.PROBE", 0.01)
        connect = line.connect
        refusals = iter([ConnectionRefusedError("no"), TimeoutError(), asyncpg.TooManyConnectionsError("many")])

        async def refused() -> asyncpg.Connection:
            for error in refusals:
                raise error
            return await connect()

        monkeypatch.setattr(line, "connect", refused)
        with pytest.raises(OutboxUncertain):
            await line.run(lambda connection: connection.execute(FOREVER), seconds=0.05)
        await until(lambda: outbox.outage is None)
        assert caplog.text.count("still fails: ") == 3
        assert caplog.text.count("works again") == 1


def test_on_trio_it_says_what_it_needs(migrated: str) -> None:
    async def put() -> None:
        with pytest.raises(ConfigurationError, match=r"needs asyncio, because asyncpg .* mount it with outbox=SQLite"):
            await PostgresOutbox(migrated).put(Batch())

    anyio.run(put, backend="trio")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"keep": timedelta(days=-1)}, r"keep=.* must not be negative"),
        ({"connections": 0}, r"connections=0\) must be at least 1"),
        ({"schema": "My Schema"}, "lower-case letters, digits and underscores"),
        ({"schema": "a" * 41}, "at most 40 long"),
        ({"schema": "1st"}, "begins with no digit"),
        ({"schema": 'x"; DROP SCHEMA public'}, "lower-case letters"),
    ],
)
def test_numbers_and_names_that_are_out_of_range_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        PostgresOutbox("postgresql://here/callbacks", **arguments)


def test_it_is_shown_without_its_password() -> None:
    outbox = PostgresOutbox("postgresql://callbacks:secret@here:5433/callbacks?sslmode=require")
    assert repr(outbox) == "PostgresOutbox('postgresql://here:5433/callbacks')"


def asleep(server: DatabaseServer, pid: int) -> bool:
    ((waiting,),) = server.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (pid,))
    return bool(waiting == "PgSleep")


async def _divide(_: Connection) -> None:
    raise ZeroDivisionError

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from postgres_setting import PostgresSetting, named
from watching import connected, until, until_idle

from callback_middleware.outbox.postgres import PostgresOutbox, news, office
from callback_middleware.outbox.postgres.news import News
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from postgres_server import DatabaseServer

CHANNEL: Final = "callback_middleware"

_LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'LISTEN %%'"


class Foreign(str):
    """The mark of a process that is never this one."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True


def listening(server: DatabaseServer, url: str) -> set[int]:
    """The server's processes for those who listen in a database."""
    return {row[0] for row in server.execute(_LISTENING, (named(url),))}


@asynccontextmanager
async def ear(url: str) -> AsyncIterator[list[str]]:
    """What is told, in the order of the commits."""
    heard: list[str] = []
    connection = await asyncpg.connect(url)
    await connection.add_listener(CHANNEL, lambda *told: heard.append(str(told[-1])))
    yield heard
    await connection.close()


class TestNews(PostgresSetting, OutboxSetting):
    @pytest.fixture
    def migrated(self, fresh: str) -> str:
        """Nobody else is connected to it."""
        return fresh

    @pytest.fixture
    async def other(self, migrated: str, clock: VirtualClock) -> AsyncIterator[PostgresOutbox]:
        """Another process', whose news are not this one's."""
        other = PostgresOutbox(migrated, clock=clock, backlog=None)
        yield other
        await other.aclose()

    @pytest.fixture
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody looks by themselves within the time of a test."""
        monkeypatch.setattr(office, "POLL", 3600.0)

    @pytest.fixture
    def foreign(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is told comes from another process."""
        monkeypatch.setattr(news, "_SELF", Foreign("another process"))

    @pytest.fixture
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who cannot listen tries again at once."""
        monkeypatch.setattr(news, "_AGAIN", 0.01)

    async def end(self, outbox: PostgresOutbox, heard: list[str]) -> list[str]:
        """What was heard until now, when all that was told is."""
        await until_idle()
        await outbox._ask(lambda connection: connection.execute(f"NOTIFY {CHANNEL}, 'end'"))
        await until(lambda: heard[-1:] == ["end"])
        return heard[:-1]

    @pytest.mark.usefixtures("patient", "foreign")
    async def test_what_another_process_puts_ends_a_wait_at_once(
        self,
        outbox: PostgresOutbox,
        other: PostgresOutbox,
        clock: VirtualClock,
        postgres_server: DatabaseServer,
        migrated: str,
    ) -> None:
        delivery = self.delivery(clock)

        async def put() -> None:
            await until(lambda: listening(postgres_server, migrated))
            await self.put(other, delivery)

        assert (await self.claim_meanwhile(outbox, put)).delivery.id == delivery.id

    @pytest.mark.usefixtures("patient", "foreign")
    async def test_what_another_process_releases_ends_a_wait_at_once(
        self,
        outbox: PostgresOutbox,
        other: PostgresOutbox,
        clock: VirtualClock,
        postgres_server: DatabaseServer,
        migrated: str,
    ) -> None:
        delivery = self.delivery(clock)
        await self.put_and_end(other, clock, delivery)

        async def replay() -> None:
            await until(lambda: listening(postgres_server, migrated))
            await other.replay(delivery.id)

        assert (await self.claim_meanwhile(outbox, replay)).delivery.id == delivery.id

    async def test_behind_a_pooler_nobody_listens_and_it_is_found_all_the_same(
        self,
        migrated: str,
        other: PostgresOutbox,
        clock: VirtualClock,
        postgres_server: DatabaseServer,
    ) -> None:
        outbox = PostgresOutbox(migrated, clock=clock, backlog=None, pooler=True)
        delivery = self.delivery(clock)
        claim = await self.claim_meanwhile(outbox, lambda: self.put(other, delivery))
        assert claim.delivery.id == delivery.id
        assert not listening(postgres_server, migrated)
        await outbox.aclose()

    async def test_many_in_a_row_are_told_as_one(self, outbox: PostgresOutbox, migrated: str) -> None:
        async with ear(migrated) as heard:
            for _ in range(100):
                outbox._office().news.tell()
            assert await self.end(outbox, heard) == [news._SELF]

    async def test_many_puts_at_once_are_told_as_one(
        self, outbox: PostgresOutbox, migrated: str, clock: VirtualClock
    ) -> None:
        async with ear(migrated) as heard:
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(self.put, outbox, self.delivery(clock))
            assert await self.end(outbox, heard) == [news._SELF]

    async def test_one_more_while_it_is_told_is_told_after_a_breath(
        self, outbox: PostgresOutbox, migrated: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = outbox._office().news
        run, times = outbox._office().line.run, []

        async def again(*arguments: Any, **options: Any) -> Any:
            times.append(time.monotonic())
            if len(times) == 1:
                mine.tell()
                mine.tell()
            return await run(*arguments, **options)

        monkeypatch.setattr(outbox._office().line, "run", again)
        async with ear(migrated) as heard:
            mine.tell()
            await until_idle()
            monkeypatch.undo()
            assert await self.end(outbox, heard) == [news._SELF] * 2
        assert times[1] - times[0] >= news._BREATH - 0.005

    async def test_what_is_due_later_is_told_to_nobody(
        self, outbox: PostgresOutbox, migrated: str, clock: VirtualClock
    ) -> None:
        async with ear(migrated) as heard:
            await self.put(outbox, self.delivery(clock, due_in=timedelta(seconds=1)))
            assert await self.end(outbox, heard) == []
            await self.put(outbox, self.delivery(clock, due_in=timedelta(seconds=0.9)))
            assert await self.end(outbox, heard) == ["end", news._SELF]

    async def test_what_this_process_tells_it_does_not_hear(
        self, outbox: PostgresOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[int] = []
        mine = News(outbox._office().line, CHANNEL, lambda: heard.append(1), listens=True)
        mine._hear(None, 1, CHANNEL, news._SELF)
        assert heard == []
        mine._hear(None, 1, CHANNEL, "another process")
        assert heard == [1]

    @pytest.mark.usefixtures("patient", "soon")
    async def test_a_listener_that_was_cut_off_comes_back_and_looks_for_what_it_missed(
        self,
        outbox: PostgresOutbox,
        other: PostgresOutbox,
        clock: VirtualClock,
        postgres_server: DatabaseServer,
        migrated: str,
    ) -> None:
        delivery = self.delivery(clock)

        async def put_while_nobody_listens() -> None:
            await until(lambda: listening(postgres_server, migrated))
            (pid,) = listening(postgres_server, migrated)
            # Its own mark: this process hears of it only because it looks when it listens again.
            await self.put(other, delivery)
            postgres_server.execute("SELECT pg_terminate_backend(%s)", (pid,))
            await until(lambda: listening(postgres_server, migrated) - {pid})

        assert (await self.claim_meanwhile(outbox, put_while_nobody_listens)).delivery.id == delivery.id
        assert outbox.outage is None

    async def test_who_cannot_listen_tries_again(
        self,
        outbox: PostgresOutbox,
        postgres_server: DatabaseServer,
        migrated: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG, "callback_middleware")
        monkeypatch.setattr(news, "_AGAIN", 0.01)
        line = outbox._office().line
        connect, refusals = line.connect, [TimeoutError("late"), ConnectionRefusedError("refused")]

        async def refused() -> asyncpg.Connection:
            if refusals:
                raise refusals.pop()
            return await connect()

        monkeypatch.setattr(line, "connect", refused)
        await outbox.wait(timedelta())
        await outbox.wait(timedelta())
        await until(lambda: listening(postgres_server, migrated))
        assert caplog.text.count("news of the outbox are not heard: ") == 2
        assert len(listening(postgres_server, migrated)) == 1
        # Whoever listens ends with the outbox.
        await outbox.aclose()
        await until(lambda: not connected(postgres_server, migrated))

    async def test_what_cannot_be_told_is_no_matter(
        self, clock: VirtualClock, migrated: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "callback_middleware")
        unreachable = PostgresOutbox(urlsplit(migrated)._replace(path="/missing").geturl(), clock=clock)
        await unreachable.committed()
        await until(lambda: "news of the outbox were not told: " in caplog.text)
        await unreachable.aclose()

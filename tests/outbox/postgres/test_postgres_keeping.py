from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, timedelta
from functools import partial
from typing import Any

import anyio
import psycopg
import pytest
from postgres_setting import PostgresSetting, set_clock

from callback_middleware.delivery import DEADLINE, Dead, Delivered, Retry, Settlement
from callback_middleware.errors import DeliveryNotFound, OutboxUncertain
from callback_middleware.outbox.postgres import PostgresOutbox, keeping, office
from callback_middleware.outbox.postgres.keeping import AHEAD, tend
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionVersion
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, LEASE, OutboxSetting
from postgres_server import DatabaseServer

TABLES = ("delivery", "result", "attempt")
KEEP = timedelta(days=30)
A_DAY = timedelta(days=1)


class TestKeeping(PostgresSetting, OutboxSetting):
    """On a database of its own each, because days of tables come and go."""

    @pytest.fixture
    async def outbox(
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> AsyncIterator[PostgresOutbox]:
        set_clock(postgres_server, fresh, clock)
        outbox = PostgresOutbox(fresh, clock=clock, keep=KEEP, backlog=None)
        yield outbox
        await outbox.aclose()

    async def tend(self, outbox: PostgresOutbox, keep: timedelta | None = KEEP) -> None:
        await outbox._ask(lambda connection: tend(connection, outbox._schema, keep))

    async def days_later(self, outbox: PostgresOutbox, clock: VirtualClock, days: int) -> None:
        """Tend every day, for so many days."""
        for _ in range(days):
            await self.let_pass(outbox, clock, A_DAY)
            await self.tend(outbox)

    async def days(self, outbox: PostgresOutbox, table: str = "delivery") -> list[date]:
        rows = await outbox._ask(
            lambda connection: connection.fetch(
                "SELECT to_date(right(child.relname, 8), 'YYYYMMDD') FROM pg_inherits "
                "JOIN pg_class child ON child.oid = inhrelid "
                "WHERE inhparent = to_regclass('callback_middleware.' || $1::text) "
                "AND child.relname ~ '_[0-9]{8}$' ORDER BY 1",
                table,
            )
        )
        return [row[0] for row in rows]

    async def count(self, outbox: PostgresOutbox, table: str) -> int:
        found: int = await outbox._ask(
            lambda connection: connection.fetchval(f"SELECT count(*) FROM callback_middleware.{table}")  # noqa: S608
        )
        return found

    async def test_days_are_made_ahead_once_and_the_next_one_when_a_day_has_passed(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        today = clock.now().astimezone(UTC).date()
        for _ in range(2):
            await self.tend(outbox)
            for table in TABLES:
                assert await self.days(outbox, table) == [today + A_DAY * number for number in range(-1, AHEAD + 1)]
        await self.days_later(outbox, clock, 1)
        for table in TABLES:
            assert (await self.days(outbox, table))[-1] == today + A_DAY * (AHEAD + 1)

    async def test_what_was_put_before_its_day_was_made_is_in_it_when_it_is(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.tend(outbox)
        ahead = VirtualClock(clock.now() + timedelta(days=20))
        early = self.delivery(clock, id=self.delivery(ahead).id)
        neighbour = self.delivery(clock, id=self.delivery(VirtualClock(clock.now() + timedelta(days=21))).id)
        await self.put_and_end(outbox, clock, early, neighbour)
        assert await self.count(outbox, "delivery_default") == 2

        before = await outbox.get(early.id), await outbox.attempts(early.id)
        await self.let_pass(outbox, clock, timedelta(days=13))
        await self.tend(outbox)

        day = f"{ahead.now():%Y%m%d}"
        for table in TABLES:
            assert await self.count(outbox, f"{table}_{day}") == 1
            assert await self.count(outbox, f"{table}_default") == 1
        assert (await outbox.get(early.id), await outbox.attempts(early.id)) == before
        assert (await outbox.put(Batch([early]))).stored == []

    async def test_a_day_is_dropped_when_the_last_of_it_ended_so_long_ago(
        self, outbox: PostgresOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "callback_middleware")
        await self.tend(outbox)
        today = clock.now().date()
        first, last = self.delivery(clock), self.delivery(clock, due_in=timedelta(days=3))
        await self.put_and_end(outbox, clock, first)
        await self.put(outbox, last)
        await self.let_pass(outbox, clock, timedelta(days=3))
        await self.settle_all(outbox, clock, Dead("told so"))

        await self.days_later(outbox, clock, 30)
        for one in (first, last):
            assert (await outbox.get(one.id)).state.terminal
        assert today in await self.days(outbox)
        assert f"the deliveries of {today} are forgotten" not in caplog.text

        await self.days_later(outbox, clock, 1)
        for one in (first, last):
            with pytest.raises(DeliveryNotFound):
                await outbox.get(one.id)
        for table in TABLES:
            assert min(await self.days(outbox, table)) > today
        assert caplog.text.count(f"the deliveries of {today} are forgotten") == 1

    async def test_a_delay_of_forty_days_survives_every_day_of_retention_and_is_delivered_whole(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.tend(outbox)
        delayed = self.delivery(clock, due_in=timedelta(days=40), body=b"kept", tags={"of": "old"})
        await self.put_and_end(outbox, clock, self.delivery(clock))
        await self.put(outbox, delayed)
        # What is over goes round it, row by row.
        await self.days_later(outbox, clock, 39)
        assert sum((await outbox.counts()).values()) == 1
        assert not await self.claim(outbox)

        await self.days_later(outbox, clock, 1)
        claim = await self.claim_one(outbox)
        assert claim.delivery == replace(delayed, state=State.SENDING, due_at=clock.now() + LEASE)
        await self.deliver(outbox, claim, clock.now())
        await self.days_later(outbox, clock, 5)
        assert (await outbox.get(delayed.id)).state is State.DELIVERED

    async def test_a_replay_keeps_its_day(self, outbox: PostgresOutbox, clock: VirtualClock) -> None:
        await self.tend(outbox)
        again = self.delivery(clock)
        await self.put_and_end(outbox, clock, again)
        await self.days_later(outbox, clock, 29)
        await outbox.replay(again.id)
        await self.days_later(outbox, clock, 10)
        await self.settle_all(outbox, clock)
        await self.days_later(outbox, clock, 30)
        assert (await outbox.get(again.id)).run == 2
        assert len(await outbox.attempts(again.id)) == 2
        await self.days_later(outbox, clock, 1)
        with pytest.raises(DeliveryNotFound):
            await outbox.get(again.id)

    async def insist(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask as requests and workers do: what was in the way of a day that is just made is asked again."""
        while True:
            with suppress(OutboxUncertain):
                await ask()
                return

    async def test_a_day_that_somebody_reads_for_long_is_left_for_another_time_and_puts_go_on(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str
    ) -> None:
        await self.tend(outbox)
        today = clock.now().date()
        old = self.delivery(clock)
        await self.put_and_end(outbox, clock, old)
        await self.let_pass(outbox, clock, timedelta(days=31))
        with reading(fresh, f"delivery_{today:%Y%m%d}"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.tend, outbox)
                for _ in range(5):
                    await self.insist(partial(self.put, outbox, self.delivery(clock)))
                    settlements = [Settlement(one.fence, Delivered()) for one in await self.claim(outbox)]
                    await self.insist(partial(outbox.settle, settlements))
            assert (await outbox.get(old.id)).state is State.DELIVERED
        assert await self.count(outbox, "delivery") == 6
        await self.tend(outbox)
        assert today not in await self.days(outbox)
        assert await self.count(outbox, "delivery") == 5

    @pytest.mark.parametrize("table", ["result", "attempt"])
    async def test_what_somebody_reads_for_long_is_dropped_the_next_time(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str, table: str
    ) -> None:
        await self.tend(outbox)
        today = clock.now().date()
        await self.put_and_end(outbox, clock, self.delivery(clock))
        await self.let_pass(outbox, clock, timedelta(days=31))
        with reading(fresh, f"{table}_{today:%Y%m%d}"):
            await self.tend(outbox)
            assert [one for one in TABLES if today in await self.days(outbox, one)] == [table]
        # Nobody knows of its deliveries any more, but of the day.
        await self.tend(outbox)
        assert [one for one in TABLES if today in await self.days(outbox, one)] == []

    async def test_two_processes_may_tend_at_once(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str
    ) -> None:
        other = PostgresOutbox(fresh, clock=clock, keep=KEEP, backlog=None)
        await self.tend(outbox)
        await self.put_and_end(outbox, clock, self.delivery(clock))
        for _ in range(3):
            await self.let_pass(outbox, clock, timedelta(days=31))
            async with anyio.create_task_group() as tasks:
                for one in (outbox, other, outbox, other):
                    tasks.start_soon(self.tend, one)
            await self.tend(other)
            today = clock.now().date()
            days = await self.days(outbox)
            assert days[-AHEAD - 2 :] == [today + A_DAY * number for number in range(-1, AHEAD + 1)]
            assert days[0] >= today - KEEP
            assert [await self.days(outbox, table) for table in TABLES] == [days] * 3
        assert await self.count(outbox, "delivery") == 0
        assert other.outage is None
        await other.aclose()

    async def test_who_comes_second_leaves_the_days_to_whoever_makes_them(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str
    ) -> None:
        with psycopg.connect(fresh) as first:
            first.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('callback_middleware days', "
                "'callback_middleware.queue'::regclass::oid::bigint))"
            )
            await self.tend(outbox)
            assert await self.days(outbox) == []
        await self.tend(outbox)
        assert max(await self.days(outbox)) == clock.now().date() + A_DAY * AHEAD

    async def test_what_no_day_can_be_dropped_for_is_thinned_out_a_week_later(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeping, "AT_ONCE", 2)
        await self.tend(outbox)
        await self.put_and_end(outbox, clock, *(self.delivery(clock) for _ in range(5)))
        held = self.delivery(clock, due_in=timedelta(days=60))
        await self.put(outbox, held)
        await self.days_later(outbox, clock, 37)
        assert await self.count(outbox, "delivery") == 6
        await self.let_pass(outbox, clock, timedelta(seconds=1))
        await self.tend(outbox)
        assert await self.count(outbox, "delivery") == 1
        assert await self.count(outbox, "result") == await self.count(outbox, "attempt") == 0
        assert (await outbox.get(held.id)).state is State.PENDING

    async def test_what_is_kept_for_ever_is_not_dropped_and_keys_go_all_the_same(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.tend(outbox, None)
        kept = self.delivery(clock, dedupe="once")
        await self.put_and_end(outbox, clock, kept)
        await self.let_pass(outbox, clock, timedelta(days=4000))
        await self.tend(outbox, None)
        assert (await outbox.get(kept.id)).state is State.DELIVERED
        assert clock.now().date() - timedelta(days=4000) in await self.days(outbox)
        assert await self.count(outbox, "dedupe") == 0

    async def test_keys_that_are_over_subscriptions_that_ended_and_receivers_nobody_knows_go(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.tend(outbox)
        in_force = self.subscription(clock, KEY._replace(key="in force"))
        expiring = self.subscription(clock, KEY._replace(key="expiring"), expires_in=A_DAY)
        await self.subscribe(outbox, self.subscription(clock), in_force, expiring)
        await self.put_and_end(outbox, clock, self.delivery(clock, dedupe="once"))
        await self.unsubscribe(outbox, KEY)
        assert [await self.count(outbox, table) for table in ("dedupe", "subscription", "origin")] == [1, 3, 1]

        await self.days_later(outbox, clock, 1)
        assert [await self.count(outbox, table) for table in ("dedupe", "subscription", "origin")] == [0, 3, 1]
        await self.days_later(outbox, clock, 40)
        assert [await self.count(outbox, table) for table in ("dedupe", "subscription", "origin")] == [0, 1, 0]
        assert [one.key for one in await outbox.subscriptions()] == [in_force.key]

    async def test_a_subscription_stays_while_something_that_was_sent_to_it_does(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.tend(outbox)
        await self.subscribe(outbox, self.subscription(clock, retry=self.delivery(clock).retry))
        await self.notify(outbox, self.notification(clock, due_in=timedelta(days=60)))
        await self.unsubscribe(outbox, KEY)
        await self.days_later(outbox, clock, 45)
        assert await self.count(outbox, "subscription") == 1
        (kept,) = (await outbox.search(Selection())).deliveries
        assert kept.subscription == SubscriptionVersion(KEY, 1)

    async def test_it_is_tended_as_soon_as_somebody_waits_and_every_hour(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(office, "_ROUND", 0.01)
        rounds, again = [], anyio.Event()

        async def counted(connection: Any, schema: Any, keep: timedelta | None) -> None:
            await tend(connection, schema, keep)
            rounds.append(keep)
            if len(rounds) > 1:
                again.set()

        monkeypatch.setattr(office, "tend", counted)
        await outbox.wait(timedelta())
        await outbox.start()
        with anyio.fail_after(30):
            await again.wait()
        assert set(rounds) == {KEEP}
        assert max(await self.days(outbox)) == clock.now().date() + A_DAY * AHEAD

    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", True),
            ("SELECT pg_terminate_backend(pg_backend_pid())", False),
        ],
    )
    async def test_a_round_that_fails_is_told_unless_an_outage_is_and_another_follows(
        self,
        outbox: PostgresOutbox,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        statement: str,
        *,
        told: bool,
    ) -> None:
        monkeypatch.setattr(office, "_ROUND" if told else "_SOON", 0.01)
        rounds, again = [], anyio.Event()

        async def failing(connection: Any, *_: Any) -> None:
            rounds.append(1)
            if len(rounds) > 1:
                again.set()
            else:
                await connection.execute(statement)

        monkeypatch.setattr(office, "tend", failing)
        await outbox.start()
        with anyio.fail_after(30):
            await again.wait()
        said = "keeping the outbox small failed, and is tried again in an hour: the outbox"
        assert (said in caplog.text) is told

    async def test_retries_and_claims_go_on_in_a_day_that_was_never_made(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        # Nobody has tended: all is in the default partitions.
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        claim = await self.claim_one(outbox)
        await self.settle(outbox, claim, Retry(DEADLINE), self.attempt(claim, clock.now(), 503))
        await self.let_pass(outbox, clock, DEADLINE)
        await self.settle_all(outbox, clock)
        assert [one.number for one in await outbox.attempts(delivery.id)] == [1, 2]
        await self.tend(outbox)
        assert [one.number for one in await outbox.attempts(delivery.id)] == [1, 2]
        assert await self.count(outbox, "attempt_default") == 0


@contextmanager
def reading(url: str, table: str) -> Iterator[None]:
    """Somebody has read a table, and their transaction goes on."""
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT count(*) FROM callback_middleware.{table}".encode())  # noqa: S608
        yield
        connection.rollback()

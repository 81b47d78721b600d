"""Somebody is in the way: a user's own transaction is open for long, or thousands of receivers have no room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
from postgres_setting import PostgresSetting, set_clock

from callback_middleware.backlog import BACKLOG
from callback_middleware.delivery import Claim, Dead, Delivered, Settlement
from callback_middleware.errors import OutboxUncertain
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.keeping import tend
from callback_middleware.outbox.postgres.puts import MOST_WAITS
from callback_middleware.ports import Batch, PutReport
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE, OutboxSetting
from postgres_server import DatabaseServer

A_DAY = timedelta(days=1)
LOWEST = -(2**63)
HIGHEST = 2**63 - 1

QUEUED = """
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready, leased, claims, fence)
SELECT gen_random_uuid(), number, callback_middleware.instant() + interval '30 s', false, true, 1, 1
FROM generate_series($1::bigint, $2::bigint) AS number;
"""


class TestContention(PostgresSetting, OutboxSetting):
    @asynccontextmanager
    async def open_transaction(self, url: str) -> AsyncIterator[Any]:
        """A user's own, which goes on until the block ends, and is taken back."""
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await connection.close()

    async def put_together(self, outbox: PostgresOutbox, *batches: Batch) -> list[PutReport | Exception]:
        """Put in one burst."""
        told: dict[int, PutReport | Exception] = {}

        async def put(number: int, batch: Batch) -> None:
            try:
                told[number] = await outbox.put(batch)
            except OutboxUncertain as error:
                told[number] = error

        async with anyio.create_task_group() as tasks:
            for number, batch in enumerate(batches):
                tasks.start_soon(put, number, batch)
        return [told[number] for number in range(len(batches))]

    async def ask(self, outbox: PostgresOutbox, statement: str, *values: object) -> Any:
        return await outbox._ask(lambda connection: connection.fetch(statement, *values))

    async def test_a_key_in_an_open_transaction_keeps_up_who_puts_it_too_and_nobody_else(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        free = self.delivery(clock, dedupe="free")
        mine, theirs = self.delivery(clock, dedupe="taken"), self.delivery(clock, dedupe="taken")
        async with self.open_transaction(migrated) as connection:
            await outbox.put_in(connection, Batch([theirs]))
            taken, stored = await self.put_together(outbox, Batch([mine]), Batch([free]))
            assert isinstance(taken, OutboxUncertain)
            assert isinstance(stored, PutReport)
            assert stored.stored == [free.id]
            assert outbox.outage is None
        # It was rolled back.
        assert (await outbox.put(Batch([mine]))).stored == [mine.id]

    async def test_a_burst_waits_for_so_many_open_transactions_and_no_more(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        keys = [str(number) for number in range(MOST_WAITS + 1)]
        async with self.open_transaction(migrated) as connection:
            await outbox.put_in(connection, Batch([self.delivery(clock, dedupe=key) for key in keys]))
            told = await self.put_together(outbox, *(Batch([self.delivery(clock, dedupe=key)]) for key in keys))
            assert all(isinstance(one, OutboxUncertain) for one in told)
            assert outbox.outage is None

    async def test_no_worker_waits_for_whoever_changes_a_subscription_whose_receiver_is_gone(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        claim = await self.claim_one(outbox)
        async with self.open_transaction(migrated) as connection:
            await outbox.put_in(connection, Batch(subscribe=[self.subscription(clock)]))
            settlement = Settlement(claim.fence, Dead("gone", gone=True), None)
            assert await outbox.settle([settlement]) == {claim.fence}

    @pytest.mark.parametrize("backlog", [BACKLOG], ids=["bounded"])
    async def test_a_claim_waits_for_the_one_before_it_and_sees_what_that_has_done(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        claims: list[Claim] = []

        async def claim() -> None:
            claims.extend(await self.claim(outbox))

        async with anyio.create_task_group() as tasks:
            connection: Any = await asyncpg.connect(migrated)
            async with connection.transaction():
                leased = await outbox._claims.lease(connection, 8, LEASE, 8, {})
                tasks.start_soon(claim)
                while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await anyio.lowlevel.checkpoint()
        await connection.close()
        assert (len(leased.ids), claims) == (1, [])

    async def test_forgetting_waits_for_nobody(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=LEASE))
        await self.put(outbox, self.delivery(clock, dedupe="x"))
        claim = await self.claim_one(outbox)
        await outbox.settle([Settlement(claim.fence, Delivered())])
        await self.let_pass(outbox, clock, 2 * A_DAY)
        async with self.open_transaction(migrated) as connection:
            again = self.delivery(clock, dedupe="x")
            await outbox.put_in(connection, Batch([again], subscribe=[self.subscription(clock)]))
            await connection.execute("SELECT FROM callback_middleware.origin FOR UPDATE")
            assert await outbox.prune(clock.now()) == 1

    @pytest.mark.parametrize("ends", [(LOWEST, HIGHEST), (HIGHEST, LOWEST)], ids=["up", "down"])
    async def test_origins_at_both_ends_have_their_turn(
        self, outbox: PostgresOutbox, clock: VirtualClock, ends: tuple[int, int]
    ) -> None:
        for key in ends:
            delivery = self.delivery(clock)
            await self.put(outbox, delivery)
            await self.ask(
                outbox, "UPDATE callback_middleware.queue SET origin_key = $1 WHERE id = $2", key, delivery.id
            )
            assert (await self.claim_one(outbox)).delivery.id == delivery.id

    @pytest.mark.parametrize("backlog", [BACKLOG], ids=["bounded"])
    async def test_thousands_of_origins_without_room_are_passed_in_several_claims_once_around(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.ask(outbox, QUEUED, 1, 3000)
        await self.ask(
            outbox,
            "INSERT INTO callback_middleware.origin (origin_key, asked) "
            "SELECT origin_key, id FROM callback_middleware.queue",
        )
        await self.ask(
            outbox,
            "INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready) "
            "SELECT gen_random_uuid(), origin_key, callback_middleware.instant(), true FROM callback_middleware.origin",
        )
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        await self.ask(outbox, "UPDATE callback_middleware.queue SET origin_key = 3001 WHERE id = $1", delivery.id)

        async def waits() -> bool:
            """Whether there is nothing to be done at once."""
            leased = await outbox._ask(lambda connection: outbox._claims.lease(connection, 8, LEASE, 8, {}))
            return bool(leased.ids) or leased.next_due != 0

        assert [await waits() for _ in range(2)] == [False, False]
        (claim,) = await self.claim(outbox, 8)
        assert claim.delivery.id == delivery.id
        assert [await waits() for _ in range(4)] == [False, False, True, False]

    async def test_days_are_known_whatever_a_session_makes_of_strings(self, outbox: PostgresOutbox) -> None:
        async def days(connection: Any) -> int:
            async with connection.transaction():
                await connection.execute("SET LOCAL standard_conforming_strings TO off")
                return len(await connection.fetch("SELECT callback_middleware.days()"))

        assert await outbox._ask(days) > 0

    async def test_a_wrong_clock_is_put_right_to_the_second_where_clocks_change_meanwhile(
        self, outbox: PostgresOutbox, postgres_server: DatabaseServer, migrated: str
    ) -> None:
        """On 31 March 2030 a day of Berlin has 23 hours."""
        right = VirtualClock(datetime(2030, 3, 29, 12, tzinfo=UTC))
        wrong = VirtualClock(datetime(2030, 4, 1, 12, tzinfo=UTC))
        set_clock(postgres_server, migrated, right)

        async def put(connection: Any) -> None:
            async with connection.transaction():
                await connection.execute("SET LOCAL timezone TO 'Europe/Berlin'")
                for batch in (Batch([self.delivery(wrong)]), Batch([self.delivery(wrong, dedupe="x")])):
                    await outbox._puts.put_all(connection, [batch], wrong.now())

        await outbox._ask(put)
        rows = await self.ask(outbox, "SELECT due_at FROM callback_middleware.delivery")
        assert [row[0] for row in rows] == [right.now(), right.now()]


class TestDaysInUse(PostgresSetting, OutboxSetting):
    """On a database of its own, because days of tables come and go."""

    @pytest.fixture
    async def outbox(
        self, fresh: str, postgres_server: DatabaseServer, clock: VirtualClock
    ) -> AsyncIterator[PostgresOutbox]:
        set_clock(postgres_server, fresh, clock)
        outbox = PostgresOutbox(fresh, clock=clock, backlog=None)
        yield outbox
        await outbox.aclose()

    async def test_a_day_that_is_put_into_while_it_is_made_is_left_for_another_time(
        self, outbox: PostgresOutbox, clock: VirtualClock, fresh: str
    ) -> None:
        user = await asyncpg.connect(fresh)
        transaction = user.transaction()
        await transaction.start()
        # Yesterday's is made first: the others find nobody in their way.
        await outbox.put_in(user, Batch([self.delivery(VirtualClock(clock.now() - A_DAY))]))

        async def is_waited_for() -> bool:
            return bool(await user.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

        async def commit() -> None:
            while not await is_waited_for():
                await anyio.lowlevel.checkpoint()
            await transaction.commit()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit)
            await outbox._ask(lambda connection: tend(connection, outbox._schema, None))
        await user.close()
        await self.claim_one(outbox)
        await outbox._ask(lambda connection: tend(connection, outbox._schema, None))

    async def test_results_of_a_day_are_kept_while_there_are_deliveries_of_it_that_a_wrong_clock_put(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        old = VirtualClock(clock.now() - 40 * A_DAY)
        day = old.now().date()

        async def call(function: str, *values: object) -> Any:
            return await outbox._ask(
                lambda connection: connection.fetchval(f"SELECT callback_middleware.{function}", *values)
            )

        await call("make_part('result', $1)", day)
        delivery = self.delivery(old)
        await outbox.put(Batch([delivery]))
        claim = await self.claim_one(outbox)
        await outbox.settle([Settlement(claim.fence, Delivered())])
        assert not await call("drop_part('result', $1, $2)", day, clock.now())
        assert (await outbox.get(delivery.id)).state == "delivered"

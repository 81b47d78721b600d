"""Everything once more through a pooler that hands out two connections per transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from postgres_setting import PostgresSetting, set_clock

from callback_middleware.backlog import BacklogLimits
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.states import State
from callback_middleware.testing import OutboxContract, VirtualClock
from callback_middleware.testing.contracts.setting import LEASE, bounded
from pgbouncer import pgbouncer, pooled
from postgres_server import DatabaseServer

LONG = """
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready)
SELECT gen_random_uuid(), $1, callback_middleware.instant(), true FROM generate_series(1, 2000)
"""


@pytest.fixture(scope="module")
def pooler(postgres_server: DatabaseServer) -> Iterator[int]:
    with pgbouncer(postgres_server) as port:
        yield port


class TestPooledOutbox(PostgresSetting, OutboxContract):
    """The contract of every outbox, on PostgreSQL behind PgBouncer."""

    @pytest.fixture
    async def outbox(
        self,
        migrated: str,
        pooler: int,
        postgres_server: DatabaseServer,
        clock: VirtualClock,
        backlog: BacklogLimits | None,
    ) -> AsyncIterator[PostgresOutbox]:
        set_clock(postgres_server, migrated, clock)
        outbox = PostgresOutbox(pooled(migrated, pooler), clock=clock, backlog=backlog, pooler=True)
        yield outbox
        await outbox.aclose()

    async def test_who_does_not_say_that_there_is_a_pooler_is_told_to(self, migrated: str, pooler: int) -> None:
        outbox = PostgresOutbox(pooled(migrated, pooler))
        with pytest.raises(
            OutboxUnavailable, match=r"unsupported startup parameter: .*; .* give the outbox pooler=True"
        ):
            await outbox.counts()
        await outbox.aclose()

    @bounded(newcomer=None, per_origin=5000, per_owner=None)
    async def test_nothing_is_left_on_a_connection_that_others_have_next(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        keyed = self.delivery(clock, dedupe="key")
        await outbox._ask(lambda connection: connection.execute(LONG, origin_key(keyed.origin)))
        await self.put(outbox, keyed)
        left = "SELECT current_setting('callback_middleware.counts', true)"
        assert not await outbox._ask(lambda connection: connection.fetchval(left))

    async def test_many_at_once_share_two_connections_and_none_gets_what_another_asked_for(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        others = [outbox.elsewhere(outbox.url) for _ in range(3)]
        deliveries = [
            self.delivery(clock, dedupe=str(number) if number % 3 else None, body=str(number).encode())
            for number in range(120)
        ]
        delivered: dict[bytes | None, int] = {}

        async def work(one: PostgresOutbox) -> None:
            while len(delivered) < len(deliveries):
                claims = await self.claim(one, 10)
                assert await one.extend(claims, LEASE) == {claim.fence for claim in claims}
                for claim in claims:
                    await self.deliver(one, claim, clock.now())
                    delivered[claim.delivery.body] = delivered.get(claim.delivery.body, 0) + 1

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number, delivery in enumerate(deliveries):
                    tasks.start_soon(self.put, [outbox, *others][number % 4], delivery)
                for one in (outbox, *others):
                    tasks.start_soon(work, one)
        assert set(delivered.values()) == {1}
        assert (await outbox.counts())[State.DELIVERED] == len(deliveries)
        for one in others:
            await one.aclose()

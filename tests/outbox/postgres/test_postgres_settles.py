"""Settling: what is written of a receiver that accepts, and whom nobody waits for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from postgres_setting import PostgresSetting

from callback_middleware.delivery import Dead, Delivered, Retry, Settlement, Verdict
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.settles import settle
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE, OutboxSetting, bounded


class TestSettles(PostgresSetting, OutboxSetting):
    async def due(self, outbox: PostgresOutbox, clock: VirtualClock, *settlements: Settlement) -> timedelta | None:
        """Settle. After how long somebody may claim something that nobody could before."""
        settled = await outbox._ask(lambda connection: settle(connection, outbox._schema, settlements, clock.now()))
        return settled.due

    async def accept(self, outbox: PostgresOutbox, clock: VirtualClock) -> datetime:
        """A receiver accepts a delivery. When that is written to have happened."""
        await self.put(outbox, self.delivery(clock))
        await outbox.settle([Settlement(one.fence, Delivered()) for one in await self.claim(outbox)])
        statement = "SELECT accepted_at FROM callback_middleware.origin"
        written: Any = await outbox._ask(lambda connection: connection.fetchval(statement))
        assert isinstance(written, datetime)
        return written

    async def test_that_a_receiver_accepts_is_written_once_a_minute(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        first = clock.now()
        assert await self.accept(outbox, clock) == first
        await self.let_pass(outbox, clock, timedelta(minutes=1))
        assert await self.accept(outbox, clock) == first
        await self.let_pass(outbox, clock, timedelta(seconds=1))
        assert await self.accept(outbox, clock) == first + timedelta(seconds=61)

    @pytest.mark.parametrize("verdict", [Delivered(), Dead("gone"), Retry(timedelta(days=1))])
    @bounded(newcomer=1)
    async def test_a_newcomers_that_is_settled_lets_its_next_one_go_at_once(
        self, outbox: PostgresOutbox, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        assert await self.due(outbox, clock, Settlement(claim.fence, verdict)) == timedelta()

    @pytest.mark.parametrize("verdict", [Delivered(), Retry(timedelta(days=1))])
    async def test_a_suspect_that_is_settled_lets_the_next_one_go_at_once(
        self, outbox: PostgresOutbox, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        suspect = await self.claim_one(outbox)
        attempt = self.attempt(suspect, clock.now())

        assert await self.due(outbox, clock, Settlement(suspect.fence, verdict, attempt)) == timedelta()

    async def test_any_other_that_is_settled_lets_nothing_go(self, outbox: PostgresOutbox, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(2)))
        delivered, failed = await self.claim(outbox)
        settlements = [Settlement(delivered.fence, Delivered()), Settlement(failed.fence, Retry(LEASE))]

        assert await self.due(outbox, clock, *settlements) == LEASE

    async def test_no_worker_waits_to_extend_what_is_being_settled(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(2)))
        settled, kept = await self.claim(outbox)
        connection: Any = await asyncpg.connect(migrated)
        async with connection.transaction():
            await connection.execute("DELETE FROM callback_middleware.queue WHERE id = $1", settled.fence.delivery)

            assert await outbox.extend([settled, kept], LEASE) == {kept.fence}
        await connection.close()

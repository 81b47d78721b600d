from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from postgres_setting import PostgresSetting

from callback_middleware.delivery import DEADLINE, Retry
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE, OutboxSetting

AN_HOUR = timedelta(hours=1)
A_MOMENT = timedelta(milliseconds=1)


class TestClocks(PostgresSetting, OutboxSetting):
    """Only the database's clock says when something is due; that of ``outbox`` is right, and that of ``web`` is not."""

    @pytest.fixture(params=[timedelta(days=3), timedelta(days=-3)], ids=["ahead", "behind"])
    def wrong(self, request: pytest.FixtureRequest, clock: VirtualClock) -> VirtualClock:
        return VirtualClock(clock.now() + request.param)

    @pytest.fixture
    async def web(self, migrated: str, wrong: VirtualClock) -> AsyncIterator[PostgresOutbox]:
        web = PostgresOutbox(migrated, clock=wrong, backlog=None)
        yield web
        await web.aclose()

    @pytest.mark.parametrize("dedupe", [None, "once"], ids=["plain", "keyed"])
    async def test_what_a_process_with_a_wrong_clock_puts_is_due_at_once_by_the_right_one(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock, dedupe: str | None
    ) -> None:
        delivery = self.delivery(wrong, dedupe=dedupe, expires_at=wrong.now() + AN_HOUR)
        assert (await web.put(Batch([delivery]))).stored == [delivery.id]
        stored = await outbox.get(delivery.id)
        now = clock.now()
        assert (stored.created_at, stored.due_at, stored.expires_at) == (now, now, now + AN_HOUR)
        assert (await self.claim_one(outbox)).delivery.id == delivery.id

    @pytest.mark.parametrize("dedupe", [None, "once"], ids=["plain", "keyed"])
    async def test_its_delays_count_from_there(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock, dedupe: str | None
    ) -> None:
        await web.put(Batch([self.delivery(wrong, due_in=AN_HOUR, dedupe=dedupe)]))
        await self.let_pass(outbox, clock, AN_HOUR - A_MOMENT)
        assert not await self.claim(outbox)
        await self.let_pass(outbox, clock, A_MOMENT)
        assert await self.claim(outbox)

    async def test_its_subscriptions_expire_by_the_right_clock_and_so_do_notifications(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock
    ) -> None:
        await web.put(Batch(subscribe=[self.subscription(wrong, expires_in=AN_HOUR)]))
        (held,) = await outbox.subscriptions()
        assert (held.created_at, held.expires_at) == (clock.now(), clock.now() + AN_HOUR)
        first, second = self.notification(wrong, due_in=AN_HOUR), self.notification(wrong)
        await web.put(Batch(notify=[first]))
        stored = await outbox.get(first.id)
        due = clock.now() + AN_HOUR
        assert (stored.created_at, stored.due_at, stored.expires_at) == (clock.now(), due, due + timedelta(days=1))
        await self.let_pass(outbox, clock, AN_HOUR)
        assert (await web.put(Batch(notify=[second]))).unsubscribed == [second.id]

    async def test_a_dedupe_key_is_free_after_a_day_of_the_right_clock(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock, dedupe="once"))
        again = self.delivery(wrong, dedupe="once")
        assert (await web.put(Batch([again]))).duplicates == [again.id]
        await self.let_pass(outbox, clock, timedelta(days=1))
        assert (await web.put(Batch([again]))).stored == [again.id]

    async def test_a_worker_with_a_wrong_clock_leases_retries_and_tells_its_times_by_the_right_one(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock
    ) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        claim = await self.claim_one(web)
        assert claim.delivery.due_at == clock.now() + LEASE
        assert not await self.claim(outbox)
        assert await web.extend([claim], AN_HOUR) == {claim.fence}

        began = wrong.now() - timedelta(seconds=2)
        await self.settle(web, claim, Retry(DEADLINE, "busy"), self.attempt(claim, began, 503))
        assert [one.started_at for one in await outbox.attempts(delivery.id)] == [clock.now() - timedelta(seconds=2)]
        await self.let_pass(outbox, clock, DEADLINE - A_MOMENT)
        assert not await self.claim(outbox)
        await self.let_pass(outbox, clock, A_MOMENT)
        await self.deliver(web, await self.claim_one(web), wrong.now())
        assert await ended_at(outbox) == clock.now()

    async def test_what_a_wrong_clock_made_is_pruned_and_searched_by_the_right_one(
        self, outbox: PostgresOutbox, web: PostgresOutbox, clock: VirtualClock, wrong: VirtualClock
    ) -> None:
        delivery = self.delivery(wrong)
        await web.put(Batch([delivery]))
        await self.settle_all(outbox, clock)
        assert await outbox.prune(clock.now()) == 0
        assert await web.prune(clock.now() + A_MOMENT) == 1


async def ended_at(outbox: PostgresOutbox) -> datetime:
    found: datetime = await outbox._ask(
        lambda connection: connection.fetchval("SELECT ended_at FROM callback_middleware.result")
    )
    return found

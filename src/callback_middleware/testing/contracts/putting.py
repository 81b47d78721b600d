"""What ``put`` promises, and what the log says afterwards."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from callback_middleware.errors import DeliveryNotFound
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import MOMENT, Engine, OutboxSetting, ids

DAY = timedelta(hours=24)


class PutContract(OutboxSetting):
    async def test_what_is_put_comes_back_as_it_was(self, outbox: Engine, clock: VirtualClock) -> None:
        whole = self.delivery(clock, dedupe="key", due_in=timedelta(minutes=1), expires_at=clock.now() + DAY)
        bare = self.delivery(clock, body=None, headers=(), tags={})

        await self.put(outbox, whole, bare)

        assert await outbox.get(whole.id) == whole
        assert await outbox.get(bare.id) == bare
        assert list(await outbox.attempts(whole.id)) == []

    async def test_a_claim_carries_what_was_put(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)

        claimed = (await self.claim_one(outbox)).delivery

        assert replace(claimed, state=delivery.state, due_at=delivery.due_at) == delivery

    async def test_put_reports_what_is_new(self, outbox: Engine, clock: VirtualClock) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        await self.put(outbox, first)

        report = await outbox.put(Batch([first, second]))

        assert list(report.stored) == [second.id]
        assert list(report.duplicates) == []

    async def test_an_outbox_that_works_knows_of_no_outage(self, outbox: Engine, clock: VirtualClock) -> None:
        before = outbox.outage
        await self.put(outbox, self.delivery(clock))

        assert (before, outbox.outage) == (None, None)

    async def test_an_empty_batch_changes_nothing(self, outbox: Engine) -> None:
        report = await outbox.put(Batch())

        assert [*report.stored, *report.duplicates, *report.unsubscribed] == []

    async def test_a_known_id_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)

        await self.put(outbox, replace(delivery, body=b"another", url="https://here.example/another"))

        assert await outbox.get(delivery.id) == delivery
        assert len(await self.claim(outbox)) == 1

    async def test_a_known_id_in_flight_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        await self.claim_one(outbox)

        await self.put(outbox, delivery)

        assert (await outbox.get(delivery.id)).state is State.SENDING
        assert list(await self.claim(outbox)) == []

    async def test_a_known_id_that_was_delivered_is_not_sent_again(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        await self.deliver(outbox, await self.claim_one(outbox), clock.now())

        report = await outbox.put(Batch([delivery]))

        assert list(report.stored) == []
        assert (await outbox.get(delivery.id)).state is State.DELIVERED
        assert list(await self.claim(outbox)) == []

    async def test_puts_of_one_id_at_the_same_time_store_it_once(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(self.put, outbox, delivery)

        assert len(await self.claim(outbox)) == 1

    async def test_a_dedupe_key_is_good_for_one_delivery(self, outbox: Engine, clock: VirtualClock) -> None:
        first, second = self.delivery(clock, dedupe="key"), self.delivery(clock, dedupe="key")
        await self.put(outbox, first)

        report = await outbox.put(Batch([second]))

        assert list(report.stored) == []
        assert list(report.duplicates) == [second.id]
        assert ids(await self.claim(outbox)) == {first.id}
        with pytest.raises(DeliveryNotFound):
            await outbox.get(second.id)

    async def test_a_dedupe_key_is_good_for_one_delivery_of_a_batch(self, outbox: Engine, clock: VirtualClock) -> None:
        first, second = self.delivery(clock, dedupe="key"), self.delivery(clock, dedupe="key")

        report = await outbox.put(Batch([first, second]))

        assert list(report.stored) == [first.id]
        assert list(report.duplicates) == [second.id]

    async def test_a_delivery_that_is_put_again_is_no_duplicate_of_itself(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        delivery = self.delivery(clock, dedupe="key")
        await self.put(outbox, delivery)

        report = await outbox.put(Batch([delivery]))

        assert (list(report.stored), list(report.duplicates)) == ([], [])

    async def test_a_dedupe_key_belongs_to_one_callback_of_one_operation(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        deliveries = [
            self.delivery(clock, dedupe="key"),
            self.delivery(clock, dedupe="key", callback="another"),
            self.delivery(clock, dedupe="key", operation="POST /another"),
            self.delivery(clock, dedupe="another"),
            self.delivery(clock),
            self.delivery(clock),
        ]

        report = await outbox.put(Batch(deliveries))

        assert list(report.stored) == [delivery.id for delivery in deliveries]

    async def test_a_dedupe_key_stays_used_when_its_delivery_is_done(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock, dedupe="key"))
        await self.deliver(outbox, await self.claim_one(outbox), clock.now())

        report = await outbox.put(Batch([self.delivery(clock, dedupe="key")]))

        assert list(report.stored) == []

    async def test_a_dedupe_key_is_free_after_24_hours(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock, dedupe="key"))

        await self.let_pass(outbox, clock, DAY - MOMENT)
        early = await outbox.put(Batch([self.delivery(clock, dedupe="key")]))
        await self.let_pass(outbox, clock, MOMENT)
        late = await outbox.put(Batch([self.delivery(clock, dedupe="key")]))

        assert (len(early.stored), len(late.stored)) == (0, 1)

    async def test_what_nobody_put_is_not_found(self, outbox: Engine, clock: VirtualClock) -> None:
        unknown = self.delivery(clock).id

        with pytest.raises(DeliveryNotFound):
            await outbox.get(unknown)
        with pytest.raises(DeliveryNotFound):
            await outbox.attempts(unknown)

    async def test_counts_name_every_state(self, outbox: Engine, clock: VirtualClock) -> None:
        assert dict(await outbox.counts()) == dict.fromkeys(State, 0)

        await self.put(outbox, self.delivery(clock), self.delivery(clock, due_in=DAY))
        await self.claim_one(outbox)

        assert dict(await outbox.counts()) == {**dict.fromkeys(State, 0), State.PENDING: 1, State.SENDING: 1}

    async def test_a_put_ends_the_wait_for_it(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.claim(outbox)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.put, outbox, self.delivery(clock))
                while not await self.claim(outbox):
                    await outbox.wait(timedelta(hours=1))

    async def test_a_wait_of_no_time_returns(self, outbox: Engine) -> None:
        with anyio.fail_after(30):
            await outbox.wait(timedelta())
            await outbox.wait(timedelta())

    async def test_it_can_be_used_again_after_it_was_closed(self, outbox: Engine, clock: VirtualClock) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        await self.put(outbox, first)

        await outbox.aclose()
        await self.put(outbox, second)

        assert ids(await self.claim(outbox)) == {first.id, second.id}

"""What a batch promises: it is stored whole or not at all, once, and whoever gives up waiting for it."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from callback_middleware.errors import DeliveryNotFound, SubscriptionExists
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.subscription import Subscription
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, THERE, Engine, OutboxSetting, ids

TAKEN = KEY._replace(key="taken", owner="bob")
"""What somebody else has subscribed."""

TURNS = range(6)
"""Of the event loop, after which a caller gives up: before, while and after its batch is stored."""


class BatchContract(OutboxSetting):
    async def test_a_batch_notifies_whom_it_subscribes_and_those_it_ends(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        ended = KEY._replace(key="invoice 6")
        await self.subscribe(outbox, self.subscription(clock, ended))
        first, last, both = self.notification(clock), self.notification(clock, ended), KEY._replace(key="both")
        only = self.notification(clock, both)

        report = await outbox.put(
            Batch(
                subscribe=[self.subscription(clock), self.subscription(clock, both)],
                notify=[first, last, only],
                end=[ended, both],
            )
        )

        assert set(report.stored) == {first.id, last.id, only.id}
        assert [one.key for one in await outbox.subscriptions()] == [KEY]

    async def test_of_one_key_in_a_batch_the_last_counts(self, outbox: Engine, clock: VirtualClock) -> None:
        notification = self.notification(clock)

        await outbox.put(
            Batch(
                subscribe=[self.subscription(clock), self.subscription(clock, origin=THERE)],
                notify=[notification],
            )
        )

        assert [(one.origin, one.generation) for one in await outbox.subscriptions()] == [(THERE, 2)]
        assert (await outbox.get(notification.id)).origin == THERE

    async def test_a_batch_that_is_refused_changes_nothing_at_all(self, outbox: Engine, clock: VirtualClock) -> None:
        mine = self.subscription(clock)
        await self.subscribe(outbox, mine, self.subscription(clock, TAKEN))
        before = list(await outbox.subscriptions())
        delivery = self.delivery(clock, dedupe="key")
        notification = self.notification(clock, dedupe="another key")

        with pytest.raises(SubscriptionExists):
            await outbox.put(
                Batch(
                    [delivery],
                    subscribe=[
                        self.subscription(clock, origin=THERE),
                        self.subscription(clock, KEY._replace(key="new")),
                        self._refused(clock),
                    ],
                    notify=[notification],
                    end=[KEY],
                )
            )

        assert list(await outbox.subscriptions()) == before
        assert dict(await outbox.counts()) == dict.fromkeys(State, 0)
        assert list(await self.claim(outbox)) == []
        for unknown in (delivery.id, notification.id):
            with pytest.raises(DeliveryNotFound):
                await outbox.get(unknown)
        report = await outbox.put(Batch([delivery], notify=[notification]))
        assert set(report.stored) == {delivery.id, notification.id}, "a dedupe key was used"

    async def test_what_a_refused_batch_would_have_replaced_counts_on_as_if_it_had_never_been(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock), self.subscription(clock, TAKEN))
        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock), self._refused(clock))

        await self.subscribe(outbox, self.subscription(clock))

        assert [one.generation for one in await outbox.subscriptions()] == [2, 1]

    async def test_two_owners_of_one_key_in_a_batch_refuse_it(self, outbox: Engine, clock: VirtualClock) -> None:
        with pytest.raises(SubscriptionExists):
            await self.subscribe(
                outbox, self.subscription(clock), self.subscription(clock, KEY._replace(owner="another"))
            )

        assert list(await outbox.subscriptions()) == []

    async def test_a_batch_that_is_refused_harms_none_that_is_put_at_the_same_time(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock), self.subscription(clock, TAKEN))
        deliveries = [self.delivery(clock) for _ in range(6)]
        notification = self.notification(clock)
        refused: list[UUID] = []

        async def put(number: int) -> None:
            delivery = deliveries[number]
            batch = Batch([delivery], notify=[notification] if number == 1 else ())
            if number % 2 == 0:
                batch = Batch([delivery], subscribe=[self._refused(clock)])
            try:
                await outbox.put(batch)
            except SubscriptionExists:
                refused.append(delivery.id)

        async with anyio.create_task_group() as tasks:
            for number in range(len(deliveries)):
                tasks.start_soon(put, number)

        assert set(refused) == {delivery.id for delivery in deliveries[::2]}
        assert ids(await self.claim(outbox)) == {notification.id, *(delivery.id for delivery in deliveries[1::2])}

    async def test_a_batch_that_is_put_again_sends_nothing_again(self, outbox: Engine, clock: VirtualClock) -> None:
        """Whoever was not told whether it is stored puts it again."""
        delivery, notification = self.delivery(clock, dedupe="key"), self.notification(clock)
        batch = Batch([delivery], subscribe=[self.subscription(clock)], notify=[notification], end=[KEY])
        await outbox.put(batch)
        await self.settle_all(outbox, clock)

        report = await outbox.put(batch)

        assert [*report.stored, *report.duplicates, *report.unsubscribed] == []
        assert list(await self.claim(outbox)) == []
        assert list(await outbox.subscriptions()) == []

    async def test_batches_put_at_the_same_time_are_each_told_of_their_own(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        batches = [[self.delivery(clock) for _ in range(count)] for count in (1, 0, 3, 2)]
        told: dict[int, list[UUID]] = {}

        async def put(number: int) -> None:
            told[number] = list((await outbox.put(Batch(batches[number]))).stored)

        async with anyio.create_task_group() as tasks:
            for number in range(len(batches)):
                tasks.start_soon(put, number)

        assert told == {number: [one.id for one in batch] for number, batch in enumerate(batches)}

    async def test_a_put_whose_caller_is_cancelled_is_stored_all_the_same(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        deliveries = [self.delivery(clock) for _ in TURNS]

        for turns, delivery in zip(TURNS, deliveries, strict=True):
            await _cancelled(partial(self.put, outbox, delivery), turns)

        assert await self._claimed(outbox, len(deliveries)) == {delivery.id for delivery in deliveries}

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_a_put_whose_task_asyncio_itself_cancels_is_stored_all_the_same(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        """A server that cancels a request asks no shield of a library's."""
        deliveries = [self.delivery(clock) for _ in TURNS]

        for turns, delivery in zip(TURNS, deliveries, strict=True):
            await _cancelled_natively(partial(self.put, outbox, delivery), turns)

        assert await self._claimed(outbox, len(deliveries)) == {delivery.id for delivery in deliveries}

    async def test_who_gives_up_harms_none_that_puts_at_the_same_time(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        deliveries = [self.delivery(clock) for _ in range(8)]

        async with anyio.create_task_group() as tasks:
            for number, delivery in enumerate(deliveries):
                put = partial(self.put, outbox, delivery)
                if number % 2:
                    tasks.start_soon(put)
                else:
                    tasks.start_soon(_cancelled, put, number // 2)

        assert await self._claimed(outbox, len(deliveries)) == {delivery.id for delivery in deliveries}

    async def _claimed(self, outbox: Engine, count: int) -> set[UUID]:
        claimed: set[UUID] = set()
        with anyio.fail_after(30):
            while len(claimed) < count:
                claims = await self.claim(outbox)
                claimed |= ids(claims)
                if not claims:
                    await outbox.wait(timedelta(hours=1))
        return claimed

    def _refused(self, clock: VirtualClock) -> Subscription:
        return self.subscription(clock, TAKEN._replace(owner="mallory"))


async def _cancelled(act: Callable[[], Awaitable[object]], turns: int) -> None:
    """Begin something, and give up on it after so many turns of the event loop."""
    async with anyio.create_task_group() as tasks:
        asked = anyio.Event()
        tasks.start_soon(_act, act, asked)
        await _pass(asked, turns)
        tasks.cancel_scope.cancel()


async def _cancelled_natively(act: Callable[[], Awaitable[object]], turns: int) -> None:
    asked = anyio.Event()
    task = asyncio.get_running_loop().create_task(_act(act, asked))
    await _pass(asked, turns)
    task.cancel()
    await asyncio.wait([task])


async def _act(act: Callable[[], Awaitable[object]], asked: anyio.Event) -> None:
    asked.set()
    await act()


async def _pass(asked: anyio.Event, turns: int) -> None:
    await asked.wait()
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()

"""What ``replay`` promises operators: a new run of the same delivery."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from callback_middleware.delivery import Dead, Delivered, Retry
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import Event, IllegalTransition, State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, KEY, LEASE, THERE, Engine, OutboxSetting, ids
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class ReplayContract(OutboxSetting):
    @pytest.mark.parametrize("state", [State.DELIVERED, State.DEAD, State.CANCELLED])
    async def test_what_has_ended_begins_a_new_run(self, outbox: Engine, clock: VirtualClock, state: State) -> None:
        ended = await self.in_state(outbox, clock, state)

        replayed = await outbox.replay(ended.id)
        claim = await self.claim_one(outbox)

        assert replayed == replace(
            ended, state=State.PENDING, due_at=replayed.due_at, run=2, attempts=0, reason="", expires_at=None
        )
        assert (claim.delivery.id, claim.delivery.run, claim.attempt) == (ended.id, 2, 1)
        assert (await outbox.counts())[state] == 0

    async def test_replaying_returns_it_as_it_stands(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = await self.in_state(outbox, clock, State.DEAD)

        assert await outbox.replay(ended.id) == await outbox.get(ended.id)

    async def test_every_run_is_one_more_and_is_retried_as_the_first(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = await self.in_state(outbox, clock, State.DEAD)
        numbers = []

        for _ in range(2):
            await outbox.replay(ended.id)
            for verdict in (Retry(MINUTE, "was down"), Dead("gave up")):
                claim = await self.claim_one(outbox)
                attempt = self.attempt(claim, clock.now(), 503)
                numbers.append((attempt.run, attempt.number))
                await self.settle(outbox, claim, verdict, attempt)
                await self.let_pass(outbox, clock, MINUTE)

        assert numbers == [(2, 1), (2, 2), (3, 1), (3, 2)]
        attempts = await outbox.attempts(ended.id)
        assert [(one.run, one.number) for one in attempts] == [(1, 1), *numbers]
        delivery = await outbox.get(ended.id)
        assert (delivery.run, delivery.attempts, delivery.reason) == (3, 2, "gave up")

    async def test_a_new_run_expires_anew(self, outbox: Engine, clock: VirtualClock) -> None:
        policy = RetryPolicy.fixed(60, max_age=DAY + timedelta(microseconds=1))
        delivery = self.delivery(clock, retry=policy, expires_at=clock.now() + DAY)
        await self.put_and_end(outbox, clock, delivery, verdict=Dead("expired"))
        await self.let_pass(outbox, clock, 2 * DAY)

        replayed = await outbox.replay(delivery.id)
        claim = await self.claim_one(outbox)

        assert replayed.expires_at == replayed.due_at + DAY + timedelta(microseconds=1)
        assert replayed.due_at > delivery.due_at + DAY
        assert claim.delivery.expires_at == replayed.expires_at

    async def test_fences_go_on_rising(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        numbers = []
        for _ in range(3):
            claim = await self.claim_one(outbox)
            numbers.append(claim.fence.number)
            await self.deliver(outbox, claim, clock.now())
            await outbox.replay(claim.delivery.id)

        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize("how", ["while it waits", "while it is sent", "when it has ended"])
    async def test_a_late_result_of_an_earlier_run_is_kept_and_changes_nothing(
        self, outbox: Engine, clock: VirtualClock, how: str
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        stalled = await self.claim_one(outbox)
        late = self.attempt(stalled, clock.now())
        await self.let_pass(outbox, clock, timedelta(seconds=1))
        await outbox.cancel(stalled.delivery.id)
        await outbox.replay(stalled.delivery.id)
        made = []
        if how != "while it waits":
            claim = await self.claim_one(outbox)
            if how == "when it has ended":
                made.append(self.attempt(claim, clock.now(), 410))
                await self.settle(outbox, claim, Dead("told so"), made[0])
        before = await outbox.get(stalled.delivery.id)

        applied = await self.settle(outbox, stalled, Delivered(), late)

        assert applied == frozenset()
        assert await outbox.extend([stalled], LEASE) == frozenset()
        assert await outbox.get(before.id) == before
        assert list(await outbox.attempts(before.id)) == [late, *made]

    async def test_a_new_run_is_suspected_of_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        killer = self.delivery(clock)
        await self.put(outbox, killer)
        for _ in range(SUSPICIONS):
            await self.claim_one(outbox)
            await self.let_pass(outbox, clock, LEASE)
        assert list(await self.claim(outbox)) == []
        assert (await outbox.get(killer.id)).reason == KILLED_ITS_WORKER.reason

        await outbox.replay(killer.id)
        other = self.delivery(clock)
        await self.put(outbox, other)

        assert ids(await self.claim(outbox)) == {killer.id, other.id}

    @pytest.mark.parametrize("state", [State.PENDING, State.SENDING])
    async def test_what_is_still_to_be_delivered_is_not_replayed(
        self, outbox: Engine, clock: VirtualClock, state: State
    ) -> None:
        delivery = await self.in_state(outbox, clock, state)

        with pytest.raises(IllegalTransition) as refused:
            await outbox.replay(delivery.id)

        assert (refused.value.state, refused.value.event) == (state, Event.REPLAY)
        assert await outbox.get(delivery.id) == delivery

    async def test_what_nobody_put_cannot_be_replayed(self, outbox: Engine, clock: VirtualClock) -> None:
        with pytest.raises(DeliveryNotFound):
            await outbox.replay(self.delivery(clock).id)

    async def test_replayed_several_times_at_once_it_is_one_new_run(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = await self.in_state(outbox, clock, State.DEAD)
        runs, refused = [], []

        async def replay() -> None:
            try:
                runs.append((await outbox.replay(ended.id)).run)
            except IllegalTransition as error:
                refused.append(error.event)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(replay)

        assert (runs, refused) == ([2], [Event.REPLAY] * 3)
        assert len(await self.claim(outbox)) == 1

    async def test_a_replay_ends_the_wait_for_it(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = await self.in_state(outbox, clock, State.DEAD)

        claim = await self.claim_meanwhile(outbox, lambda: outbox.replay(ended.id))

        assert claim.delivery.id == ended.id

    async def test_a_replay_asks_no_dedupe_key_and_frees_none(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock, dedupe="key")
        await self.put_and_end(outbox, clock, delivery)

        await outbox.replay(delivery.id)
        await self.put(outbox, self.delivery(clock, dedupe="key"))

        assert ids(await self.claim(outbox)) == {delivery.id}

    async def test_a_replayed_notification_goes_where_it_went_and_ends_no_later_subscription(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock, origin=HERE))
        notification = self.notification(clock)
        await self.notify(outbox, notification)
        await self.settle_all(outbox, clock, Dead("gone", gone=True))
        await self.subscribe(outbox, self.subscription(clock, origin=THERE))

        await outbox.replay(notification.id)
        claim = await self.claim_one(outbox)
        await self.settle(outbox, claim, Dead("gone", gone=True), self.attempt(claim, clock.now(), 410))

        assert claim.delivery.origin == HERE
        assert [(one.key, one.origin) for one in await outbox.subscriptions()] == [(KEY, THERE)]

    async def test_a_known_id_that_was_replayed_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put_and_end(outbox, clock, delivery)
        replayed = await outbox.replay(delivery.id)

        await self.put(outbox, delivery)

        assert await outbox.get(delivery.id) == replayed
        assert len(await self.claim(outbox)) == 1

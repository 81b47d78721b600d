"""What ``cancel`` promises operators: no more attempts, and nothing that was under way counts."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Verdict
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import Event, IllegalTransition, State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, LEASE, THERE, Engine, OutboxSetting, ids

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class CancelContract(OutboxSetting):
    async def test_what_was_cancelled_is_never_claimed(self, outbox: Engine, clock: VirtualClock) -> None:
        due, parked, other = self.delivery(clock), self.delivery(clock, due_in=MINUTE), self.delivery(clock)
        await self.put(outbox, due, parked, other)

        for delivery in (due, parked):
            await outbox.cancel(delivery.id)
        await self.let_pass(outbox, clock, MINUTE)

        assert ids(await self.claim(outbox)) == {other.id}
        assert dict(await outbox.counts()) == {**dict.fromkeys(State, 0), State.CANCELLED: 2, State.SENDING: 1}

    async def test_cancelling_returns_it_as_it_stands(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock, retry=RetryPolicy.fixed(60, 600))
        await self.put(outbox, delivery)
        claim = await self.claim_one(outbox)
        await self.settle(outbox, claim, Retry(MINUTE, "was down"), self.attempt(claim, clock.now(), 503))

        cancelled = await outbox.cancel(delivery.id)

        assert cancelled == await outbox.get(delivery.id)
        assert (cancelled.state, cancelled.run, cancelled.attempts, cancelled.reason) == (
            *(State.CANCELLED, 1, 1),
            "was down",
        )
        assert len(await outbox.attempts(delivery.id)) == 1

    async def test_who_holds_a_claim_on_it_holds_it_no_longer(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        await outbox.cancel(claim.delivery.id)

        assert await outbox.extend([claim], LEASE) == frozenset()
        await self.let_pass(outbox, clock, 2 * LEASE)
        assert list(await self.claim(outbox)) == []

    @pytest.mark.parametrize(
        "verdict", [Delivered(), Dead("gone", gone=True), Retry(timedelta(), "was down"), Released()], ids=repr
    )
    async def test_its_attempt_that_was_under_way_is_kept_and_changes_nothing(
        self, outbox: Engine, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        claim = await self.claim_one(outbox)
        cancelled = await outbox.cancel(claim.delivery.id)
        attempt = self.attempt(claim, clock.now())

        applied = await self.settle(outbox, claim, verdict, attempt)

        assert applied == frozenset()
        assert await outbox.get(cancelled.id) == cancelled
        assert list(await outbox.attempts(cancelled.id)) == [attempt]
        assert list(await self.claim(outbox)) == []
        assert len(await outbox.subscriptions()) == 1

    async def test_a_delivery_whose_lease_ended_can_be_cancelled(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)

        await outbox.cancel(claim.delivery.id)

        assert list(await self.claim(outbox)) == []
        assert await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now())) == frozenset()

    async def test_a_suspect_that_was_cancelled_lets_the_next_one_go(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock, origin=origin) for origin in (HERE, THERE, THERE)))
        suspects = ids(await self.claim(outbox))
        await self.let_pass(outbox, clock, LEASE)
        leased = await self.claim_one(outbox)
        assert list(await self.claim(outbox)) == []

        await outbox.cancel(leased.delivery.id)
        second = await self.claim_one(outbox)
        (third,) = suspects - ids([leased, second])
        await outbox.cancel(third)
        await self.deliver(outbox, second, clock.now())

        assert list(await self.claim(outbox)) == []
        assert dict(await outbox.counts()) == {**dict.fromkeys(State, 0), State.CANCELLED: 2, State.DELIVERED: 1}

    @pytest.mark.parametrize("state", [State.DELIVERED, State.DEAD, State.CANCELLED])
    async def test_what_has_ended_cannot_be_cancelled(self, outbox: Engine, clock: VirtualClock, state: State) -> None:
        ended = await self.in_state(outbox, clock, state)

        with pytest.raises(IllegalTransition) as refused:
            await outbox.cancel(ended.id)

        assert (refused.value.state, refused.value.event) == (state, Event.CANCEL)
        assert await outbox.get(ended.id) == ended

    async def test_what_nobody_put_cannot_be_cancelled(self, outbox: Engine, clock: VirtualClock) -> None:
        with pytest.raises(DeliveryNotFound):
            await outbox.cancel(self.delivery(clock).id)

    async def test_cancelled_or_delivered_at_the_same_time_it_is_one_of_them(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(6)))
        claims = await self.claim(outbox)
        seen: dict[UUID, list[State]] = {id_: [] for id_ in ids(claims)}
        refused: list[State] = []

        async def cancel(delivery: Delivery) -> None:
            try:
                seen[delivery.id].append((await outbox.cancel(delivery.id)).state)
            except IllegalTransition as error:
                refused.append(error.state)

        async def deliver(number: int) -> None:
            claim = claims[number]
            if await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now())):
                seen[claim.delivery.id].append(State.DELIVERED)

        async with anyio.create_task_group() as tasks:
            for number, claim in enumerate(claims):
                for _ in range(number % 2):
                    tasks.start_soon(deliver, number)
                tasks.start_soon(cancel, claim.delivery)
                if number % 2 == 0:
                    tasks.start_soon(deliver, number)

        for claim in claims:
            assert seen[claim.delivery.id] == [(await outbox.get(claim.delivery.id)).state]
        assert set(refused) <= {State.DELIVERED}

"""What ``settle`` promises: a result for whoever owns the claim, and for nobody else."""
# ruff: noqa: S101, PLR2004 - asserting is what a contract does, and a number beside its assertion needs no name

from __future__ import annotations

from datetime import timedelta

from callback_middleware.delivery import Dead, Delivered, Released, Retry, Settlement
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, LEASE, MOMENT, Engine, OutboxSetting

MINUTE = timedelta(minutes=1)


class SettleContract(OutboxSetting):
    async def test_delivered_is_the_end(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = self.attempt(claim, clock.now())

        applied = await self.settle(outbox, claim, Delivered(), attempt)
        await self.let_pass(outbox, clock, LEASE * 2)

        assert applied == {claim.fence}
        assert list(await self.claim(outbox)) == []
        delivery = await outbox.get(claim.delivery.id)
        assert (delivery.state, delivery.attempts) == (State.DELIVERED, 1)
        assert list(await outbox.attempts(delivery.id)) == [attempt]

    async def test_dead_is_the_end_and_says_why(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        await self.settle(outbox, claim, Dead("told so"), self.attempt(claim, clock.now(), 410))
        await self.let_pass(outbox, clock, LEASE * 2)

        assert list(await self.claim(outbox)) == []
        delivery = await outbox.get(claim.delivery.id)
        assert (delivery.state, delivery.reason, delivery.attempts) == (State.DEAD, "told so", 1)

    async def test_dead_without_an_attempt_charges_none(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        await self.settle(outbox, claim, Dead("expired"))

        delivery = await outbox.get(claim.delivery.id)
        assert (delivery.state, delivery.attempts) == (State.DEAD, 0)

    async def test_a_retry_is_due_after_its_wait_and_not_before(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        await self.settle(outbox, claim, Retry(MINUTE, "was down"), self.attempt(claim, clock.now(), 503))
        waiting = await outbox.get(claim.delivery.id)
        await self.let_pass(outbox, clock, MINUTE - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        again = await self.claim_one(outbox)

        assert (waiting.state, waiting.attempts, waiting.reason) == (State.PENDING, 1, "was down")
        assert list(early) == []
        assert again.attempt == 2

    async def test_attempts_are_kept_in_their_order(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        attempts = []
        for status in (500, 503, 200):
            claim = await self.claim_one(outbox)
            attempts.append(self.attempt(claim, clock.now(), status))
            await self.settle(outbox, claim, Retry(MINUTE) if status >= 500 else Delivered(), attempts[-1])
            await self.let_pass(outbox, clock, MINUTE)

        assert list(await outbox.attempts(attempts[0].delivery)) == attempts
        assert [attempt.number for attempt in attempts] == [1, 2, 3]

    async def test_a_release_charges_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        applied = await self.settle(outbox, claim, Released())
        again = await self.claim_one(outbox)

        assert applied == {claim.fence}
        assert again.attempt == 1
        assert list(await outbox.attempts(claim.delivery.id)) == []

    async def test_a_release_may_name_a_wait(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))

        await self.settle(outbox, await self.claim_one(outbox), Released(MINUTE))
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MINUTE)
        due = await self.claim(outbox)

        assert (len(early), len(due)) == (0, 1)

    async def test_several_are_settled_together(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(3)))
        claims = await self.claim(outbox)

        applied = await outbox.settle(
            [Settlement(claim.fence, Delivered(), self.attempt(claim, clock.now())) for claim in claims]
        )

        assert applied == {claim.fence for claim in claims}
        assert (await outbox.counts())[State.DELIVERED] == 3

    async def test_nothing_to_settle_settles_nothing(self, outbox: Engine) -> None:
        assert await outbox.settle([]) == frozenset()

    async def test_a_late_result_applies_while_nobody_else_claimed(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE * 2)

        applied = await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now()))

        assert applied == {claim.fence}
        assert list(await self.claim(outbox)) == []

    async def test_a_late_result_applies_where_the_next_claim_had_no_room(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        assert list(await self.claim(outbox, per_origin=1, busy={HERE: 1})) == []

        applied = await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now()))

        assert applied == {claim.fence}
        assert list(await self.claim(outbox)) == []
        assert (await outbox.get(claim.delivery.id)).state is State.DELIVERED

    async def test_a_late_result_applies_to_a_suspect_that_waits(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        claims = await self.claim(outbox)
        await self.let_pass(outbox, clock, LEASE)
        successor = await self.claim_one(outbox)
        assert list(await self.claim(outbox)) == []
        (waiting,) = (claim for claim in claims if claim.delivery.id != successor.delivery.id)

        applied = await self.settle(outbox, waiting, Delivered(), self.attempt(waiting, clock.now()))
        await self.deliver(outbox, successor, clock.now())

        assert applied == {waiting.fence}
        assert list(await self.claim(outbox)) == []
        assert (await outbox.counts())[State.DELIVERED] == 2

    async def test_a_late_result_of_a_lost_claim_is_kept_as_an_attempt_and_nothing_else(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        stalled = await self.claim_one(outbox)
        early = self.attempt(stalled, clock.now(), 500)
        await self.let_pass(outbox, clock, LEASE)
        successor = await self.claim_one(outbox)

        applied = await self.settle(outbox, stalled, Dead("late"), early)

        assert applied == frozenset()
        assert (await outbox.get(successor.delivery.id)).state is State.SENDING
        assert (await outbox.get(successor.delivery.id)).attempts == 0
        assert list(await outbox.attempts(successor.delivery.id)) == [early]

    async def test_two_attempts_that_look_alike_are_two(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        stalled = await self.claim_one(outbox)
        attempt = self.attempt(stalled, clock.now())
        await self.let_pass(outbox, clock, LEASE)
        successor = await self.claim_one(outbox)

        await self.settle(outbox, successor, Delivered(), attempt)
        await self.settle(outbox, stalled, Delivered(), attempt)

        assert list(await outbox.attempts(attempt.delivery)) == [attempt, attempt]

    async def test_a_run_has_one_terminal_result(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        stalled = await self.claim_one(outbox)
        early = self.attempt(stalled, clock.now())
        await self.let_pass(outbox, clock, LEASE)
        successor = await self.claim_one(outbox)
        late = self.attempt(successor, clock.now(), 410)
        await self.settle(outbox, successor, Dead("gone"), late)

        applied = await self.settle(outbox, stalled, Delivered(), early)

        assert applied == frozenset()
        assert (await outbox.get(successor.delivery.id)).state is State.DEAD
        assert list(await outbox.attempts(successor.delivery.id)) == [early, late]

    async def test_who_settles_again_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        """A worker that was not told whether its settlement applied sends it again."""
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = self.attempt(claim, clock.now(), 503)
        await self.settle(outbox, claim, Retry(MINUTE), attempt)

        applied = await self.settle(outbox, claim, Retry(MINUTE), attempt)

        assert applied == frozenset()
        assert (await outbox.get(claim.delivery.id)).attempts == 1
        assert list(await outbox.attempts(claim.delivery.id)) == [attempt]

    async def test_of_what_is_told_twice_in_one_call_the_first_counts(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(2)))
        claims = await self.claim(outbox)
        delivered = [Settlement(claim.fence, Delivered(), self.attempt(claim, clock.now())) for claim in claims]
        failed = [Settlement(claim.fence, Retry(timedelta(), "was down")) for claim in claims]

        applied = await outbox.settle([delivered[0], failed[1], failed[0], delivered[1]])

        assert applied == {claim.fence for claim in claims}
        states = [(await outbox.get(claim.delivery.id)).state for claim in claims]
        assert states == [State.DELIVERED, State.PENDING]

    async def test_some_are_settled_where_others_were_claimed_again(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        stalled = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE * 2)
        successor = await self.claim_one(outbox)
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        applied = await outbox.settle([Settlement(one.fence, Delivered()) for one in (stalled, claim)])

        assert applied == {claim.fence}
        assert (await outbox.get(successor.delivery.id)).state is State.SENDING

    async def test_a_retry_without_a_wait_is_due_at_once(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        await self.settle(outbox, claim, Retry(timedelta()), self.attempt(claim, clock.now(), 503))

        assert (await self.claim_one(outbox)).attempt == 2

    async def test_a_retry_that_is_due_at_once_ends_the_wait_for_it(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = self.attempt(claim, clock.now(), 503)

        again = await self.claim_meanwhile(outbox, lambda: self.settle(outbox, claim, Retry(timedelta()), attempt))

        assert again.attempt == 2

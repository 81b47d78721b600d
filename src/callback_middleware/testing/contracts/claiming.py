"""What ``claim`` and ``extend`` promise: who gets what, and until when."""
# ruff: noqa: S101, PLR2004 - asserting is what a contract does, and a number beside its assertion needs no name

from __future__ import annotations

from datetime import timedelta

import anyio

from callback_middleware.delivery import Claim, Delivered, Released, Retry
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import (
    ELSEWHERE,
    HERE,
    LEASE,
    MOMENT,
    THERE,
    Engine,
    OutboxSetting,
    ids,
    origins,
)
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

MINUTE = timedelta(minutes=1)


class ClaimContract(OutboxSetting):
    async def test_a_claim_is_one_workers(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))

        claim = await self.claim_one(outbox)

        assert claim.attempt == 1
        assert claim.fence.delivery == claim.delivery.id
        assert claim.delivery.state is State.SENDING
        assert (await outbox.get(claim.delivery.id)).state is State.SENDING
        assert list(await self.claim(outbox)) == []

    async def test_nothing_is_claimed_before_it_is_due(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock, due_in=MINUTE))

        await self.let_pass(outbox, clock, MINUTE - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        due = await self.claim(outbox)

        assert (len(early), len(due)) == (0, 1)

    async def test_no_more_is_claimed_than_asked_for(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(5)))

        assert len(await self.claim(outbox, 2)) == 2
        assert len(await self.claim(outbox, 100)) == 3

    async def test_workers_that_claim_at_the_same_time_share_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(30)))
        claims: list[Claim] = []

        async def worker() -> None:
            while mine := await self.claim(outbox, 4):
                claims.extend(mine)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(worker)

        assert (len(claims), len(ids(claims))) == (30, 30)

    async def test_of_one_origin_what_was_due_first_is_claimed_first(self, outbox: Engine, clock: VirtualClock) -> None:
        dues = [timedelta(seconds=seconds) for seconds in (3, 1, 2)]
        await self.put(outbox, *(self.delivery(clock, due_in=due, tags={"due": str(due)}) for due in dues))
        await self.let_pass(outbox, clock, MINUTE)

        claimed = [(await self.claim(outbox, 1))[0].delivery.tags["due"] for _ in dues]

        assert claimed == [str(due) for due in sorted(dues)]

    async def test_origins_take_turns(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock, origin=HERE) for _ in range(10)))
        await self.let_pass(outbox, clock, MOMENT)
        await self.put(outbox, self.delivery(clock, origin=THERE), self.delivery(clock, origin=ELSEWHERE))

        assert sorted(origins(await self.claim(outbox, 3))) == sorted([HERE, THERE, ELSEWHERE])

    async def test_origins_take_turns_across_calls(self, outbox: Engine, clock: VirtualClock) -> None:
        for origin in (HERE, THERE, ELSEWHERE):
            await self.put(outbox, *(self.delivery(clock, origin=origin) for _ in range(3)))

        rounds = [[(await self.claim(outbox, 1))[0].delivery.origin for _ in range(3)] for _ in range(3)]

        assert [sorted(one) for one in rounds] == [sorted([HERE, THERE, ELSEWHERE])] * 3

    async def test_of_one_origin_no_more_is_claimed_than_allowed(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock, origin=HERE) for _ in range(5)))
        await self.put(outbox, *(self.delivery(clock, origin=THERE) for _ in range(5)))

        claimed = origins(await self.claim(outbox, per_origin=2))

        assert sorted(claimed) == sorted([HERE, HERE, THERE, THERE])

    async def test_what_the_caller_has_in_flight_counts(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock, origin=HERE) for _ in range(5)))
        await self.put(outbox, *(self.delivery(clock, origin=THERE) for _ in range(5)))

        claimed = origins(await self.claim(outbox, per_origin=3, busy={HERE: 3, THERE: 1}))

        assert claimed == [THERE, THERE]

    async def test_who_was_left_out_is_claimed_when_there_is_room(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))

        full = await self.claim(outbox, per_origin=1, busy={HERE: 1})
        free = await self.claim(outbox, per_origin=1, busy={})

        assert (len(full), len(free)) == (0, 1)

    async def test_a_lease_that_ended_makes_it_due_again_under_a_higher_fence(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        first = await self.claim_one(outbox)

        await self.let_pass(outbox, clock, LEASE - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        second = await self.claim_one(outbox)

        assert list(early) == []
        assert second.fence.number > first.fence.number
        assert second.attempt == 1

    async def test_the_fence_rises_at_every_claim(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        first = await self.claim_one(outbox)
        await self.settle(outbox, first, Retry(timedelta()), self.attempt(first, clock.now(), 500))

        second = await self.claim_one(outbox)

        assert second.fence.number > first.fence.number


class ExtendContract(OutboxSetting):
    async def test_an_extended_lease_ends_later(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE / 2)

        owned = await outbox.extend([claim], LEASE)
        await self.let_pass(outbox, clock, LEASE - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        late = await self.claim(outbox)

        assert owned == {claim.fence}
        assert (len(early), len(late)) == (0, 1)

    async def test_what_is_no_longer_owned_is_not_extended(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        taken, settled = await self.claim(outbox)
        await self.settle(outbox, settled, Delivered(), self.attempt(settled, clock.now()))
        await self.let_pass(outbox, clock, LEASE)
        successor = await self.claim_one(outbox)

        assert await outbox.extend([taken, settled, successor], LEASE) == {successor.fence}

    async def test_a_lease_that_ended_unnoticed_can_be_extended(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)

        assert await outbox.extend([claim], LEASE) == {claim.fence}
        assert list(await self.claim(outbox)) == []


class SuspectContract(OutboxSetting):
    """A delivery whose lease ended may have killed its worker."""

    async def test_a_suspect_is_claimed_alone(self, outbox: Engine, clock: VirtualClock) -> None:
        suspect = self.delivery(clock)
        await self.put(outbox, suspect)
        await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        await self.put(outbox, self.delivery(clock), self.delivery(clock, origin=THERE))

        calls = [ids(await self.claim(outbox)) for _ in range(3)]

        assert sorted(map(len, calls)) == [0, 1, 2]
        assert {suspect.id} in calls

    async def test_no_two_suspects_are_leased_at_once(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock, origin=THERE))
        await self.claim(outbox)
        await self.let_pass(outbox, clock, LEASE)

        first = await self.claim(outbox)
        meanwhile = await self.claim(outbox)
        await self.settle(outbox, first[0], Delivered(), self.attempt(first[0], clock.now()))
        second = await self.claim(outbox)

        assert (len(first), len(meanwhile), len(second)) == (1, 0, 1)
        assert ids(first).isdisjoint(ids(second))

    async def test_a_suspect_that_waits_for_another_delays_nobody_else(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        await self.claim(outbox)
        await self.let_pass(outbox, clock, LEASE)
        await self.claim(outbox)
        fresh = self.delivery(clock)
        await self.put(outbox, fresh)

        assert ids(await self.claim(outbox)) == {fresh.id}

    async def test_a_suspect_without_room_leaves_its_turn_to_another(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock, origin=HERE), self.delivery(clock, origin=THERE))
        await self.claim(outbox)
        await self.let_pass(outbox, clock, LEASE)
        # Both are known as suspects now, and neither is leased.
        (first,) = await self.claim(outbox)
        await self.settle(outbox, first, Released())
        claimed: list[str] = []
        for full in (HERE, THERE):
            for _ in range(2):
                for claim in await self.claim(outbox, per_origin=1, busy={full: 1}):
                    claimed.append(claim.delivery.origin)
                    await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now()))

        assert claimed == [THERE, HERE]

    async def test_a_suspect_whose_lease_is_extended_late_is_leased_as_one(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        await self.claim(outbox)
        await self.let_pass(outbox, clock, LEASE)
        first = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        assert list(await self.claim(outbox, per_origin=1, busy={HERE: 1})) == []

        owned = await outbox.extend([first], LEASE)

        assert owned == {first.fence}
        assert list(await self.claim(outbox)) == []

    async def test_the_fifth_claim_of_a_suspect_settles_it_dead(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)

        claims = 0
        while await self.claim(outbox):
            claims += 1
            await self.let_pass(outbox, clock, LEASE)

        assert claims == SUSPICIONS
        assert (await outbox.get(delivery.id)).state is State.DEAD
        assert (await outbox.get(delivery.id)).reason == KILLED_ITS_WORKER.reason
        assert (await outbox.get(delivery.id)).attempts == 0

    async def test_a_release_makes_no_suspect(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))

        for _ in range(SUSPICIONS + 1):
            claims = await self.claim(outbox)
            assert len(claims) == 2
            for claim in claims:
                await self.settle(outbox, claim, Released())

    async def test_a_settled_attempt_clears_a_suspect(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        claim = await self.claim_one(outbox)
        await self.settle(outbox, claim, Retry(timedelta()), self.attempt(claim, clock.now(), 500))
        await self.put(outbox, self.delivery(clock))

        assert len(await self.claim(outbox)) == 2

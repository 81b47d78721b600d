"""What ``claim`` promises of a receiver that has never accepted anything."""
# ruff: noqa: S101, PLR2004 - asserting is what a contract does, and a number beside its assertion needs no name

from __future__ import annotations

from datetime import timedelta

import pytest

from callback_middleware.delivery import Claim, Dead, Delivered, Released, Retry, Verdict
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import (
    DELIVERED,
    ELSEWHERE,
    HERE,
    LEASE,
    MOMENT,
    THERE,
    Engine,
    OutboxSetting,
    bounded,
    ids,
    origins,
)

MINUTE = timedelta(minutes=1)


class NewcomerContract(OutboxSetting):
    """Of an origin that has never accepted a delivery at most one is out at a time."""

    async def put_some(self, outbox: Engine, clock: VirtualClock, *to: str, each: int = 3) -> None:
        await self.put(outbox, *(self.delivery(clock, origin=origin) for origin in to for _ in range(each)))

    async def accepted(self, outbox: Engine, clock: VirtualClock, *to: str) -> None:
        """Have these accept something."""
        await self.put_and_end(outbox, clock, *(self.delivery(clock, origin=origin) for origin in to))

    async def end(self, outbox: Engine, clock: VirtualClock, claim: Claim, verdict: Verdict) -> None:
        """Settle it, after an attempt if there was one."""
        attempt = None if isinstance(verdict, Released) else self.attempt(claim, clock.now())
        await self.settle(outbox, claim, verdict, attempt)

    @bounded()
    async def test_of_a_newcomer_one_is_claimed_whatever_is_allowed_of_others(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.accepted(outbox, clock, THERE)
        await self.put_some(outbox, clock, HERE, THERE)

        claims = await self.claim(outbox, per_origin=8)

        assert sorted(origins(claims)) == sorted([HERE, THERE, THERE, THERE])
        assert {(claim.delivery.origin, claim.newcomer) for claim in claims} == {(HERE, True), (THERE, False)}

    @bounded()
    async def test_the_next_one_waits_until_that_is_over(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)
        (first,) = await self.claim(outbox)

        meanwhile = await self.claim(outbox)
        await self.end(outbox, clock, first, Retry(MINUTE, "was down"))
        (second,) = await self.claim(outbox)

        assert list(meanwhile) == []
        assert second.newcomer
        assert first.delivery.id != second.delivery.id

    @bounded()
    @pytest.mark.parametrize("verdict", [Released(MINUTE), Dead("told so"), Retry(MINUTE)])
    async def test_however_it_is_settled_without_success_the_next_is_one_again(
        self, outbox: Engine, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.put_some(outbox, clock, HERE)
        await self.end(outbox, clock, await self.claim_one(outbox), verdict)

        (claim,) = await self.claim(outbox)

        assert claim.newcomer

    @bounded()
    async def test_what_is_cancelled_is_out_no_longer(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)
        first = await self.claim_one(outbox)

        await outbox.cancel(first.delivery.id)

        assert len(await self.claim(outbox)) == 1

    @bounded()
    async def test_its_first_success_makes_it_as_any_other(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE, each=5)
        await self.end(outbox, clock, await self.claim_one(outbox), DELIVERED)

        claims = await self.claim(outbox, per_origin=3)

        assert [claim.newcomer for claim in claims] == [False] * 3

    @bounded()
    async def test_a_success_that_comes_too_late_does_not(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)
        first = await self.claim_one(outbox)
        await outbox.cancel(first.delivery.id)

        await self.end(outbox, clock, first, DELIVERED)

        assert [claim.newcomer for claim in await self.claim(outbox)] == [True]

    @bounded()
    async def test_what_the_caller_has_of_it_counts(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE, THERE)

        assert origins(await self.claim(outbox, per_origin=8, busy={HERE: 1})) == [THERE]

    @bounded()
    async def test_where_nothing_is_allowed_nothing_is_claimed_of_it(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)

        assert list(await self.claim(outbox, per_origin=3, busy={HERE: 3})) == []

    @bounded()
    async def test_a_lease_that_ended_lets_one_go(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)
        await self.claim_one(outbox)

        await self.let_pass(outbox, clock, LEASE - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        late = [len(await self.claim(outbox)) for _ in range(2)]

        assert (len(early), late) == (0, [1, 0])

    @bounded()
    async def test_a_lease_that_is_extended_keeps_the_others_waiting(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)
        claim = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE / 2)
        await outbox.extend([claim], LEASE)

        await self.let_pass(outbox, clock, LEASE - MOMENT)

        assert list(await self.claim(outbox)) == []

    @bounded()
    async def test_a_suspect_of_a_newcomer_is_one_of_it(self, outbox: Engine, clock: VirtualClock) -> None:
        suspect = self.delivery(clock)
        await self.put(outbox, suspect)
        await self.claim_one(outbox)
        await self.put_some(outbox, clock, HERE)
        await self.let_pass(outbox, clock, LEASE)

        calls = [list(await self.claim(outbox)) for _ in range(3)]

        assert sorted(map(len, calls)) == [0, 0, 1]
        assert all(claim.newcomer for call in calls for claim in call)

    @bounded()
    async def test_a_suspect_waits_for_what_is_out_of_its_newcomer(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, THERE, each=1)
        await self.claim_one(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        await self.put_some(outbox, clock, HERE, each=1)
        suspect = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        another = await self.claim_one(outbox)
        await self.put_some(outbox, clock, HERE, each=1)
        fresh = await self.claim_one(outbox)

        await self.end(outbox, clock, another, DELIVERED)
        meanwhile = await self.claim(outbox)
        await self.end(outbox, clock, fresh, Retry(MINUTE))

        assert (another.delivery.origin, fresh.delivery.origin) == (THERE, HERE)
        assert list(meanwhile) == []
        assert (await self.claim_one(outbox)).delivery.id == suspect.delivery.id

    @bounded()
    async def test_newcomers_that_have_one_out_delay_nobody(self, outbox: Engine, clock: VirtualClock) -> None:
        strangers = [f"https://stranger-{number}.example:443" for number in range(30)]
        await self.put_some(outbox, clock, *strangers, each=2)
        assert len(await self.claim(outbox, 30)) == 30
        await self.put_some(outbox, clock, HERE, THERE, ELSEWHERE, each=1)

        # Whoever comes first in turn, and however few are asked for.
        claimed = [claim.delivery.origin for _ in range(3) for claim in await self.claim(outbox, 1)]

        assert sorted(claimed) == sorted([HERE, THERE, ELSEWHERE])
        assert list(await self.claim(outbox, 1)) == []

    @bounded()
    async def test_newcomers_take_turns_with_others(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.accepted(outbox, clock, HERE)
        await self.put_some(outbox, clock, HERE, THERE, ELSEWHERE)

        assert sorted(origins(await self.claim(outbox, 3))) == sorted([HERE, THERE, ELSEWHERE])

    @bounded()
    @pytest.mark.parametrize("verdict", [Delivered(), Retry(MINUTE)])
    async def test_who_waits_for_something_to_claim_hears_when_the_next_may_go(
        self, outbox: Engine, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.put_some(outbox, clock, HERE, each=2)
        first = await self.claim_one(outbox)

        claim = await self.claim_meanwhile(outbox, lambda: self.end(outbox, clock, first, verdict))

        assert claim.delivery.id != first.delivery.id

    @bounded()
    async def test_who_waits_hears_when_one_is_cancelled(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE, each=2)
        first = await self.claim_one(outbox)

        claim = await self.claim_meanwhile(outbox, lambda: outbox.cancel(first.delivery.id))

        assert claim.delivery.id != first.delivery.id

    @bounded(newcomer=None)
    async def test_where_newcomers_are_not_bounded_nobody_is_one(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)

        assert [claim.newcomer for claim in await self.claim(outbox)] == [False] * 3

    async def test_without_bounds_nobody_is_one(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_some(outbox, clock, HERE)

        claims = await self.claim(outbox)

        assert [claim.newcomer for claim in claims] == [False] * 3
        assert len(ids(claims)) == 3

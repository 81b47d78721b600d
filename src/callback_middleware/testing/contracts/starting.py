"""What a start promises: nothing is changed by it, whenever it comes."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import DELIVERED, Engine, OutboxSetting, ids


class StartContract(OutboxSetting):
    async def test_a_start_leaves_a_fresh_outbox_empty(self, outbox: Engine) -> None:
        await outbox.start()

        assert outbox.outage is None
        assert dict(await outbox.counts()) == dict.fromkeys(State, 0)
        assert list(await self.claim(outbox)) == []

    async def test_a_start_of_one_that_is_in_use_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        claimed, waiting = self.delivery(clock), self.delivery(clock)
        await outbox.start()
        await self.put(outbox, claimed)
        claim = await self.claim_one(outbox)
        await self.put(outbox, waiting)

        await outbox.start()

        assert await outbox.get(waiting.id) == waiting
        assert ids(await self.claim(outbox)) == {waiting.id}
        assert await self.settle(outbox, claim, DELIVERED) == {claim.fence}

    async def test_one_that_was_closed_starts_again(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        await outbox.aclose()

        await outbox.start()

        assert ids(await self.claim(outbox)) == {delivery.id}

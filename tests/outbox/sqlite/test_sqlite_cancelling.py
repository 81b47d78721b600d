from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlite_setting import SQLiteSetting, held_up, turns

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Delivery
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock

BACKENDS = ["asyncio", "trio"]


class TestCancelled(SQLiteSetting):
    """What is asked for is done, whoever is cancelled."""

    @pytest.mark.parametrize("after", range(4))
    async def test_the_put_of_a_task_that_is_cancelled_is_stored(
        self, outbox: SQLiteOutbox, clock: VirtualClock, after: int
    ) -> None:
        delivery = self.delivery(clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.put, outbox, delivery)
            await turns(after)
            tasks.cancel_scope.cancel()

        if after:
            assert await self.settled_down(outbox, delivery)

    async def settled_down(self, outbox: SQLiteOutbox, *deliveries: Delivery) -> bool:
        """All are there when the writer has come to them."""
        with anyio.fail_after(30):
            while (await outbox.counts())[State.PENDING] < len(deliveries):
                await outbox.wait(timedelta(hours=1))
        return [(await outbox.get(one.id)).id for one in deliveries] == [one.id for one in deliveries]

    async def test_the_put_of_a_task_that_is_cancelled_in_mid_commit_is_stored(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        with held_up(outbox):
            async with anyio.create_task_group() as tasks:
                for one in (first, second):
                    tasks.start_soon(self.put, outbox, one)
                    await turns(10)
                tasks.cancel_scope.cancel()

        assert await self.settled_down(outbox, first, second)

    @pytest.mark.parametrize("rounds", range(1, 5))
    def test_the_put_of_a_task_that_is_cancelled_natively_is_stored(
        self, path: Path, clock: VirtualClock, rounds: int
    ) -> None:
        outbox, delivery = SQLiteOutbox(path, clock=clock), self.delivery(clock)

        async def main() -> None:
            with held_up(outbox):
                task = asyncio.ensure_future(outbox.put(Batch([delivery])))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await self.settled_down(outbox, delivery)
            await outbox.aclose()

        asyncio.run(main())

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_what_was_put_before_a_loop_is_torn_down_is_stored(
        self, path: Path, clock: VirtualClock, backend: str
    ) -> None:
        """One with the writer, and one that gathers; both of tasks that the end of the loop cancels."""
        outbox = SQLiteOutbox(path, clock=clock)
        first, second = self.delivery(clock), self.delivery(clock)
        over = held_up(outbox)

        async def torn_down() -> None:
            over.__enter__()
            async with anyio.create_task_group() as tasks:
                for one in (first, second):
                    tasks.start_soon(self.put, outbox, one)
                    await turns(10)
                raise KeyboardInterrupt

        with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group, on one of them
            anyio.run(torn_down, backend=backend)
        over.__exit__(None, None, None)

        async def afterwards() -> None:
            assert await self.settled_down(outbox, first, second)
            await outbox.aclose()

        assert "KeyboardInterrupt" in repr(caught.value)
        anyio.run(afterwards, backend=backend)

    async def test_the_claims_of_a_task_that_is_cancelled_are_given_back(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        for _ in range(6):
            with held_up(outbox):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.claim, outbox)
                    await turns(5)
                    tasks.cancel_scope.cancel()

        claimed = await self.claim(outbox)

        assert len(claimed) == 2, "neither is leased, and neither is a suspect"
        assert [claim.attempt for claim in claimed] == [1, 1]

    async def test_a_settlement_of_a_task_that_is_cancelled_applies(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        with held_up(outbox):
            await self.cancelled(lambda: self.deliver(outbox, claim, clock.now()))

        assert (await outbox.get(claim.delivery.id)).state is State.DELIVERED

    async def cancelled(self, act: Callable[[], Awaitable[Any]]) -> None:
        async def run() -> None:
            await act()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await turns(5)
            tasks.cancel_scope.cancel()

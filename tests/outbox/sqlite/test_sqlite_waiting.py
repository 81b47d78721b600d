from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlite_setting import SETTING, SQLiteSetting, held_up

from callback_middleware import SQLiteOutbox
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Dead, Delivered, Released, Retry
from callback_middleware.outbox.sqlite import claims, writer
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def nothing() -> None:
    """Nobody does anything."""


class TestWaiting(SQLiteSetting):
    """Every wait here is for an hour: a test that hangs has slept through its news."""

    async def quiet(self, outbox: SQLiteOutbox) -> None:
        """Nothing is left that was not heard of, of this process or of others."""
        await self.claim(outbox)
        await self.heard_out(outbox)

    async def heard_out(self, outbox: SQLiteOutbox) -> None:
        for _ in range(3):
            await outbox.wait(timedelta(seconds=2 * writer.LOOK))

    async def heard(self, outbox: SQLiteOutbox, act: Callable[[], Awaitable[object]] = nothing) -> None:
        """Wait, and act meanwhile."""
        heard = anyio.Event()

        async def wait() -> None:
            await outbox.wait(HOUR)
            heard.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                # It may have heard at once, and wait no longer.
                while not (heard.is_set() or outbox._session.newsroom.awaited()):
                    await anyio.lowlevel.checkpoint()
                await act()

    async def unheard(self, outbox: SQLiteOutbox, act: Callable[[], Awaitable[object]] = nothing) -> None:
        """Wait and act meanwhile, and go on waiting."""
        await self.quiet(outbox)
        await act()
        # Nothing rings: the bell of this loop was not rung, and that is looked at without waiting.
        await outbox.counts()
        (room,) = outbox._session.newsroom._rooms
        assert not room.bell._rung

    async def test_the_first_wait_returns_at_once_because_nobody_knows_what_was_missed(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))

        await self.heard(outbox)

        assert len(await self.claim(outbox)) == 1

    async def test_a_wait_that_began_before_the_first_put_hears_of_it(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.heard_out(outbox)

        await self.heard(outbox, lambda: self.put(outbox, self.delivery(clock)))

    async def test_what_came_between_two_waits_is_news(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        await self.quiet(outbox)
        await self.put(outbox, self.delivery(clock))

        await self.heard(outbox)

    async def test_a_settlement_that_makes_something_due_is_news(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        for verdict in (Retry(timedelta()), Released()):
            claim = await self.claim_one(outbox)
            await self.quiet(outbox)
            attempt = self.attempt(claim, clock.now(), 500) if isinstance(verdict, Retry) else None
            await self.heard(outbox, lambda: self.settle(outbox, claim, verdict, attempt))  # noqa: B023 - at once

    async def test_a_settlement_that_ends_something_is_none(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock, origin="https://there.example:443"))
        first, second = await self.claim(outbox)

        await self.unheard(outbox, lambda: self.settle(outbox, first, Delivered(), self.attempt(first, clock.now())))
        await self.unheard(outbox, lambda: self.settle(outbox, second, Dead("told so")))

    async def test_what_is_due_later_than_the_waiter_wakes_is_none(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock, due_in=HOUR))
        await self.claim(outbox)
        await self.quiet(outbox)
        (room,) = outbox._session.newsroom._rooms

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(outbox.wait, DAY)
                while not room.waiting:
                    await anyio.lowlevel.checkpoint()
                await self.put(outbox, self.delivery(clock, due_in=2 * HOUR))
                await outbox.counts()
                assert (room.waiting, room.bell._rung) == (1, False)
                await self.put(outbox, self.delivery(clock, due_in=HOUR / 2))

    @pytest.mark.parametrize("what", ["parked", "leased", "retried", "released"])
    async def test_a_wait_ends_when_something_comes_due_by_itself(self, path: Path, what: str) -> None:
        """By the machine's own clock: the wait really lasts so long, and not for the hour that is asked for."""
        soon = timedelta(milliseconds=150)
        clock = SystemClock()
        outbox = SQLiteOutbox(path, clock=clock)
        made = SETTING.delivery(VirtualClock(clock.now()), due_in=soon if what == "parked" else timedelta())
        await self.put(outbox, made)
        if what != "parked":
            (claim,) = await self.claim(outbox, lease=soon)
            if what == "retried":
                await self.settle(outbox, claim, Retry(soon), self.attempt(claim, clock.now(), 500))
            if what == "released":
                await self.settle(outbox, claim, Released(soon))
        claimed: list[Claim] = []

        with anyio.fail_after(30):
            while not claimed:
                claimed += await self.claim(outbox)
                if not claimed:
                    await outbox.wait(HOUR)

        assert [one.delivery.id for one in claimed] == [made.id]
        await outbox.aclose()

    async def test_nobody_spins_where_something_due_was_left(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker without room claims once, and then waits."""
        await self.put(outbox, self.delivery(clock))
        claim, counted = claims.claim, [0]

        def counting(*arguments: object) -> claims.Claimed:
            counted[0] += 1
            return claim(*arguments)  # type: ignore[arg-type]

        await self.claim(outbox, per_origin=1, busy={HERE: 1})
        await self.quiet(outbox)
        monkeypatch.setattr(claims, "claim", counting)
        with anyio.move_on_after(8 * writer.LOOK):
            while True:
                await self.claim(outbox, per_origin=1, busy={HERE: 1})
                await outbox.wait(HOUR)

        # What this process writes is no news from another.
        assert counted[0] <= 2

    async def test_two_workers_without_room_do_not_wake_each_other(
        self, outbox: SQLiteOutbox, path: Path, clock: VirtualClock
    ) -> None:
        another = SQLiteOutbox(path, clock=clock)
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        turns = [0, 0]

        async def work(number: int, mine: SQLiteOutbox) -> None:
            while True:
                turns[number] += 1
                await self.claim(mine, per_origin=1, busy={HERE: 1})
                await mine.wait(HOUR)

        with anyio.move_on_after(10 * writer.LOOK):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, 0, outbox)
                tasks.start_soon(work, 1, another)
        await another.aclose()

        assert max(turns) <= 4

    async def test_claims_that_are_given_back_are_news(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        await self.heard_out(outbox)

        async def claim_and_vanish() -> None:
            with held_up(outbox):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.claim, outbox)
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()

        await self.heard(outbox, claim_and_vanish)

        assert len(await self.claim(outbox)) == 1

    async def test_what_another_process_puts_is_heard_of(
        self, outbox: SQLiteOutbox, path: Path, clock: VirtualClock
    ) -> None:
        """Another outbox on the file is to this one as another process is: it has a connection of its own."""
        another = SQLiteOutbox(path, clock=clock)
        await self.quiet(outbox)

        await self.heard(outbox, lambda: self.put(another, self.delivery(clock)))

        assert len(await self.claim(outbox)) == 1
        await another.aclose()

    async def test_what_another_process_put_before_the_wait_is_heard_of(
        self, outbox: SQLiteOutbox, path: Path, clock: VirtualClock
    ) -> None:
        another = SQLiteOutbox(path, clock=clock)
        await self.quiet(outbox)
        await self.put(another, self.delivery(clock))

        await self.heard(outbox)

        await another.aclose()

    async def test_a_wait_has_others_watched_however_long_nobody_did(
        self, outbox: SQLiteOutbox, path: Path, clock: VirtualClock
    ) -> None:
        """The thread sleeps for a minute when it has nothing to do; who begins to wait wakes it."""
        another = SQLiteOutbox(path, clock=clock)
        await self.quiet(outbox)
        asleep = outbox._session._present()
        with anyio.fail_after(30):
            while not asleep._dozing:
                await anyio.lowlevel.checkpoint()

        await self.heard(outbox, lambda: self.put(another, self.delivery(clock)))

        await another.aclose()

    def test_event_loops_wait_each_for_themselves(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path, clock=clock)
        barrier = threading.Barrier(3)
        claimed: list[Claim] = []

        async def work() -> None:
            await self.quiet(outbox)
            barrier.wait(60)
            with anyio.fail_after(30):
                await outbox.wait(HOUR)
            claimed.extend(await self.claim(outbox))

        async def puts() -> None:
            await self.put(outbox, self.delivery(clock))

        threads = [
            threading.Thread(target=anyio.run, args=(work,), kwargs={"backend": one}) for one in ("asyncio", "trio")
        ]
        for thread in threads:
            thread.start()
        barrier.wait(60)
        anyio.run(puts)
        for thread in threads:
            thread.join()
        anyio.run(outbox.aclose)

        assert len(claimed) == 1

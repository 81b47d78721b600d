from __future__ import annotations

import anyio
import pytest

from callback_middleware.outbox.newsroom import NEVER, Newsroom
from callback_middleware.testing.contracts.setting import MOMENT


class TestNewsroom:
    async def test_news_that_is_later_than_the_wait_lasts_rings_nobody(self) -> None:
        newsroom = Newsroom()
        await newsroom.wait(60, NEVER, begun=int)
        rung: list[bool] = []

        def begun() -> None:
            (room,) = newsroom._rooms
            newsroom.tell(100)
            rung.append(room.bell._rung)
            newsroom.tell(99)
            rung.append(room.bell._rung)

        with anyio.fail_after(30):
            await newsroom.wait(60, 100, begun=begun)

        assert rung == [False, True]

    async def test_who_waits_is_known_as_long_as_it_waits(self) -> None:
        newsroom = Newsroom()
        seen = [newsroom.awaited()]

        await newsroom.wait(0, NEVER, begun=lambda: seen.append(newsroom.awaited()))

        assert [*seen, newsroom.awaited()] == [False, True, False]

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_a_loop_that_is_over_is_forgotten_when_there_is_news_for_it(self, backend: str) -> None:
        newsroom = Newsroom()

        async def hear() -> None:
            await newsroom.wait(60, NEVER, begun=int)
            await newsroom.wait(MOMENT.total_seconds(), NEVER, begun=int)

        anyio.run(hear, backend=backend)
        assert len(newsroom._rooms) == 1
        newsroom.tell_all()

        assert not newsroom._rooms

    async def test_what_came_while_nobody_waited_is_news_whenever_it_is_due(self) -> None:
        newsroom = Newsroom()
        await newsroom.wait(60, NEVER, begun=int)
        await newsroom.wait(MOMENT.total_seconds(), 100, begun=int)
        newsroom.tell(150)

        with anyio.fail_after(30):
            await newsroom.wait(3600, 200, begun=int)

    async def test_a_ring_that_nobody_waited_for_is_kept(self) -> None:
        newsroom = Newsroom()
        await newsroom.wait(60, NEVER, begun=int)
        newsroom.tell(7)

        with anyio.fail_after(30):
            await newsroom.wait(3600, NEVER, begun=int)

    async def test_a_wait_that_is_cancelled_leaves_the_news_for_the_next(self) -> None:
        newsroom = Newsroom()
        await newsroom.wait(60, NEVER, begun=int)

        with anyio.CancelScope() as scope:
            scope.cancel()
            await newsroom.wait(3600, NEVER, begun=newsroom.tell_all)

        with anyio.fail_after(30):
            await newsroom.wait(3600, NEVER, begun=int)

    async def test_what_is_never_due_is_no_news_to_who_knows_of_nothing(self) -> None:
        newsroom = Newsroom()
        await newsroom.wait(60, NEVER, begun=int)

        await newsroom.wait(MOMENT.total_seconds(), NEVER, begun=lambda: newsroom.tell(NEVER))

        (room,) = newsroom._rooms
        assert not room.bell._rung

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlite_setting import SETTING, SQLiteSetting, held_up, stored, turns

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Claim
from callback_middleware.errors import OutboxUnavailable, SubscriptionExists
from callback_middleware.outbox import gathering
from callback_middleware.outbox.gathering import Result
from callback_middleware.outbox.sqlite import desk, session
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, PutReport
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, LEASE

BACKENDS = ["asyncio", "trio"]


class TestGathering(SQLiteSetting):
    @pytest.fixture
    def sizes(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many batches each commit has."""
        sizes: list[int] = []

        def counted(store: Store, batches: Sequence[Batch]) -> Sequence[Result]:
            sizes.append(len(batches))
            return put_all(store, batches)

        monkeypatch.setattr(desk, "put_all", counted)
        return sizes

    async def test_puts_of_one_turn_are_one_commit(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int]
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(self.put, outbox, self.delivery(clock))

        assert sizes == [64]

    async def test_puts_one_after_the_other_are_commits_of_their_own(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int]
    ) -> None:
        for _ in range(3):
            await self.put(outbox, self.delivery(clock))

        assert sizes == [1, 1, 1]

    async def test_a_burst_that_goes_on_is_handed_over_when_it_has_ended(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int], anyio_backend_name: str
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(self.put, outbox, self.delivery(clock))
                await turns(1)

        # On trio a turn of the loop is no turn of every task: a burst may look as if it had ended.
        assert sizes == [10] if anyio_backend_name == "asyncio" else sum(sizes) == 10

    async def test_a_burst_that_never_ends_is_handed_over_all_the_same(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gathering, "MOST_TURNS", 5)
        async with anyio.create_task_group() as tasks:
            with held_up(outbox):
                while outbox._session.desk()._away is None:
                    tasks.start_soon(self.put, outbox, self.delivery(clock))
                    await turns(1)

        assert sizes[0] <= 7

    async def test_what_comes_while_the_writer_is_busy_gathers(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int]
    ) -> None:
        async with anyio.create_task_group() as tasks:
            with held_up(outbox):
                for burst in (5, 3, 4):
                    for _ in range(burst):
                        tasks.start_soon(self.put, outbox, self.delivery(clock))
                    await turns(10)

        assert sizes == [5, 7]

    async def test_two_thousand_at_once_are_a_few_commits(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int], path: Path
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(2000):
                tasks.start_soon(self.put, outbox, self.delivery(clock))

        assert len(sizes) <= 8
        assert sum(sizes) == stored(path) == 2000

    async def test_what_is_wrong_with_one_is_told_to_it_alone(
        self, outbox: SQLiteOutbox, clock: VirtualClock, sizes: list[int]
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        thief = SubscriptionKey(KEY.callback, KEY.key, "mallory")
        batches = [
            Batch([self.delivery(clock)]),
            Batch([self.delivery(clock, tags={"half": "\ud800"})]),
            Batch([self.delivery(clock, deadline=timedelta.max)]),
            Batch(subscribe=[self.subscription(clock, thief)]),
            Batch([self.delivery(clock, due_in=timedelta(days=1)), self.delivery(clock)]),
            Batch([replace(self.delivery(clock), due_at=clock.now().replace(tzinfo=None))]),
        ]
        results: dict[int, PutReport | Exception] = {}

        async def put(number: int, batch: Batch) -> None:
            try:
                results[number] = await outbox.put(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is
                results[number] = error

        async with anyio.create_task_group() as tasks:
            for number, batch in enumerate(batches):
                tasks.start_soon(put, number, batch)

        assert [type(results[number]) for number in range(6)] == [
            *(PutReport, UnicodeEncodeError, OverflowError, SubscriptionExists, PutReport, TypeError)
        ]
        assert sizes == [1, 6]
        assert (await outbox.counts())[State.PENDING] == 3

    async def test_who_waits_for_one_commit_gets_an_error_of_its_own(self, path: Path, clock: VirtualClock) -> None:
        """Or the tracebacks of all would gather in one."""
        outbox = SQLiteOutbox(path.parent / "nowhere" / path.name, clock=clock)
        errors: list[OutboxUnavailable] = []

        async def put() -> None:
            with pytest.raises(OutboxUnavailable) as caught:
                await self.put(outbox, self.delivery(clock))
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(put)
        await outbox.aclose()

        assert len({id(error) for error in errors}) == 3
        assert len({str(error) for error in errors}) == 1

    async def test_where_no_thread_can_be_started_a_put_fails_and_the_next_one_need_not(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch, anyio.fail_after(30):
            patch.setattr(session, "Writer", refuse)
            for _ in range(2):
                with pytest.raises(OutboxUnavailable, match="no thread can be started"):
                    await self.put(outbox, self.delivery(clock))
            with pytest.raises(OutboxUnavailable, match="no thread can be started"):
                await self.claim(outbox)

        await self.put(outbox, self.delivery(clock))
        assert len(await self.claim(outbox)) == 1

    async def test_what_goes_wrong_beyond_every_exception_is_told_and_ends_nothing(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        class Doom(BaseException):
            """Such as what a library written in another language ends a thread with."""

        def doom(store: Store) -> None:
            with store.transaction():
                raise Doom

        with anyio.fail_after(30):
            with pytest.raises(Doom):
                await outbox._session.desk().call(doom)

            await self.put(outbox, self.delivery(clock))


def run_in_threads(*functions: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised again by the test
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error


def test_event_loops_of_several_threads_share_an_outbox(tmp_path: Path) -> None:
    clock = VirtualClock()
    outbox = SQLiteOutbox(tmp_path / "callbacks.db", clock=clock, backlog=None)
    barrier = threading.Barrier(4)
    claimed: list[Claim] = []

    async def work() -> None:
        async def producer() -> None:
            for _ in range(25):
                await SETTING.put(outbox, SETTING.delivery(clock))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(producer)
        claimed.extend(await outbox.claim(100, LEASE, per_origin=100, busy={}))

    def loop(backend: str) -> Callable[[], None]:
        def run() -> None:
            barrier.wait(60)
            anyio.run(work, backend=backend)

        return run

    run_in_threads(*(loop(backend) for backend in BACKENDS * 2))
    claimed.extend(anyio.run(lambda: outbox.claim(1000, LEASE, per_origin=1000, busy={})))
    anyio.run(outbox.aclose)

    assert stored(tmp_path / "callbacks.db") == 400
    assert len({claim.delivery.id for claim in claimed}) == len(claimed) == 400

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlite_setting import HoldUp, SQLiteSetting, held_up, stored

from callback_middleware import SQLiteOutbox
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outbox.sqlite.session import Session
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import ids

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def descriptors(path: Path) -> list[str]:
    """The files of an outbox that this process has open."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            name = str(one.readlink())
        except OSError:
            continue
        if name.startswith(str(path)):
            found.append(name)
    return found


def threads(path: Path) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"outbox {path}"]


class TestClosing(SQLiteSetting):
    @pytest.fixture(autouse=True)
    def nothing_is_left(self, path: Path) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            yield
            gc.collect()
        assert descriptors(path) == []

    async def closed(self, outbox: SQLiteOutbox, path: Path) -> None:
        await outbox.aclose()
        assert await anyio.to_thread.run_sync(descriptors, path) == []
        # The one who closes last leaves nothing but the file.
        assert [one.name async for one in anyio.Path(path.parent).iterdir()] == [path.name]

    async def test_what_is_closed_is_closed_when_it_says_so(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))

        await self.closed(outbox, path)

        assert stored(path) == 1

    async def test_puts_under_way_are_stored_and_do_not_open_it_again(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        """Some with the writer, some that gather, and some whose askers were cancelled."""
        async with anyio.create_task_group() as tasks:
            with held_up(outbox):
                for _ in range(3):
                    tasks.start_soon(self.put, outbox, self.delivery(clock))
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await self.put(outbox, self.delivery(clock))
                tasks.start_soon(outbox.aclose)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()

        assert outbox._session._writer is None
        assert stored(path) == 4

    async def test_it_can_be_closed_twice_and_by_two_at_once(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.aclose)
            tasks.start_soon(outbox.aclose)
        await self.closed(outbox, path)

    async def test_it_can_be_used_again_and_again(self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path) -> None:
        made = [self.delivery(clock) for _ in range(5)]
        for one in made:
            await self.put(outbox, one)
            await self.closed(outbox, path)

        assert ids(await self.claim(outbox)) == {one.id for one in made}

    async def test_what_was_never_used_can_be_closed(self, outbox: SQLiteOutbox, path: Path) -> None:
        await outbox.aclose()

        assert not await anyio.Path(path).exists()

    async def test_what_cannot_be_opened_can_be_closed(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path.parent / "nowhere" / path.name, clock=clock)
        with pytest.raises(OutboxUnavailable):
            await self.put(outbox, self.delivery(clock))

        await outbox.aclose()

        for thread in threads(outbox._path):
            await anyio.to_thread.run_sync(thread.join)
        assert outbox.outage is None

    async def test_who_is_cancelled_while_it_closes_leaves_it_closed(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        with held_up(outbox):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(outbox.aclose)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()

        for thread in threads(path):
            await anyio.to_thread.run_sync(thread.join)
        assert await anyio.to_thread.run_sync(descriptors, path) == []

    def test_nobody_who_asks_while_another_thread_closes_waits_for_ever(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path, clock=clock, backlog=None)
        stop = threading.Event()

        async def close() -> None:
            while not stop.is_set():
                await outbox.aclose()

        async def put() -> None:
            with anyio.fail_after(60):
                for _ in range(100):
                    await self.put(outbox, self.delivery(clock))

        closer = threading.Thread(target=anyio.run, args=(close,))
        closer.start()
        try:
            anyio.run(put)
        finally:
            stop.set()
            closer.join()
        anyio.run(outbox.aclose)

        assert stored(path) == 100

    async def test_what_is_asked_while_the_file_is_being_closed_is_done(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        writer = outbox._session._present()
        late, done = HoldUp(), writer._drop

        def drop() -> None:
            if not late.over.is_set():
                late.over.set()
                assert writer.submit(late)
            done()

        monkeypatch.setattr(writer, "_drop", drop)
        await self.closed(outbox, path)

        assert late.begun.is_set()

    async def test_a_thread_that_has_ended_is_replaced(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock))
        ended = outbox._session._present()
        ended.abandon()
        await anyio.to_thread.run_sync(ended.join, 30)

        with anyio.fail_after(30):
            await self.put(outbox, self.delivery(clock))

        assert outbox._session._present() is not ended


class TestAbandoning(SQLiteSetting):
    """An outbox that nobody refers to any more."""

    def joined(self, path: Path) -> None:
        for thread in threads(path):
            thread.join(30)
        assert threads(path) == []
        assert descriptors(path) == []

    async def test_its_thread_ends_and_its_file_is_closed_while_the_loop_goes_on(
        self, path: Path, clock: VirtualClock
    ) -> None:
        outbox = SQLiteOutbox(path, clock=clock)
        await outbox.wait(timedelta(milliseconds=1))
        await self.put(outbox, self.delivery(clock))
        await self.put_and_end(outbox, clock, self.delivery(clock))
        gone = weakref.ref(outbox)

        del outbox
        gc.collect()

        assert gone() is None
        await anyio.to_thread.run_sync(self.joined, path)

    async def test_what_was_asked_of_it_is_done(self, path: Path, clock: VirtualClock) -> None:
        async def ask_and_vanish() -> None:
            outbox = SQLiteOutbox(path, clock=clock)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await self.put(outbox, self.delivery(clock))

        await ask_and_vanish()
        gc.collect()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(self.joined, path)

        assert stored(path) == 1

    @BACKENDS
    def test_it_may_outlive_its_loop(self, path: Path, clock: VirtualClock, backend: str) -> None:
        outbox = SQLiteOutbox(path, clock=clock)
        for _ in range(3):
            anyio.run(self.put, outbox, self.delivery(clock), backend=backend)

        assert len(threads(path)) == 1
        del outbox
        gc.collect()
        self.joined(path)

    async def test_a_thread_that_is_told_twice_ends_once(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        with held_up(outbox):
            for _ in range(3):
                outbox._session._present().abandon()

        await anyio.to_thread.run_sync(self.joined, path)

    def test_a_file_that_was_closed_is_closed_once(self, path: Path, clock: VirtualClock) -> None:
        outbox = SQLiteOutbox(path, clock=clock)

        async def use() -> None:
            await self.put(outbox, self.delivery(clock))
            await outbox.aclose()

        for _ in range(5):
            anyio.run(use)

        assert isinstance(outbox._session, Session)
        self.joined(path)


PROGRAM = """
import sys, anyio
sys.path.insert(0, {here!r})
from sqlite_setting import SETTING
from callback_middleware import SQLiteOutbox
from callback_middleware.testing import VirtualClock

clock = VirtualClock()
outbox = SQLiteOutbox({path!r}, clock=clock, backlog=None)

async def main():
    await SETTING.put(outbox, SETTING.delivery(clock))
    for _ in range(50):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await SETTING.put(outbox, SETTING.delivery(clock))

anyio.run(main, backend={backend!r})
"""


@BACKENDS
def test_a_process_that_ends_has_stored_what_was_handed_over(tmp_path: Path, backend: str) -> None:
    """Nobody closes the outbox, and nobody waits for the last puts."""
    path = tmp_path / "callbacks.db"
    program = PROGRAM.format(here=str(Path(__file__).parent), path=str(path), backend=backend)

    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert stored(path) == 51
    assert [one.name for one in tmp_path.iterdir()] == ["callbacks.db"]

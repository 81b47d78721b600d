from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import subprocess
import sys
import threading
import weakref

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from callback_middleware.eventloop import Bell, Caller, LoopLocal, spawn

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="none")


async def test_a_spawned_task_runs_beside_its_spawner() -> None:
    done = anyio.Event()

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        done.set()

    spawn(work)

    with anyio.fail_after(30):
        await done.wait()


async def test_a_spawned_task_outlives_the_task_group_it_was_spawned_in() -> None:
    go, done = anyio.Event(), anyio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    async def spawner() -> None:
        spawn(work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spawner)
        tasks.cancel_scope.cancel()
    go.set()

    with anyio.fail_after(30):
        await done.wait()


def test_a_task_may_be_spawned_by_a_callback_of_a_loop_that_anyio_did_not_begin() -> None:
    """As a server's: where its callbacks run there is no task."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            done.set()

        loop.call_soon(spawn, work)
        async with asyncio.timeout(30):
            await done.wait()

    asyncio.run(serve())


async def test_nobody_need_hold_a_spawned_task() -> None:
    class Held:
        """What only the task's own frame refers to."""

    seen: list[weakref.ref[Held]] = []

    async def work() -> None:
        held = Held()
        seen.append(weakref.ref(held))
        # Nothing but the task itself refers to what it waits for.
        await anyio.Event().wait()
        del held

    spawn(work)
    await anyio.wait_all_tasks_blocked()
    gc.collect()

    assert seen[0]() is not None


async def test_a_spawned_task_knows_nothing_of_the_request_that_spawned_it() -> None:
    seen: list[str] = []
    done = anyio.Event()

    async def work() -> None:
        seen.append(REQUEST.get())
        done.set()

    REQUEST.set("secret")
    spawn(work)

    with anyio.fail_after(30):
        await done.wait()
    assert seen == ["none"]


async def test_what_a_spawned_task_raises_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("broken")

    spawn(work)
    await anyio.wait_all_tasks_blocked()

    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "callback_middleware")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


def test_a_spawned_task_ends_with_its_event_loop(anyio_backend: str) -> None:
    ended: list[bool] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def main() -> None:
        spawn(work)
        await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=anyio_backend)

    assert ended == [True]


async def test_a_bell_is_rung_from_any_thread() -> None:
    bell = Bell()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bell.wait)
        await anyio.wait_all_tasks_blocked()
        assert await anyio.to_thread.run_sync(bell.ring)


async def test_a_ring_that_nobody_waits_for_is_kept() -> None:
    bell = Bell()
    bell.ring()

    with anyio.fail_after(30):
        await bell.wait()


async def test_rings_that_nobody_waits_for_are_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    heard: list[bool] = []

    async def listen() -> None:
        await bell.wait()
        heard.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        assert heard == []
        bell.ring()
    assert heard == [True]


async def test_one_ring_wakes_everybody_who_waits_and_the_bell_can_ring_again() -> None:
    bell = Bell()

    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(bell.wait)
            await anyio.wait_all_tasks_blocked()
            bell.ring()


async def test_who_waits_again_at_once_hears_the_next_ring() -> None:
    bell = Bell()

    async def waits_twice() -> None:
        await bell.wait()
        await bell.wait()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(waits_twice)
            for _ in range(2):
                await anyio.wait_all_tasks_blocked()
                bell.ring()


def test_a_bell_of_a_loop_that_is_over_is_silent(anyio_backend: str) -> None:
    bells: list[Bell] = []

    async def main() -> None:
        bells.append(Bell())

    anyio.run(main, backend=anyio_backend)

    assert bells[0].ring() is False


def test_bells_of_several_loops_wake_their_own(anyio_backend: str) -> None:
    bells: list[Bell] = []
    both = threading.Barrier(3)

    async def loop() -> None:
        bell = Bell()
        bells.append(bell)
        await anyio.to_thread.run_sync(both.wait)
        with anyio.fail_after(30):
            await bell.wait()

    threads = [threading.Thread(target=anyio.run, args=(loop,), kwargs={"backend": anyio_backend}) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(30)
    assert [bell.ring() for bell in bells] == [True, True]
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_every_loop_has_a_value_of_its_own(anyio_backend: str) -> None:
    variable: LoopLocal[str] = LoopLocal()
    seen: list[str | None] = []

    async def main(value: str) -> None:
        seen.append(variable.get())
        variable.set(value)
        seen.append(variable.get())

    anyio.run(main, "first", backend=anyio_backend)
    anyio.run(main, "second", backend=anyio_backend)

    assert seen == [None, "first", None, "second"]


async def test_two_variables_of_one_loop_are_two() -> None:
    one: LoopLocal[int] = LoopLocal()
    two: LoopLocal[int] = LoopLocal()

    one.set(1)
    two.set(2)
    two.set(None)

    assert (one.get(), two.get()) == (1, None)


def test_trio_is_not_imported_for_asyncio() -> None:
    program = """
import asyncio, sys
from callback_middleware.eventloop import Bell, Caller, LoopLocal, spawn
async def main():
    bell, done = Bell(), asyncio.Event()
    async def work():
        bell.ring(); done.set()
    LoopLocal().set(1); spawn(work)
    await done.wait(); await bell.wait()
asyncio.run(main())
sys.exit("trio" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: S603 - a program of our own

    assert ended.returncode == 0


def test_it_works_on_an_asyncio_that_anyio_did_not_start() -> None:
    async def main() -> None:
        bell = Bell()

        async def work() -> None:
            bell.ring()

        spawn(work)
        await asyncio.wait_for(bell.wait(), 30)

    asyncio.run(main())


async def test_what_happens_once_wakes_all_who_wait_for_it_but_those_who_gave_up() -> None:
    once = Caller().once()
    woken: list[str] = []
    patience = anyio.CancelScope()

    async def wait(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await once.wait()
            woken.append(name)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "first", anyio.CancelScope())
            tasks.start_soon(wait, "impatient", patience)
            tasks.start_soon(wait, "second", anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
            assert not once.is_set()
            patience.cancel()
            await anyio.wait_all_tasks_blocked()
            once.set()

    assert once.is_set()
    assert sorted(woken) == ["first", "second"]

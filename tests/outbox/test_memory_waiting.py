"""What ends a wait for the outbox in memory, and what does not."""

from __future__ import annotations

import threading
from datetime import timedelta

import anyio
from memory_setting import CLOCK, HERE, HOUR, LEASE, SUBSCRIPTION, THERE, deliver_all, delivery

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Delivered, Settlement
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.testing import VirtualClock


async def still_waiting(outbox: MemoryOutbox) -> bool:
    returned = False

    async def wait() -> None:
        nonlocal returned
        await outbox.wait(HOUR)
        returned = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return not returned


async def test_what_was_due_and_left_is_no_news() -> None:
    """Or a dispatcher that has no room would ask for ever."""
    outbox = MemoryOutbox(clock=VirtualClock())
    await outbox.put(Batch([delivery(1)]))
    await outbox.wait(HOUR)

    assert await outbox.claim(8, LEASE, per_origin=1, busy={HERE: 1}) == []
    assert await still_waiting(outbox)

    await outbox.put(Batch([delivery(2)]))
    assert await still_waiting(outbox), "one more of the same origin changes nothing either"

    await outbox.put(Batch([delivery(3, origin=THERE)]))
    with anyio.fail_after(30):
        await outbox.wait(HOUR)


async def test_what_operators_make_due_is_news_and_nothing_else_is() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    await outbox.put(Batch([delivery(1), delivery(2, due_at=CLOCK.now() + HOUR)], subscribe=[SUBSCRIPTION]))
    await deliver_all(outbox)
    await outbox.wait(HOUR)

    await outbox.replay_all(Selection(), dry_run=True)
    await outbox.cancel(delivery(2).id)
    await outbox.prune(CLOCK.now() - HOUR)
    await outbox.put(Batch(end=[SUBSCRIPTION.key]))
    assert await still_waiting(outbox)

    await outbox.replay(delivery(1).id)
    with anyio.fail_after(30):
        await outbox.wait(HOUR)
    assert await still_waiting(outbox)


async def test_when_a_suspect_is_cancelled_the_next_one_is_news() -> None:
    clock = VirtualClock()
    outbox = MemoryOutbox(clock=clock)
    await outbox.put(Batch([delivery(1), delivery(2)]))
    await outbox.claim(2, LEASE, per_origin=8, busy={})
    clock.advance(LEASE)
    (suspect,) = await outbox.claim(2, LEASE, per_origin=8, busy={})
    await outbox.wait(HOUR)
    assert await still_waiting(outbox)

    await outbox.cancel(suspect.delivery.id)

    with anyio.fail_after(30):
        await outbox.wait(HOUR)
    assert len(await outbox.claim(2, LEASE, per_origin=8, busy={})) == 1


async def test_an_origin_that_was_emptied_is_news_again() -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), backlog=None)
    await outbox.wait(HOUR)
    for number in range(3):
        await outbox.put(Batch([delivery(number)]))
        with anyio.fail_after(30):
            await outbox.wait(HOUR)
        assert len(await outbox.claim(1, LEASE, per_origin=8, busy={})) == 1


async def test_a_batch_is_one_wake() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    await outbox.wait(HOUR)

    await outbox.put(Batch([delivery(number, origin=f"https://{number}.example:443") for number in range(100)]))
    await outbox.wait(HOUR)

    assert await still_waiting(outbox)


async def test_a_wait_ends_when_something_comes_due_by_itself() -> None:
    clock = SystemClock()
    outbox = MemoryOutbox(clock=clock)
    now = clock.now()
    await outbox.put(Batch([delivery(1, now=now, due_at=now + timedelta(milliseconds=30))]))

    with anyio.fail_after(30):
        while not await outbox.claim(1, LEASE, per_origin=1, busy={}):
            await outbox.wait(HOUR)


async def test_a_wait_ends_when_a_lease_does() -> None:
    outbox = MemoryOutbox()
    await outbox.put(Batch([delivery(1, now=SystemClock().now())]))
    assert len(await outbox.claim(1, timedelta(milliseconds=30), per_origin=1, busy={})) == 1

    with anyio.fail_after(30):
        while not await outbox.claim(1, LEASE, per_origin=1, busy={}):
            await outbox.wait(HOUR)


async def test_a_delayed_put_shortens_a_wait_that_is_under_way() -> None:
    clock = SystemClock()
    outbox = MemoryOutbox(clock=clock)
    await outbox.wait(HOUR)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.wait, HOUR)
            await anyio.wait_all_tasks_blocked()
            await outbox.put(Batch([delivery(1, due_at=clock.now() + timedelta(milliseconds=30))]))
        while not await outbox.claim(1, LEASE, per_origin=1, busy={}):
            await outbox.wait(HOUR)


async def test_when_a_suspect_is_settled_the_next_one_is_news() -> None:
    clock = VirtualClock()
    outbox = MemoryOutbox(clock=clock)
    await outbox.put(Batch([delivery(1), delivery(2)]))
    await outbox.claim(2, LEASE, per_origin=8, busy={})
    clock.advance(LEASE)
    (suspect,) = await outbox.claim(2, LEASE, per_origin=8, busy={})
    await outbox.wait(HOUR)
    assert await still_waiting(outbox)

    await outbox.settle([Settlement(suspect.fence, Delivered())])

    with anyio.fail_after(30):
        await outbox.wait(HOUR)
    assert len(await outbox.claim(2, LEASE, per_origin=8, busy={})) == 1


def test_an_event_loop_that_ended_while_it_waited_harms_nobody(anyio_backend: str) -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), backlog=None)

    async def waits_and_goes() -> None:
        await outbox.wait(HOUR)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.wait, HOUR)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async def puts_and_claims(number: int) -> None:
        await outbox.put(Batch([delivery(number)]))
        assert len(await outbox.claim(1, LEASE, per_origin=8, busy={})) == 1

    for number in range(3):
        anyio.run(waits_and_goes, backend=anyio_backend)
        anyio.run(puts_and_claims, number, backend=anyio_backend)
    assert len(outbox._rooms) == 0, "the rooms of loops that are over are given up"


def test_a_put_in_one_event_loop_wakes_another(anyio_backend: str) -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    waiting = threading.Event()
    claimed: list[int] = []

    async def worker() -> None:
        await outbox.wait(HOUR)
        waiting.set()
        with anyio.fail_after(30):
            await outbox.wait(HOUR)
        claimed.append(len(await outbox.claim(1, LEASE, per_origin=1, busy={})))

    async def client() -> None:
        await outbox.put(Batch([delivery(1)]))

    thread = threading.Thread(target=anyio.run, args=(worker,), kwargs={"backend": anyio_backend})
    thread.start()
    assert waiting.wait(30)
    anyio.run(client, backend=anyio_backend)
    thread.join(30)

    assert claimed == [1]

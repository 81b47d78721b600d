from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import FrameType
from typing import Any

import anyio
import pytest

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Claim, Delivered, Delivery, Settlement
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.identifiers import uuid7
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.testing import OutboxContract, VirtualClock

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)

CLOCK = VirtualClock()
HERE = "https://here.example:443"
THERE = "https://there.example:443"


class TestContract(OutboxContract):
    @pytest.fixture
    def outbox(self, clock: VirtualClock) -> MemoryOutbox:
        return MemoryOutbox(clock=clock)


def delivery(number: int, **attributes: Any) -> Delivery:
    now = attributes.pop("now", CLOCK.now())
    plain = Delivery(
        id=uuid7(now, number.to_bytes(10, "big")),
        operation="POST /",
        callback="event",
        method="POST",
        url="https://here.example/",
        origin=HERE,
        created_at=now,
        due_at=now,
        retry=RetryPolicy(),
        deadline=DEADLINE,
    )
    return replace(plain, **attributes)


async def deliver_all(outbox: MemoryOutbox) -> None:
    while claims := await outbox.claim(100, LEASE, per_origin=100, busy={}):
        await outbox.settle([Settlement(claim.fence, Delivered()) for claim in claims])


async def test_of_terminal_deliveries_the_last_are_remembered() -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), keep=3)
    deliveries = [delivery(number) for number in range(5)]
    waiting = delivery(5, due_at=CLOCK.now() + HOUR)
    await outbox.put(Batch([waiting]))
    for one in deliveries:
        await outbox.put(Batch([one]))
        await deliver_all(outbox)

    assert dict(await outbox.counts()) == {**dict.fromkeys(State, 0), State.PENDING: 1, State.DELIVERED: 3}
    assert (await outbox.get(deliveries[2].id)).state is State.DELIVERED
    with pytest.raises(DeliveryNotFound):
        await outbox.get(deliveries[1].id)
    assert (await outbox.get(waiting.id)).state is State.PENDING


async def test_it_says_once_that_it_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    outbox = MemoryOutbox(clock=VirtualClock())

    await outbox.put(Batch([delivery(1)]))
    await outbox.put(Batch([delivery(2)]))

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "MemoryOutbox" in caplog.text
    assert MemoryOutbox.durable is False


async def test_a_suspect_that_is_settled_dead_is_told_loudly(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    outbox = MemoryOutbox(clock=clock)
    await outbox.put(Batch([delivery(1)]))

    while await outbox.claim(1, LEASE, per_origin=1, busy={}):
        clock.advance(LEASE)

    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "killed its worker" in record.getMessage()
    assert str(delivery(1).id) in record.getMessage()


async def lines_run(work: Callable[[], Any]) -> int:
    """How many lines of Python an asynchronous call runs: its work, whatever the machine."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        await work()
    finally:
        sys.settrace(before)
    return lines


async def work_of_a_claim(deliveries: list[Delivery], busy: dict[str, int]) -> int:
    """The lines of Python that one claim of two deliveries runs, with these in the outbox before."""
    outbox = MemoryOutbox(clock=VirtualClock())
    await outbox.put(Batch(deliveries))
    await outbox.put(Batch([delivery(10**6, origin=THERE), delivery(10**6 + 1, origin="https://else.example:443")]))
    claims: list[Claim] = []

    async def claim() -> None:
        claims.extend(await outbox.claim(2, LEASE, per_origin=8, busy=busy))

    work = await lines_run(claim)
    assert len(claims) == 2
    return work


async def test_what_is_parked_costs_a_claim_nothing() -> None:
    parked = [
        delivery(number, origin=f"https://{number % 100}.example:443", due_at=CLOCK.now() + HOUR)
        for number in range(10_000)
    ]

    assert await work_of_a_claim(parked, {}) == await work_of_a_claim(parked[:1], {})


async def test_what_is_due_of_a_saturated_origin_costs_a_claim_nothing() -> None:
    due = [delivery(number) for number in range(10_000)]

    assert await work_of_a_claim(due, {HERE: 8}) == await work_of_a_claim(due[:1], {HERE: 8})


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


async def test_an_origin_that_was_emptied_is_news_again() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
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
    outbox = MemoryOutbox(clock=VirtualClock())

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


def test_threads_put_and_claim_at_once_and_nothing_is_lost_or_doubled() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    delivered: list[object] = []

    async def put_and_claim(start: int) -> None:
        for number in range(start, start + 200):
            await outbox.put(Batch([delivery(number, origin=f"https://{number % 7}.example:443")]))
            claims = await outbox.claim(3, LEASE, per_origin=8, busy={})
            await outbox.settle([Settlement(claim.fence, Delivered()) for claim in claims])
            delivered.extend(claim.delivery.id for claim in claims)

    threads = [threading.Thread(target=anyio.run, args=(put_and_claim, start)) for start in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(delivered) == len(set(delivered)) == 800

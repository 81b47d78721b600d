from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import anyio
import pytest
from memory_setting import CLOCK, HERE, HOUR, LEASE, START, SUBSCRIPTION, THERE, deliver_all, delivery

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Claim, Delivered, Delivery, Settlement
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.subscription import Notification
from callback_middleware.testing import OutboxContract, VirtualClock


class TestContract(OutboxContract):
    @pytest.fixture
    def outbox(self, clock: VirtualClock, backlog: BacklogLimits | None) -> MemoryOutbox:
        return MemoryOutbox(clock=clock, backlog=backlog)


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


async def test_it_says_so_of_subscriptions_too(caplog: pytest.LogCaptureFixture) -> None:
    outbox = MemoryOutbox(clock=VirtualClock())

    await outbox.put(Batch())
    assert caplog.records == []
    await outbox.put(Batch(subscribe=[SUBSCRIPTION]))

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_what_was_replayed_is_no_terminal_delivery() -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), keep=2)
    first, second, third, fourth = (delivery(number) for number in range(4))
    for one in (first, second):
        await outbox.put(Batch([one]))
        await deliver_all(outbox)

    await outbox.replay(first.id)
    await outbox.put(Batch([third]))
    await outbox.cancel(third.id)
    assert dict(await outbox.counts()) == {**dict.fromkeys(State, 1), State.SENDING: 0, State.DEAD: 0}
    await deliver_all(outbox)

    # The second ended before the first one's last run did.
    left = [one.id for one in (await outbox.search(Selection())).deliveries]
    assert left == [third.id, first.id]
    await outbox.put(Batch([fourth]))
    await outbox.cancel(fourth.id)
    assert [one.id for one in (await outbox.search(Selection())).deliveries] == [fourth.id, first.id]


async def test_the_generation_goes_with_the_last_delivery_that_is_remembered() -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), keep=1)
    notification = Notification(id=delivery(1).id, key=SUBSCRIPTION.key, body=None, created_at=START, due_at=START)
    generations = []
    await outbox.put(Batch(subscribe=[SUBSCRIPTION], notify=[notification], end=[SUBSCRIPTION.key]))
    await deliver_all(outbox)
    for number in (2, 3):
        await outbox.put(Batch(subscribe=[SUBSCRIPTION]))
        generations += [one.generation for one in await outbox.subscriptions()]
        await outbox.put(Batch([delivery(number)], end=[SUBSCRIPTION.key]))
        await deliver_all(outbox)

    assert generations == [2, 1]


async def test_of_one_origin_the_oldest_are_replayed_first() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    numbers = [3, 1, 2]
    await outbox.put(Batch([delivery(number) for number in numbers]))
    await deliver_all(outbox)

    await outbox.replay_all(Selection(), spacing=HOUR)

    dues = {number: (await outbox.get(delivery(number).id)).due_at for number in numbers}
    assert dues == {number: CLOCK.now() + (number - 1) * HOUR for number in numbers}


async def test_what_a_search_asks_of_each_delivery_holds_nobody_up() -> None:
    outbox = MemoryOutbox(clock=VirtualClock())
    await outbox.put(Batch([delivery(1)]))
    held: list[bool] = []

    class States(frozenset[State]):
        def __contains__(self, state: object) -> bool:
            held.append(outbox._lock.locked())
            return True

    await outbox.search(Selection(states=States(State)))

    assert held == [False]


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
    # What other tests have left behind is not to be finalized now.
    gc.disable()
    sys.settrace(count)
    try:
        await work()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines


async def work_of_a_claim(deliveries: list[Delivery], busy: dict[str, int]) -> int:
    """The lines of Python that one claim of two deliveries runs, with these in the outbox before."""
    outbox = MemoryOutbox(clock=VirtualClock(), backlog=None)
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


def test_threads_put_and_claim_at_once_and_nothing_is_lost_or_doubled() -> None:
    outbox = MemoryOutbox(clock=VirtualClock(), backlog=None)
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

from __future__ import annotations

import gc
import threading

import anyio
import anyio.to_thread
import pytest

from callback_middleware.outbox.sqlite.orders import Orders


@pytest.fixture
def orders() -> Orders:
    return Orders()


def nothing() -> None: ...


def test_orders_are_taken_as_they_were_given(orders: Orders) -> None:
    given = [lambda: 1, lambda: 2, lambda: 3]
    for order in given:
        orders.put(order)

    assert not orders.empty()
    assert [orders.take(None) for _ in given] == given
    assert orders.empty()


def test_if_none_comes_there_is_none(orders: Orders) -> None:
    assert orders.take(0.0) is None
    assert orders.take(0.001) is None


async def test_who_waits_without_end_hears_of_the_next_order(orders: Orders) -> None:
    begun = threading.Event()
    taken: list[object] = []

    def take() -> None:
        # A bell that has rung for what was taken since is no order.
        orders.put(nothing)
        orders.take(None)
        begun.set()
        taken.append(orders.take(None))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, take)
        await anyio.to_thread.run_sync(begun.wait)
        orders.put(nothing)

    assert taken == [nothing]


def test_a_timeout_that_is_over_at_once_is_over(orders: Orders) -> None:
    """What the standard library's queue makes of it now and then is a wait for ever."""
    over = threading.Event()

    def take() -> None:
        for _ in range(20_000):
            orders.put(nothing)
            orders.take(None)
            orders.take(1e-6)
        over.set()

    threading.Thread(target=take, daemon=True).start()

    assert over.wait(60)


def test_a_finalizer_may_give_one_in_the_middle_of_giving_one(orders: Orders) -> None:
    class Last:
        def __del__(self) -> None:
            orders.put(nothing)

    for _ in range(100):
        last: object = Last()
        # Only the collector ends it.
        last.itself = last  # type: ignore[attr-defined]
        del last
        orders.put(nothing)
        gc.collect()
    given = 0
    while orders.take(0.0) is not None:
        given += 1

    assert given == 200

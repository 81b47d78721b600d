"""A delivery that kills whichever worker attempts it takes no neighbour with it, and ends as a dead letter."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import poisoned
import pytest

from callback_middleware import Delivery, RetryPolicy, SQLiteOutbox, State
from callback_middleware.clock import SystemClock
from callback_middleware.identifiers import uuid7
from callback_middleware.ports import Batch, DeliveryLog, Outbox
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS
from crashing.stores import InDatabase
from receivers import receiving
from servers import PATIENCE

NEIGHBOURS = 20


def delivery(url: str, body: bytes) -> Delivery:
    now = SystemClock().now()
    return Delivery(
        id=uuid7(now, os.urandom(10)),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url=f"{url}/events",
        origin=url,
        body=body,
        created_at=now,
        due_at=now,
        retry=RetryPolicy.fixed(0.1, max_attempts=1000),
        deadline=timedelta(seconds=5),
    )


async def supervise(address: str, statuses: list[int]) -> None:
    """Start a worker again whenever it dies, as a supervisor does, until one ends by itself."""
    while len(statuses) <= SUSPICIONS and 0 not in statuses:
        worker = await anyio.to_thread.run_sync(
            partial(subprocess.run, [sys.executable, poisoned.__file__, address], timeout=PATIENCE, check=False)
        )
        statuses.append(worker.returncode)


async def put_poison(outbox: Outbox, url: str) -> tuple[Delivery, Sequence[Delivery]]:
    """One delivery that kills whoever attempts it, and its neighbours."""
    poison = delivery(url, poisoned.POISON)
    neighbours = [delivery(url, b"%d" % number) for number in range(NEIGHBOURS)]
    await outbox.put(Batch([poison, *neighbours]))
    return poison, neighbours


async def assert_alone_dead(
    log: DeliveryLog, poison: Delivery, neighbours: Sequence[Delivery], heard: set[bytes]
) -> None:
    dead = await log.get(poison.id)
    assert (dead.state, dead.reason) == (State.DEAD, KILLED_ITS_WORKER.reason)
    assert (await log.counts())[State.DELIVERED] == NEIGHBOURS
    assert heard == {neighbour.body for neighbour in neighbours}


async def test_a_delivery_that_kills_its_workers_takes_no_neighbour_with_it(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    outbox = SQLiteOutbox(path, backlog=None)
    statuses: list[int] = []
    with receiving() as receiver:
        poison, neighbours = await put_poison(outbox, receiver.url)
        await supervise(str(path), statuses)
        assert statuses == [-signal.SIGKILL] * SUSPICIONS + [0]
        await assert_alone_dead(outbox, poison, neighbours, {one.body for one in receiver.heard})
    await outbox.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_two_workers_the_other_goes_on_when_a_delivery_kills_one(postgres: str) -> None:
    store = InDatabase(postgres)
    await store.prepare()
    outbox = await store.opened()
    statuses: Sequence[list[int]] = ([], [])
    with receiving() as receiver:
        poison, neighbours = await put_poison(outbox, receiver.url)
        async with anyio.create_task_group() as tasks:
            for of_one in statuses:
                tasks.start_soon(supervise, postgres, of_one)
        assert [of_one[-1] for of_one in statuses] == [0, 0]
        assert sorted(itertools.chain(*statuses)) == [-signal.SIGKILL] * SUSPICIONS + [0, 0]
        await assert_alone_dead(outbox, poison, neighbours, {one.body for one in receiver.heard})
    await outbox.aclose()

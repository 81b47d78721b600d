"""A delivery that kills whichever worker attempts it takes no neighbour with it, and ends as a dead letter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import poisoned

from callback_middleware import Delivery, RetryPolicy, SQLiteOutbox, State
from callback_middleware.clock import SystemClock
from callback_middleware.identifiers import uuid7
from callback_middleware.ports import Batch
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS
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


async def test_a_delivery_that_kills_its_workers_takes_no_neighbour_with_it(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    outbox = SQLiteOutbox(path, backlog=None)
    with receiving() as receiver:
        poison = delivery(receiver.url, poisoned.POISON)
        neighbours = [delivery(receiver.url, b"%d" % number) for number in range(NEIGHBOURS)]
        await outbox.put(Batch([poison, *neighbours]))
        statuses: list[int] = []
        while len(statuses) <= SUSPICIONS and 0 not in statuses:
            # As a supervisor does: a worker that died is started again.
            worker = subprocess.run(  # noqa: ASYNC221, S603 - nothing else runs on this loop; an interpreter of ours
                [sys.executable, poisoned.__file__, str(path)], timeout=PATIENCE, check=False
            )
            statuses.append(worker.returncode)

        assert statuses == [-signal.SIGKILL] * SUSPICIONS + [0]
        dead = await outbox.get(poison.id)
        assert (dead.state, dead.reason) == (State.DEAD, KILLED_ITS_WORKER.reason)
        assert (await outbox.counts())[State.DELIVERED] == NEIGHBOURS
        assert {heard.body for heard in receiver.heard} == {neighbour.body for neighbour in neighbours}
    await outbox.aclose()

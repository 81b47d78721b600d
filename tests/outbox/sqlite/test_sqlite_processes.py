"""Several processes on one file at the same time: real ones, each with a thread, a connection and locks of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import anyio
import pytest
from sqlite_setting import SETTING, ask, stored

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Delivered, Retry, Settlement
from callback_middleware.outbox.sqlite import writer
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE

PROCESSES: Final = 4
PUTS: Final = 150
DEDUPED: Final = 50
HOUR: Final = timedelta(hours=1)

BACKENDS: Final = itertools.cycle(["asyncio", "trio"])


async def put_and_claim(path: str, number: int) -> dict[str, list[str]]:
    """Put, claim and settle until everybody's deliveries are done. What this process claimed and settled."""
    clock = VirtualClock()
    outbox = SQLiteOutbox(path, clock=clock, backlog=None)
    claimed: list[str] = []
    settled: list[str] = []

    async def put() -> None:
        for one in range(PUTS):
            key = f"shared {one}" if one < DEDUPED else None
            origin = f"https://{one % 7}.example:443"
            await outbox.put(Batch([SETTING.delivery(clock, dedupe=key, origin=origin)]))

    async def work() -> None:
        while len(await all_settled()) < PROCESSES * (PUTS - DEDUPED) + DEDUPED:
            claims = await outbox.claim(5, HOUR, per_origin=5, busy={})
            claimed.extend(str(one.delivery.id) for one in claims)
            # Some are tried twice.
            settlements = [
                Settlement(
                    one.fence,
                    Retry(timedelta()) if one.attempt == 1 and one.delivery.id.int % 3 == 0 else Delivered(),
                    SETTING.attempt(one, clock.now()),
                )
                for one in claims
            ]
            applied = await outbox.settle(settlements)
            settled.extend(
                str(one.fence.delivery)
                for one in settlements
                if one.fence in applied and isinstance(one.verdict, Delivered)
            )
            if not claims:
                await outbox.wait(timedelta(seconds=5))

    async def all_settled() -> list[object]:
        return await outbox._session.desk().call(lambda store: store.fetch("SELECT delivery FROM result"))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(work)
        await put()
    await outbox.aclose()
    return {"claimed": claimed, "settled": settled}


def run(function: str, path: Path, number: int, backend: str) -> subprocess.Popen[str]:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {Path(__file__).stem} as it; "
        f"it.main({function!r}, {str(path)!r}, {number}, {backend!r})"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours


def main(function: str, path: str, number: int, backend: str) -> None:
    """What the other process does."""
    type(SETTING)._numbers = itertools.count(number * 1_000_000)
    result = anyio.run(globals()[function], path, number, backend=backend)
    print(json.dumps(result))  # noqa: T201 - that is how it tells


def results(*processes: subprocess.Popen[str]) -> list[dict[str, list[str]]]:
    answers = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(answer) for answer in answers]


def test_processes_that_put_and_claim_together_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    processes = [run("put_and_claim", path, number, next(BACKENDS)) for number in range(1, PROCESSES + 1)]

    said = results(*processes)

    count = PROCESSES * (PUTS - DEDUPED) + DEDUPED
    settled = [one for each in said for one in each["settled"]]
    assert (len(settled), len(set(settled)), stored(path)) == (count, count, count)
    # One delivery of every shared key, whoever was first.
    assert ask(path, "SELECT count(*), count(DISTINCT dedupe) FROM delivery WHERE dedupe IS NOT NULL") == [
        (DEDUPED, DEDUPED)
    ]
    # Each was claimed once for every attempt, and no lease had ended.
    ((attempts,),) = ask(path, "SELECT count(*) FROM attempt")
    assert sum(len(each["claimed"]) for each in said) == attempts
    assert ask(path, "SELECT count(*) FROM queue") == [(0,)]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


async def put_one(path: str, number: int) -> None:
    outbox = SQLiteOutbox(path, clock=VirtualClock())
    await outbox.put(Batch([SETTING.delivery(VirtualClock())]))
    await outbox.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_hears_of_what_a_process_puts_that_ends_at_once(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "callbacks.db"
    outbox = SQLiteOutbox(path, clock=VirtualClock())

    async def work() -> None:
        await outbox.claim(1, LEASE, per_origin=1, busy={})
        await outbox.wait(timedelta())
        await outbox.wait(timedelta(seconds=3 * writer.LOOK))
        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, lambda: results(run("put_one", path, 1, backend)))
                while not await outbox.claim(1, LEASE, per_origin=1, busy={}):
                    await outbox.wait(HOUR)
        await outbox.aclose()

    anyio.run(work, backend=backend)

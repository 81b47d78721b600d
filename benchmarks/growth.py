"""What must not grow: a process' memory with what it delivered, and the write-ahead log beside whoever reads.

``python -m benchmarks.growth``. Deliveries are put, claimed, sent and settled as fast as they come, through a
dispatcher whose sender answers at once, in a process that does nothing else. The log is watched on the file that this
leaves, while the same goes on and another process reads.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import multiprocessing
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.deliveries import ROOMY, deliveries, disk, folder, origins
from benchmarks.figures import at_most
from callback_middleware.delivery import Delivery, Verdict
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.egress import EgressPolicy
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.outcomes import Accepted, Answer, AttemptRequest, Outcome
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection

MARKS: Final = (100_000, 200_000)
"""Deliveries after which memory is looked at."""

PRODUCERS: Final = 64
AHEAD: Final = 1000
"""Deliveries that may be put and not settled: the backlog is not what grows here."""

MOST_MEMORY: Final = 5.0
MOST_LOG: Final = 64.0
MEBIBYTE: Final = 2**20
EVERYTHING: Final = Selection()
NOTHING: Final = Selection(text="found nowhere")

_ORIGINS: Final = origins(300)
_SPAWN: Final = multiprocessing.get_context("spawn")


class AcceptingSender:
    """Answers at once."""

    async def send(
        self,
        request: AttemptRequest,  # noqa: ARG002 - the port's
        *,
        egress: EgressPolicy,  # noqa: ARG002 - the port's
        deadline: timedelta,  # noqa: ARG002 - the port's
    ) -> Outcome:
        return Accepted(Answer(200, (("content-type", "application/json"),), b'{"ok":true}'))

    async def aclose(self) -> None:
        """Nothing is open."""


class Progress(Observers):
    """Counts what is settled, and lets as much more be put."""

    def __init__(self) -> None:
        super().__init__()
        self.settled_count = 0
        self.room = asyncio.Semaphore(AHEAD)
        self.moved = asyncio.Event()

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:  # noqa: ARG002 - the port's
        self.settled_count += 1
        self.room.release()
        self.moved.set()


async def keep_busy(file: Path, over: Callable[[int], bool]) -> None:
    """Put and deliver until what was settled is enough; it is asked again after every few."""
    outbox, progress = SQLiteOutbox(file, backlog=ROOMY), Progress()
    dispatcher = Dispatcher(outbox, AcceptingSender(), observer=progress)

    async def produce() -> None:
        while True:
            await progress.room.acquire()
            await outbox.put(Batch(deliveries(1, _ORIGINS)))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dispatcher.run())
        producers = [tasks.create_task(produce()) for _ in range(PRODUCERS)]
        while not over(progress.settled_count):
            progress.moved.clear()
            await progress.moved.wait()
        for producer in producers:
            producer.cancel()
        await dispatcher.drain()
    await outbox.aclose()


def memory(file: Path) -> Sequence[float]:
    """Resident memory in MiB at every mark."""
    logging.disable(logging.CRITICAL)
    resident: list[float] = []

    def over(settled: int) -> bool:
        if settled >= MARKS[len(resident)]:
            # What is garbage already must not hide what is not.
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            resident.append(pages * resource.getpagesize() / MEBIBYTE)
        return len(resident) == len(MARKS)

    asyncio.run(keep_busy(file, over))
    return resident


@dataclass(frozen=True, slots=True)
class Watched:
    """A write-ahead log under load: its sizes in MiB, and how many deliveries a second the load was."""

    largest: float
    last: float
    rate: float


def watch_log(file: Path, seconds: float) -> Watched:
    """Deliver for so long, and look at the size of the log after every few."""
    logging.disable(logging.CRITICAL)
    log, sizes, counts = file.with_name(f"{file.name}-wal"), [0], [0]
    end = time.monotonic() + seconds

    def over(settled: int) -> bool:
        counts.append(settled)
        if log.exists():
            sizes.append(log.stat().st_size)
        return time.monotonic() >= end

    asyncio.run(keep_busy(file, over))
    return Watched(max(sizes) / MEBIBYTE, sizes[-1] / MEBIBYTE, counts[-1] / seconds)


def search(file: Path, selection: Selection, ready: Any) -> None:
    """Search all the time, as somebody would who looks at a list."""

    async def searching() -> None:
        log = SQLiteOutbox(file)
        while True:
            await log.search(selection)
            ready.set()

    asyncio.run(searching())


def hold(file: Path, ready: Any) -> None:
    """Begin to read, and never end: what a forgotten shell does."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM queue").fetchall()
        ready.set()
        while True:
            time.sleep(1)


@contextmanager
def beside(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """A process that reads meanwhile."""
    ready = _SPAWN.Event()
    process = _SPAWN.Process(target=target, args=(*arguments, ready), daemon=True)
    process.start()
    ready.wait()
    try:
        yield
    finally:
        process.kill()
        process.join()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, _SPAWN) as processes:
        return processes.submit(function, *arguments).result()


def measure(file: Path, seconds: float) -> None:
    """Print memory, and the log beside every reader."""
    resident = alone(memory, file)
    print("resident memory, a process that puts and delivers")
    for mark, size in zip(MARKS, resident, strict=True):
        print(f"  after {mark:7,} deliveries        {size:7.1f} MiB")
    print(f"  the difference{'':17}{at_most(resident[1] - resident[0], MOST_MEMORY, ' MiB')}", flush=True)

    print(f"largest write-ahead log in {seconds:g} s of load, on that file, by who reads meanwhile")
    readers: dict[str, Sequence[Any]] = {
        "searches, the newest": (search, file, EVERYTHING),
        "searches, through everything": (search, file, NOTHING),
        "foreign, never ends": (hold, file),
    }
    _report("nobody", alone(watch_log, file, seconds))
    for name, reader in readers.items():
        with beside(*reader):
            _report(name, alone(watch_log, file, seconds))
    after = alone(watch_log, file, seconds / 4)
    print(f"  {seconds / 4:g} s of load after that reader was ended: {after.last:.2f} MiB", flush=True)


def _report(name: str, watched: Watched) -> None:
    print(f"  {name:28}{watched.rate:7,.0f} deliveries/s  {at_most(watched.largest, MOST_LOG, ' MiB')}", flush=True)


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16, help="of load beside every reader")
    seconds = parser.parse_args().seconds
    with folder() as place:
        print(disk(place))
        measure(place / "outbox.db", seconds)


if __name__ == "__main__":
    main()

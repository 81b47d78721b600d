"""How long the deliveries of healthy receivers wait behind those of one that hangs.

``python -m benchmarks.fairness``. A file holds 12,000 deliveries that are due, and in turns 100,000 more of one hanging
receiver, all due an hour earlier. A worker that knows nothing yet opens it; real time. Its sender answers after ten
milliseconds, or never: then the attempt's deadline ends it. A lag is the time from the worker's start until a healthy
delivery is settled.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sqlite3
import statistics
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.deliveries import deliveries, disk, fill, folder, origins, set_aside
from benchmarks.figures import at_most, in_turns, ratio
from callback_middleware.delivery import Delivered, Delivery, Verdict
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.egress import EgressPolicy
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.outcomes import Accepted, Answer, AttemptRequest, Outcome, Phase, TimedOut

HEALTHY: Final = origins(300)
HANGING: Final = origins(1, "hanging")
WANTED: Final = 12_000
BACKLOG: Final = 100_000
HOUR: Final = timedelta(hours=1)
DEADLINE: Final = timedelta(seconds=2)
"""Shorter than the default, so that many attempts end within a turn and are replaced by others."""

ANSWERS_AFTER: Final = 0.01
TARGET: Final = 2.0

PATIENCE: Final = 60
"""Seconds for one turn, which takes a few; without rotation it would take an hour."""


class ScriptedSender:
    """Hangs for one receiver, and answers for all others."""

    def __init__(self) -> None:
        self.hung = 0

    async def send(
        self,
        request: AttemptRequest,
        *,
        egress: EgressPolicy,  # noqa: ARG002 - the port's
        deadline: timedelta,
    ) -> Outcome:
        if request.url.startswith(HANGING[0]):
            self.hung += 1
            await asyncio.sleep(deadline.total_seconds())
            return TimedOut(Phase.HEADERS)
        await asyncio.sleep(ANSWERS_AFTER)
        return Accepted(Answer(200))

    async def aclose(self) -> None:
        """Nothing is open."""


class Watch(Observers):
    """Notes when healthy receivers' deliveries are delivered, and says when the last one is.

    Args:
        wanted: How many that are.
        hanging: The origins of the others.
    """

    def __init__(self, *, wanted: int = WANTED, hanging: Collection[str] = frozenset(HANGING)) -> None:
        super().__init__()
        self.times: list[float] = []
        self.over = asyncio.Event()
        self._wanted = wanted
        self._hanging = hanging

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        # Not what is handed back: a worker that is new to a receiver may be given more than it begins with.
        if isinstance(verdict, Delivered) and delivery.origin not in self._hanging:
            self.times.append(time.perf_counter())
            if len(self.times) == self._wanted:
                self.over.set()


@dataclass(frozen=True, slots=True)
class Turn:
    """Lags of one turn in seconds, and how many attempts of the hanging receiver's were begun."""

    median: float
    last: float
    hung: int


async def work(path: Path) -> Turn:
    """A worker, from its start until everything healthy is settled."""
    outbox, sender, watch = SQLiteOutbox(path, backlog=None), ScriptedSender(), Watch()
    dispatcher = Dispatcher(outbox, sender, observer=watch, grace=timedelta())
    set_aside()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dispatcher.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await watch.over.wait()
        except TimeoutError:
            raise SystemExit(f"{len(watch.times):,} healthy deliveries were settled in {PATIENCE} s") from None
        await dispatcher.drain()
    await outbox.aclose()
    lags = [at - began for at in watch.times]
    return Turn(statistics.median(lags), max(lags), sender.hung)


async def prepare(path: Path, backlog: int) -> None:
    """A file in which the hanging receiver's deliveries are the oldest."""
    outbox = SQLiteOutbox(path, backlog=None)
    await fill(outbox, deliveries(backlog, HANGING, due=-HOUR, deadline=DEADLINE))
    await fill(outbox, deliveries(WANTED, HEALTHY, deadline=DEADLINE))
    await outbox.aclose()


def copy(file: Path, to: Path) -> Path:
    """A copy that has what is still in the write-ahead log, too."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


def measure(path: Path, rounds: int) -> None:
    """Print lags with and without."""
    files = {"without": path / "without.db", "with": path / "with.db"}
    asyncio.run(prepare(files["without"], 0))
    asyncio.run(prepare(files["with"], BACKLOG))

    def turn(file: Path) -> Turn:
        # What one turn has delivered the next must find again.
        with folder() as place:
            return asyncio.run(work(copy(file, place / "outbox.db")))

    turns = in_turns({name: partial(turn, file) for name, file in files.items()}, rounds)
    names = {
        "without": "without a hanging receiver",
        "with": f"behind {BACKLOG:,} of a hanging one",
    }
    print(f"{WANTED:,} healthy deliveries, cold worker, {rounds} rounds; seconds until they are settled")
    print(f"  {'':34}{'median':>8}{'last':>8}{'hung':>8}")
    medians = {case: [one.median for one in turns[case]] for case in names}
    lasts = {case: [one.last for one in turns[case]] for case in names}
    for case, name in names.items():
        hung = statistics.median(one.hung for one in turns[case])
        print(f"  {name:34}{statistics.median(medians[case]):8.2f}{statistics.median(lasts[case]):8.2f}{hung:8.0f}")
    print(f"  {'median lag, times as long':34}{at_most(ratio(medians['with'], medians['without']), TARGET)}")
    print(f"  {'last lag, times as long':34}{at_most(ratio(lasts['with'], lasts['without']), TARGET)}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved turns of each case")
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    with folder() as path:
        print(disk(path))
        measure(path, rounds)


if __name__ == "__main__":
    main()

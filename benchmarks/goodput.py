"""How much of what healthy receivers get is left to them by others that hang.

``python -m benchmarks.goodput``. Ten receivers, each a port of this machine, real sockets and the default sender. Of
them one hangs in turns, or nine: they take the connection and never answer, and 100,000 deliveries of theirs are due an
hour before the healthy ones'. A worker that knows nothing yet opens the file. What is compared is the same healthy
receivers' deliveries in a file without the others.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Final

from benchmarks.deliveries import deliveries, disk, fill, folder, set_aside
from benchmarks.fairness import Watch, copy
from benchmarks.figures import at_least, in_turns, ratio
from benchmarks.load import sink
from callback_middleware.delivery import DEADLINE
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.egress import EgressPolicy
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.idle import PoolLimits

RECEIVERS: Final = 10
HANGING: Final = (1, 9)
WANTED: Final = 6_000
BACKLOG: Final = 100_000
HOUR: Final = timedelta(hours=1)
TARGET: Final = 0.95

PATIENCE: Final = 120
"""Seconds for one turn, which takes a few."""


@contextmanager
def hanging(number: int) -> Iterator[Sequence[str]]:
    """Receivers that nobody answers for: the system takes their connections, and there it ends."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024)) for _ in range(number)]
        yield [_origin(one.getsockname()[1]) for one in listening]


@contextmanager
def healthy(number: int) -> Iterator[Sequence[str]]:
    """Receivers that answer at once, each a process."""
    with ExitStack() as stack:
        count: Synchronized[int] = multiprocessing.Value("q", 0)
        yield [_origin(stack.enter_context(sink(count))) for _ in range(number)]


def _origin(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def work(path: Path, others: Sequence[str]) -> float:
    """A cold worker, from its start until everything healthy is settled: deliveries a second."""
    # All receivers are one machine: it must not be the bound.
    outbox, sender = SQLiteOutbox(path, backlog=None), HttpxSender(limits=PoolLimits(per_address=1024))
    watch = Watch(wanted=WANTED, hanging=frozenset(others))
    dispatcher = Dispatcher(outbox, sender, egress=EgressPolicy.development(), observer=watch, grace=timedelta())
    set_aside()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dispatcher.run())
        async with asyncio.timeout(PATIENCE):
            await watch.over.wait()
        taken = time.perf_counter() - began
        await dispatcher.drain()
    await sender.aclose()
    await outbox.aclose()
    return WANTED / taken


async def prepare(path: Path, well: Sequence[str], others: Sequence[str]) -> None:
    """A file in which the deliveries of those that hang are the oldest."""
    outbox = SQLiteOutbox(path, backlog=None)
    if others:
        await fill(outbox, deliveries(BACKLOG, others, due=-HOUR, deadline=DEADLINE))
    await fill(outbox, deliveries(WANTED, well, deadline=DEADLINE))
    await outbox.aclose()


def measure(path: Path, ill: int, rounds: int) -> None:
    """Print the goodput of some healthy receivers, with and without others that hang."""
    with healthy(RECEIVERS - ill) as well, hanging(ill) as others:
        files = {"without": path / f"without-{ill}.db", "with": path / f"with-{ill}.db"}
        asyncio.run(prepare(files["without"], well, ()))
        asyncio.run(prepare(files["with"], well, others))

        def turn(file: Path) -> float:
            # What one turn has delivered the next must find again.
            with folder() as place:
                return asyncio.run(work(copy(file, place / "outbox.db"), others))

        rates = in_turns({name: partial(turn, file) for name, file in files.items()}, rounds)
    without, with_ = (statistics.median(rates[name]) for name in ("without", "with"))
    share = ratio(rates["with"], rates["without"])
    print(f"  {ill} of {RECEIVERS} hang: {with_:7,.0f}/s; without them {without:7,.0f}/s   {at_least(share, TARGET)}")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved turns of each case")
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    with folder() as path:
        print(disk(path))
        print(f"{WANTED:,} deliveries to healthy receivers, cold worker, deadline {DEADLINE.total_seconds():g} s")
        for ill in HANGING:
            measure(path, ill, rounds)


if __name__ == "__main__":
    main()

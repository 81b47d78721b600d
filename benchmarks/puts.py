"""How many deliveries a second an ``SQLiteOutbox`` stores, beside a bare ``sqlite3`` loop.

``python -m benchmarks.puts``. Both write files of the same schema with the same settings (WAL, ``synchronous=FULL``,
the same page cache), in commits of the same size. The loop that is compared with makes its rows of the same deliveries,
because somebody has to; the one whose rows were made beforehand shows what is left if nobody had.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.deliveries import RETRY, ROOMY, deliveries, disk, folder, origins, set_aside
from benchmarks.figures import at_least, in_turns, ratio
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.outbox.sqlite.file import open_writer
from callback_middleware.outbox.sqlite.rows import Row, delivery_row
from callback_middleware.ports import Batch, Outbox

OURS: Final = "SQLiteOutbox.put"
LOOP: Final = "sqlite3, rows from deliveries"
PREPARED: Final = "sqlite3, rows made before"

TARGETS: Final = {64: 0.80, 1: 0.60}
COMMITS: Final = {64: 120, 1: 400}
"""In one turn, which takes a few tenths of a second."""

_ORIGINS: Final = origins(300)
_MARKS: Final = ", ".join("?" * len(DELIVERY_COLUMNS))
_INSERT: Final = (
    f"INSERT INTO delivery ({', '.join(DELIVERY_COLUMNS)}) VALUES ({_MARKS})"  # noqa: S608 - names of ours
    " ON CONFLICT (id) DO NOTHING"
)


class Commits:
    """Counts them from outside: those who were stored together are woken in the same turn of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self._counted = False

    def woken(self) -> None:
        if not self._counted:
            self._counted = True
            self.count += 1
            asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self._counted = False


async def produce(outbox: Outbox, wanted: Sequence[Delivery], producers: int, commits: Commits) -> float:
    """So many producers, each with one put at a time, as requests do. Deliveries a second."""
    left = iter(wanted)

    async def producer() -> None:
        for delivery in left:
            await outbox.put(Batch([delivery]))
            commits.woken()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(producers):
            tasks.create_task(producer())
    return len(wanted) / (time.perf_counter() - began)


def write(connection: sqlite3.Connection, wanted: Sequence[Delivery], size: int, retry: int) -> float:
    """The same in commits of this size, by hand."""
    began = time.perf_counter()
    for start in range(0, len(wanted), size):
        commit(connection, [delivery_row(delivery, retry) for delivery in wanted[start : start + size]])
    return len(wanted) / (time.perf_counter() - began)


def write_prepared(connection: sqlite3.Connection, wanted: Sequence[Delivery], size: int, retry: int) -> float:
    """The same without making the rows."""
    rows = [delivery_row(delivery, retry) for delivery in wanted]
    began = time.perf_counter()
    for start in range(0, len(rows), size):
        commit(connection, rows[start : start + size])
    return len(wanted) / (time.perf_counter() - began)


def commit(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert these rows, and have them on disk."""
    if len(rows) == 1:
        # One statement is a transaction by itself, and this way is the fastest.
        connection.execute(_INSERT, rows[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT, rows)
    connection.execute("COMMIT")


def measure(path: Path, producers: int, rounds: int) -> None:
    """Print one comparison."""
    commits = Commits()
    outbox = SQLiteOutbox(path / f"ours-{producers}.db", backlog=ROOMY)
    connections = {name: open_writer(path / f"{number}-{producers}.db") for number, name in enumerate((LOOP, PREPARED))}
    retries = {name: _retry_id(connection) for name, connection in connections.items()}

    def turn(writing: Callable[[Sequence[Delivery]], float]) -> float:
        wanted = deliveries(producers * COMMITS[producers], _ORIGINS)
        set_aside()
        return writing(wanted)

    with asyncio.Runner() as loop:
        loop.run(outbox.put(Batch(deliveries(1, _ORIGINS))))
        ways: Mapping[str, Callable[[Sequence[Delivery]], float]] = {
            OURS: lambda wanted: loop.run(produce(outbox, wanted, producers, commits)),
            LOOP: lambda wanted: write(connections[LOOP], wanted, producers, retries[LOOP]),
            PREPARED: lambda wanted: write_prepared(connections[PREPARED], wanted, producers, retries[PREPARED]),
        }
        rates = in_turns({name: partial(turn, way) for name, way in ways.items()}, rounds)
        loop.run(outbox.aclose())
    for connection in connections.values():
        connection.close()
    size = rounds * producers * COMMITS[producers] / commits.count
    print(f"put, {producers} at once, {rounds} rounds of {COMMITS[producers]} commits; ours had {size:.1f} rows")
    print(f"  {OURS:32}{statistics.median(rates[OURS]):8,.0f}/s")
    against = ratio(rates[OURS], rates[LOOP])
    print(f"  {LOOP:32}{statistics.median(rates[LOOP]):8,.0f}/s  ours/this {at_least(against, TARGETS[producers])}")
    against = ratio(rates[OURS], rates[PREPARED])
    print(f"  {PREPARED:32}{statistics.median(rates[PREPARED]):8,.0f}/s  ours/this {against:6.2f}", flush=True)


def _retry_id(connection: sqlite3.Connection) -> int:
    return connection.execute("INSERT INTO retry (policy) VALUES (?)", (str(RETRY.as_dict()),)).lastrowid or 0


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="interleaved turns of each side")
    rounds = parser.parse_args().rounds
    with folder() as path:
        print(disk(path))
        for producers in TARGETS:
            measure(path, producers, rounds)


if __name__ == "__main__":
    main()

"""Puts a second: many requests' in one commit, and one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from benchmarks.deliveries import ROOMY, deliveries, origins, set_aside
from benchmarks.figures import in_turns
from benchmarks.postgres import pgbench
from benchmarks.postgres.reporting import beside
from benchmarks.postgres.server import Database
from benchmarks.puts import Commits, produce
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Batch
from postgres_server import DatabaseServer

TARGETS: Final[Mapping[int, float | None]] = {64: 0.60, 1: None}
COMMITS: Final = {64: 120, 1: 400}
"""In one turn."""

OURS: Final = "PostgresOutbox.put"

_ORIGINS: Final = origins(pgbench.RECEIVERS)


def measure(server: DatabaseServer, producers: int, rounds: int) -> None:
    """Print one comparison."""
    ours, theirs = Database(server), Database(server)
    outbox = PostgresOutbox(ours.url, backlog=ROOMY)
    commits = Commits()
    clients = (1, 2, 4)
    with asyncio.Runner() as loop:
        loop.run(outbox.start())
        loop.run(outbox.put(Batch(deliveries(1, _ORIGINS))))

        def put() -> float:
            _prepare(ours)
            wanted = deliveries(producers * COMMITS[producers], _ORIGINS)
            set_aside()
            return loop.run(produce(outbox, wanted, producers, commits))

        def put_by_hand(clients: int) -> float:
            _prepare(theirs)
            return pgbench.run(theirs, pgbench.PUT, rows=producers, transactions=COMMITS[producers], clients=clients)

        ways: dict[str, Callable[[], float]] = {OURS: put}
        ways |= {f"pgbench, {number} at once": partial(put_by_hand, number) for number in clients}
        in_turns(ways, 1)
        commits.count = 0
        rates = in_turns(ways, rounds)
        loop.run(outbox.aclose())
    size = rounds * producers * COMMITS[producers] / commits.count
    print(f"put, {producers} at once, {rounds} rounds of {COMMITS[producers]} commits; ours had {size:.1f} rows")
    beside(
        rates, OURS, {f"pgbench, {number} at once": TARGETS[producers] if number == 1 else None for number in clients}
    )


def _prepare(database: Database) -> None:
    database.empty()
    database.execute("CHECKPOINT")

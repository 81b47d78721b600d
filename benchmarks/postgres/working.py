"""Claims and settlements a second, of one worker process and of several; and with puts at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks.deliveries import ROOMY, deliveries, origins, set_aside
from benchmarks.figures import in_turns
from benchmarks.postgres import pgbench
from benchmarks.postgres.reporting import beside
from benchmarks.postgres.server import Database
from benchmarks.postgres.workers import Order, Workers, workers
from benchmarks.puts import Commits, produce
from callback_middleware.outbox.postgres import PostgresOutbox
from postgres_server import DatabaseServer

AT_ONCE: Final = 64
BOTH_AT_ONCE: Final = 64
"""Producers, and what the worker claims in one call."""

PROCESSES: Final = (1, 2, 4)
DUE: Final = 6_400
PUT: Final = 6_400
ALONE_TARGET: Final = 0.60
TOGETHER_TARGET: Final = 0.40

_ORIGINS: Final = origins(pgbench.RECEIVERS)


def alone(server: DatabaseServer, processes: int, at_once: int, rounds: int) -> None:
    """Print what so many worker processes do when nobody puts, beside as many of pgbench's clients."""
    ours, theirs = Database(server), Database(server)
    name, other = "PostgresOutbox", f"pgbench, {processes} at once"
    with workers(ours.url, processes) as fleet:

        def work() -> float:
            _due(ours)
            return fleet.run(Order(at_once))

        def work_by_hand() -> float:
            _due(theirs)
            transactions = DUE // at_once
            return pgbench.run(theirs, pgbench.WORK, rows=at_once, transactions=transactions, clients=processes)

        ways: dict[str, Callable[[], float]] = {name: work, other: work_by_hand}
        in_turns(ways, 1)
        rates = in_turns(ways, rounds)
    print(f"claim and settle, {at_once} at a time, processes: {processes}, {rounds} rounds of {DUE:,}")
    beside(rates, name, {other: ALONE_TARGET})


def together(server: DatabaseServer, rounds: int) -> None:
    """Print how many deliveries a second are put and settled, where one process puts and another works."""
    ours, theirs = Database(server), Database(server)
    outbox = PostgresOutbox(ours.url, backlog=ROOMY)
    clients = (1, 2)
    with ExitStack() as stack:
        fleet = stack.enter_context(workers(ours.url, 1))
        loop = stack.enter_context(asyncio.Runner())
        loop.run(outbox.start())

        def put_and_work_by_hand(clients: int) -> float:
            _due(theirs, 2 * clients * BOTH_AT_ONCE)
            transactions = PUT // BOTH_AT_ONCE
            return pgbench.run(theirs, pgbench.BOTH, rows=BOTH_AT_ONCE, transactions=transactions, clients=clients)

        ways: dict[str, Callable[[], float]] = {"PostgresOutbox": partial(_put_and_work, loop, outbox, fleet, ours)}
        ways |= {f"pgbench, {number} at once": partial(put_and_work_by_hand, number) for number in clients}
        in_turns(ways, 1)
        rates = in_turns(ways, rounds)
        loop.run(outbox.aclose())
    print(f"put, claim and settle: a process with {BOTH_AT_ONCE} producers, a worker, {rounds} rounds of {PUT:,}")
    beside(rates, "PostgresOutbox", {f"pgbench, {number} at once": TOGETHER_TARGET for number in clients})


def _put_and_work(loop: asyncio.Runner, outbox: PostgresOutbox, fleet: Workers, database: Database) -> float:
    _due(database, 2 * BOTH_AT_ONCE)
    wanted = deliveries(PUT, _ORIGINS)
    set_aside()
    began = time.monotonic()
    fleet.begin(Order(BOTH_AT_ONCE, until=PUT))
    loop.run(produce(outbox, wanted, BOTH_AT_ONCE, Commits()))
    return PUT / (max(one.ended for one in fleet.finish()) - began)


def _due(database: Database, count: int = DUE) -> None:
    """So many are due, and nothing else is there."""
    database.empty()
    database.fill(count, _ORIGINS)
    database.settle_down()

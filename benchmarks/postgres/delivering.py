"""From end to end: web processes that store, workers as a user starts them, and receivers that answer at once."""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from typing import Final

from benchmarks.figures import in_turns
from benchmarks.load import application, generate, post, sink
from benchmarks.postgres.server import Database
from benchmarks.routes import INVOICE
from postgres_server import DatabaseServer

PROCESSES: Final = (1, 2, 4)
RECEIVERS: Final = 8
DUE: Final = 6_000

CONNECTIONS: Final = 64
SECONDS: Final = 3
"""Of load on the web process."""

PATIENCE: Final = 60
"""Seconds until the last one is settled."""

_LISTENING: Final = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query ILIKE 'LISTEN%'"""

_LEFT: Final = "SELECT count(*) FROM callback_middleware.queue"

_ENDED: Final = "SELECT count(*) FROM callback_middleware.result WHERE state = 'delivered'"


@dataclass(frozen=True, slots=True)
class Turn:
    """Deliveries a second from the first request until the last is settled, and requests a second; 0 for none."""

    delivered: float
    answered: float = 0.0


def measure(server: DatabaseServer, rounds: int) -> None:
    """Print what so many workers deliver: what was stored before, and what a web process stores meanwhile."""
    with ExitStack() as stack:
        count: Synchronized[int] = multiprocessing.Value("q", 0)
        ports = [stack.enter_context(sink(count)) for _ in range(RECEIVERS)]
        databases = {number: Database(server) for number in PROCESSES}
        web = {
            number: stack.enter_context(application("durable_postgres", database.url, core=None))
            for number, database in databases.items()
        }
        stored = {number: partial(_deliver, databases[number], number, ports) for number in PROCESSES}
        loaded = {
            number: partial(_load_and_deliver, databases[number], number, web[number], ports) for number in PROCESSES
        }
        turns = in_turns(stored, rounds)
        print(f"delivered, default sender, {RECEIVERS} receivers, {rounds} rounds of {DUE:,} that are due, nobody puts")
        _report(turns)
        turns = in_turns(loaded, rounds)
        print(f"the same while a web process is asked, {CONNECTIONS} connections, for {SECONDS} s")
        _report(turns)


def _report(turns: Mapping[int, Sequence[Turn]]) -> None:
    for number, measured in turns.items():
        delivered = statistics.median(one.delivered for one in measured)
        answered = statistics.median(one.answered for one in measured)
        line = f"  worker processes: {number}{delivered:9,.0f}/s"
        if answered:
            line += f"   requests answered {answered:7,.0f}/s"
        print(line, flush=True)


def _deliver(database: Database, processes: int, ports: Sequence[int]) -> Turn:
    database.empty()
    with _commands(database, processes):
        database.fill(DUE, [f"http://127.0.0.1:{port}" for port in ports])
        began = time.perf_counter()
        database.execute("SELECT pg_notify('callback_middleware', '')")
        return Turn(_until_all_ended(database, began))


def _load_and_deliver(database: Database, processes: int, port: int, receivers: Sequence[int]) -> Turn:
    database.empty()
    request = post(f"/invoices/?callback_url=http://127.0.0.1:{receivers[0]}/events", INVOICE)
    with _commands(database, processes):
        began = time.perf_counter()
        load = generate(port, request, connections=CONNECTIONS, seconds=SECONDS)
        return Turn(_until_all_ended(database, began), load.rate)


def _until_all_ended(database: Database, began: float) -> float:
    while database.execute(_LEFT) != [(0,)]:
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit(f"not everything was delivered within {PATIENCE} s")
        time.sleep(0.02)
    taken = time.perf_counter() - began
    ((ended,),) = database.execute(_ENDED)
    return float(ended) / taken


@contextmanager
def _commands(database: Database, processes: int) -> Iterator[None]:
    """So many workers, which have heard that nothing is due."""
    command = [
        *(sys.executable, "-m", "callback_middleware", "work", "--factory", "benchmarks.applications:durable_postgres"),
        *("--outbox", database.url, "--log-level", "error"),
    ]
    started = [subprocess.Popen(command) for _ in range(processes)]  # noqa: S603 - our own arguments
    try:
        while database.execute(_LISTENING) != [(processes,)]:
            if any(one.poll() is not None for one in started):
                raise SystemExit("a worker did not start")
            time.sleep(0.05)
        yield
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait()

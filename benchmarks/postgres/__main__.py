"""The outbox in PostgreSQL, beside ``pgbench`` on the same server, and what a delivery costs there.

``python -m benchmarks.postgres``. A private server that syncs its commits is started for the run; so it needs
PostgreSQL's programs. ``--parts`` prints some of it.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

from benchmarks.postgres import costs, delivering, puts, standing, working
from benchmarks.postgres.server import described, measured_server
from postgres_server import DatabaseServer

Part = Callable[[DatabaseServer, int], None]


def _puts(server: DatabaseServer, rounds: int) -> None:
    for producers in puts.TARGETS:
        puts.measure(server, producers, rounds)


def _work(server: DatabaseServer, rounds: int) -> None:
    for processes in working.PROCESSES:
        working.alone(server, processes, working.AT_ONCE, rounds)
    working.alone(server, 1, working.AT_ONCE // 2, rounds)


PARTS: Final[Mapping[str, Part]] = {
    "puts": _puts,
    "work": _work,
    "together": working.together,
    "standing": standing.measure,
    "costs": costs.measure,
    "delivering": delivering.measure,
}


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved turns of each side")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which; default all")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"Python {platform.python_version()}, asyncpg {version('asyncpg')}, {os.cpu_count()} cores")
    for number, name in enumerate(options.parts):
        # Each has a server of its own: what one leaves behind is nobody's.
        with measured_server(costs.SETTINGS if name == "costs" else None) as server:
            if number == 0:
                print(described(server))
            began = time.monotonic()
            PARTS[name](server, options.rounds)
            print(f"({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

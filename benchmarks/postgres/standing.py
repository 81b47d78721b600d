"""What a backlog costs those who have none: the time of a claim beside it, and without it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from benchmarks import claims
from benchmarks.claims import ALONE, AT_ONCE, CALLS, HANGING, HEALTHY, HOUR, MANY, STANDING, TARGET, Case, Turn
from benchmarks.deliveries import ROOMY
from benchmarks.figures import at_least, in_turns, ratio
from benchmarks.postgres.server import Database
from callback_middleware.destinations import Origin
from callback_middleware.outbox.postgres import PostgresOutbox
from postgres_server import DatabaseServer


@dataclass(frozen=True, slots=True)
class Backlog:
    """What else a database holds: so many deliveries, whose, and due how long from now."""

    count: int = 0
    to: Sequence[Origin] = HEALTHY
    due: timedelta = timedelta()


CASES: Final[Mapping[str, tuple[Case, Backlog]]] = {
    ALONE: (Case(), Backlog()),
    "100,000 parked": (Case(), Backlog(100_000, due=HOUR)),
    "1,000,000 parked": (Case(), Backlog(1_000_000, due=HOUR)),
    "100,000 due, one hanging receiver": (
        Case(busy=dict.fromkeys(HANGING, claims.PER_ORIGIN)),
        Backlog(100_000, HANGING, -HOUR),
    ),
    "10,000 receivers instead of 300": (Case(to=MANY), Backlog()),
}


def measure(server: DatabaseServer, rounds: int) -> None:
    """Print what the cases come to."""
    with asyncio.Runner() as loop:
        ways: dict[str, Callable[[], Turn]] = {}
        outboxes = []
        for name, (case, backlog) in CASES.items():
            database = _prepared(server, case, backlog)
            outbox = PostgresOutbox(database.url, backlog=ROOMY)
            outboxes.append(outbox)
            ways[name] = partial(_turn, loop, outbox, case)
        in_turns(ways, 1)
        turns = in_turns(ways, rounds)
        for outbox in outboxes:
            loop.run(outbox.aclose())
    print(f"claim, {AT_ONCE} at a time, {rounds} rounds of {CALLS} calls; rates as a share of nothing else's")
    base = turns[ALONE]
    for name, measured in turns.items():
        alone, both = [one.claims for one in measured], [one.both for one in measured]
        line = f"  {name:36}{statistics.median(alone):9,.0f}/s"
        if name != ALONE:
            line += f"  {at_least(ratio(alone, [one.claims for one in base]), TARGET)}"
            line += f"   with settlements {ratio(both, [one.both for one in base]):.2f}"
        print(line, flush=True)


def _prepared(server: DatabaseServer, case: Case, backlog: Backlog) -> Database:
    database = Database(server)
    if backlog.count:
        database.fill(backlog.count, backlog.to, due=backlog.due)
    database.fill(STANDING, case.to)
    database.settle_down()
    return database


def _turn(loop: asyncio.Runner, outbox: PostgresOutbox, case: Case) -> Turn:
    return loop.run(claims.turn(outbox, case))

"""What a backlog costs those who have none: claims a second beside it, and without it.

``python -m benchmarks.claims``. A worker claims 64 at a time from a few hundred receivers, and settles them delivered;
each commit of a settlement is on disk. The same with a backlog in the file that is none of its business, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.deliveries import ROOMY, deliveries, disk, fill, folder, origins, set_aside
from benchmarks.figures import at_least, in_turns, ratio
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Delivered, Delivery, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.outcomes import Accepted, Answer, Attempt
from callback_middleware.ports import Outbox

AT_ONCE: Final = 64
PER_ORIGIN: Final = 8
LEASE: Final = timedelta(seconds=30)
CALLS: Final = 50
"""In one turn."""

HOUR: Final = timedelta(hours=1)
HEALTHY: Final = origins(300)
HANGING: Final = origins(1, "hanging")
MANY: Final = origins(10_000, "many")
BACKLOG: Final = 100_000
STANDING: Final = 20_000
"""Due, of all receivers together, before and after every turn."""

TARGET: Final = 0.90
ALONE: Final = "nothing else"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a file holds.

    Attributes:
        to: The receivers whose deliveries are claimed.
        backlog: Makes what else it holds.
        busy: What the worker has in flight.
    """

    to: Sequence[Origin] = HEALTHY
    backlog: Callable[[], Sequence[Delivery]] = tuple
    busy: Mapping[Origin, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """Rates of one turn, in deliveries a second; claims by themselves, and with their settlements."""

    claims: float
    both: float


CASES: Final[Mapping[str, Case]] = {
    ALONE: Case(),
    "100,000 parked": Case(backlog=partial(deliveries, BACKLOG, HEALTHY, due=HOUR)),
    "100,000 due, one hanging receiver": Case(
        backlog=partial(deliveries, BACKLOG, HANGING, due=-HOUR), busy=dict.fromkeys(HANGING, PER_ORIGIN)
    ),
    "10,000 receivers instead of 300": Case(to=MANY),
}


async def turn(outbox: Outbox, case: Case) -> Turn:
    """Claim and settle for a while; what is claimed is put beforehand."""
    await fill(outbox, deliveries(AT_ONCE * CALLS, case.to))
    set_aside()
    claimed, began = 0.0, time.perf_counter()
    for _ in range(CALLS):
        asked = time.perf_counter()
        claims = await outbox.claim(AT_ONCE, LEASE, per_origin=PER_ORIGIN, busy=case.busy)
        claimed += time.perf_counter() - asked
        if len(claims) != AT_ONCE:
            raise SystemExit(f"{len(claims)} claims instead of {AT_ONCE}")
        if any(claim.delivery.origin in case.busy for claim in claims):
            raise SystemExit("something was claimed of a receiver whose slots are full")
        applied = await outbox.settle([delivered(claim) for claim in claims])
        if len(applied) != AT_ONCE:
            raise SystemExit(f"{len(applied)} settlements applied instead of {AT_ONCE}")
    count = AT_ONCE * CALLS
    return Turn(count / claimed, count / (time.perf_counter() - began))


def delivered(claim: Claim) -> Settlement:
    """What a dispatcher says of a delivery that was accepted."""
    attempt = Attempt(
        delivery=claim.delivery.id,
        run=claim.delivery.run,
        number=claim.attempt,
        started_at=SystemClock().now(),
        duration=timedelta(milliseconds=20),
        outcome=Accepted(Answer(200, (("content-type", "application/json"),), b'{"ok":true}')),
    )
    return Settlement(claim.fence, Delivered(), attempt)


async def prepared(path: Path, case: Case) -> SQLiteOutbox:
    """A file that holds what the case says."""
    outbox = SQLiteOutbox(path, backlog=ROOMY)
    await fill(outbox, case.backlog())
    await fill(outbox, deliveries(STANDING, case.to))
    await turn(outbox, case)
    return outbox


def measure(path: Path, rounds: int) -> None:
    """Print what the cases come to."""
    with asyncio.Runner() as loop:
        outboxes: dict[str, tuple[SQLiteOutbox, Case]] = {}
        for number, (name, case) in enumerate(CASES.items()):
            outboxes[name] = loop.run(prepared(path / f"{number}.db", case)), case
        turns = in_turns({name: partial(_run, loop, *both) for name, both in outboxes.items()}, rounds)
        for outbox, _ in outboxes.values():
            loop.run(outbox.aclose())
    print(f"claim and settle, {AT_ONCE} at a time, {rounds} rounds of {CALLS} calls")
    print(f"  {'beside it in the file':36}{'claim+settle':>14}{'claim alone':>13}  of nothing else")
    for name, measured in turns.items():
        both, alone = [one.both for one in measured], [one.claims for one in measured]
        line = f"  {name:36}{statistics.median(both):12,.0f}/s{statistics.median(alone):11,.0f}/s"
        if name != ALONE:
            base = turns[ALONE]
            line += f"  {at_least(ratio(both, [one.both for one in base]), TARGET)}"
            line += f"   claims alone {ratio(alone, [one.claims for one in base]):.2f}"
        print(line, flush=True)


def _run(loop: asyncio.Runner, outbox: SQLiteOutbox, case: Case) -> Turn:
    return loop.run(turn(outbox, case))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved turns of each case")
    rounds = parser.parse_args().rounds
    with folder() as path:
        print(disk(path))
        measure(path, rounds)


if __name__ == "__main__":
    main()

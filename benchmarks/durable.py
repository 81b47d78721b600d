"""What it costs a request that its callback is on disk before the client has the response.

``python -m benchmarks.durable``. The invoice route under uvicorn (asyncio), with an ``SQLiteOutbox``, beside the same
route that calls nobody; in turns, load from wrk. Two versions of the route: a handler that takes ``Callbacks`` and
sends, and one without a line for it, whose callback declares its payload. Then with a worker in another process that
delivers, and with the dispatcher in the application itself, where every delivery has to arrive.

The bare route never waits, so that no request outlives its turn of the loop, and Python's garbage collector finds
nothing that survives. Whoever waits for anything pays for its walks through all that is alive: one row is a
route that waits for a millisecond and calls nobody, and in two settings what lives since the start is set aside.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Final, Literal

from benchmarks import wrk
from benchmarks.deliveries import disk, folder
from benchmarks.figures import at_least, at_most, in_turns, ratio
from benchmarks.load import LOAD_CORE, SERVER_CORE, application, pin, sink, worker
from benchmarks.routes import INVOICE
from benchmarks.wrk import Measured

BARE: Final = "bare"
WAITING: Final = "waiting"
ROUTES: Final = {"durable": "handler sends", "durable_declared": "declared payload"}
SENDERS: Final = {"durable_aiohttp_sender": ("AiohttpSender", 0.45), "durable_default_sender": ("default sender", 0.30)}

CONNECTIONS: Final = 128
"""Where somebody delivers."""

SECONDS: Final = 2
"""Of one turn."""

REST: Final = 1.2
"""Seconds after a turn that wrote: an idle outbox tidies, which must not fall into another's turn."""

SLOWER: Final = 2.5
"""Times the bare route's p99 that is allowed."""

DELIVERY_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the routes are served and loaded, and the share of the bare route's rate to reach."""

    connections: int
    target: float
    http: Literal["h11", "httptools"] = "h11"
    pinned: bool = False
    frozen: bool = False

    def __str__(self) -> str:
        where = "application on one core, load on the other" if self.pinned else "no process pinned"
        return f"{self.http}, {self.connections} connections, {where}" + (", gc.freeze()" if self.frozen else "")


SETTINGS: Final[Sequence[Setting]] = [
    Setting(connections=128, target=0.80),
    Setting(connections=16, target=0.70),
    Setting(connections=128, target=0.72, http="httptools", pinned=True),
    Setting(connections=128, target=0.80, frozen=True),
    Setting(connections=16, target=0.70, frozen=True),
]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one stretch of load came to.

    Attributes:
        load: What the clients saw.
        overall: Deliveries per second from the first request until the last is settled; 0 where nobody delivers.
        delivered: Their share of what was stored.
    """

    load: Measured
    overall: float = 0.0
    delivered: float = 0.0


def stored(place: Path, setting: Setting, rounds: int) -> None:
    """Print what storing costs, while nobody delivers."""
    core = SERVER_CORE if setting.pinned else None
    with ExitStack() as servers:
        ports = {
            name: servers.enter_context(
                application(name, *_file(place, name), http=setting.http, core=core, frozen=setting.frozen)
            )
            for name in (BARE, WAITING, *ROUTES)
        }
        with _on(LOAD_CORE if setting.pinned else None):
            turns = _measure({name: partial(_load, port, setting.connections) for name, port in ports.items()}, rounds)
    print(f"stored, and nobody delivers: {setting}, {rounds} rounds of {SECONDS} s")
    report(turns, {WAITING: "no callback, waits", **ROUTES}, dict.fromkeys(ROUTES, setting.target))


def delivered(place: Path, rounds: int, *, inside: bool) -> None:
    """Print what storing and delivering cost, by the application itself or by a process of its own beside it."""
    labels = {name: label for name, (label, _) in SENDERS.items()} if inside else ROUTES
    with ExitStack() as servers:
        count: Synchronized[int] = multiprocessing.Value("q", 0)
        receiver = servers.enter_context(sink(count))
        turns = {BARE: partial(_load, servers.enter_context(application(BARE, core=None)), CONNECTIONS)}
        for name in labels:
            (file,) = _file(place, name)
            port = servers.enter_context(application(name, file, core=None))
            if not inside:
                servers.enter_context(worker(file))
            turns[name] = partial(_load_and_deliver, port, receiver, file)
        measured = _measure(turns, rounds)
    who = "the application delivers" if inside else "a worker process delivers"
    print(f"stored, and {who}: h11, {CONNECTIONS} connections, no process pinned, {rounds} rounds of {SECONDS} s")
    report(measured, labels, {name: target for name, (_, target) in SENDERS.items()} if inside else {})


def _load(port: int, connections: int) -> Turn:
    # Nobody delivers what is stored, so nobody need listen there.
    return Turn(wrk.load(port, _path(9), INVOICE, connections=connections, seconds=SECONDS))


def _load_and_deliver(port: int, receiver: int, file: Path) -> Turn:
    before, began = _progress(file), time.perf_counter()
    load = wrk.load(port, _path(receiver), INVOICE, connections=CONNECTIONS, seconds=SECONDS)
    while (now := _progress(file)).left and time.perf_counter() - began < DELIVERY_SECONDS:
        time.sleep(0.05)
    arrived = now.delivered - before.delivered
    return Turn(load, arrived / (time.perf_counter() - began), arrived / (now.put - before.put))


@dataclass(frozen=True, slots=True)
class _Progress:
    put: int = 0
    delivered: int = 0
    left: int = 0


def _progress(file: Path) -> _Progress:
    """What became of what is in the file; nothing, as long as there is none."""
    if not file.exists():
        return _Progress()
    with closing(sqlite3.connect(file)) as connection:
        ((put, ended, left),) = connection.execute(
            "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM result WHERE state = 'delivered'), "
            "(SELECT count(*) FROM queue)"
        ).fetchall()
    return _Progress(put, ended, left)


def _measure(turns: Mapping[str, partial[Turn]], rounds: int) -> Mapping[str, Sequence[Turn]]:
    def turn(name: str) -> Turn:
        result = turns[name]()
        if name not in (BARE, WAITING):
            time.sleep(REST)
        return result

    in_turns({name: partial(turn, name) for name in turns}, 1)
    return in_turns({name: partial(turn, name) for name in turns}, rounds)


def report(turns: Mapping[str, Sequence[Turn]], labels: Mapping[str, str], targets: Mapping[str, float]) -> None:
    """Print one row for each way, beside the bare route."""
    bare = [turn.load for turn in turns[BARE]]
    bare_p99 = statistics.median(load.p99 for load in bare)
    print(f"  {BARE:20}{statistics.median(load.rate for load in bare):8,.0f} req/s  p99 {bare_p99:6.1f} ms")
    for name, label in labels.items():
        loads = [turn.load for turn in turns[name]]
        share = ratio([load.rate for load in loads], [load.rate for load in bare])
        slower = ratio([load.p99 for load in loads], [load.p99 for load in bare])
        p99 = statistics.median(load.p99 for load in loads)
        print(
            f"  {label:20}{statistics.median(load.rate for load in loads):8,.0f} req/s  p99 {p99:6.1f} ms   of bare "
            + (at_least(share, targets[name]) if name in targets else f"{share:6.2f}")
        )
        if name != WAITING:
            print(f"  {'':20}p99, times bare {at_most(slower, SLOWER)}")
        if any(turn.overall for turn in turns[name]):
            overall = statistics.median(turn.overall for turn in turns[name])
            arrived = min(turn.delivered for turn in turns[name])
            times = ratio([turn.overall for turn in turns[name]], [load.rate for load in bare])
            print(f"  {'':20}delivered {arrived:.1%}; until the last one {overall:,.0f} a second, {times:.2f} of bare")
    sys.stdout.flush()


def _file(place: Path, name: str) -> Sequence[Path]:
    return () if name in (BARE, WAITING) else (place / f"{name}.db",)


def _path(receiver: int) -> str:
    return f"/invoices/?callback_url=http://127.0.0.1:{receiver}/events"


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    pin(core)
    try:
        yield
    finally:
        pin(None)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved turns of each route")
    rounds = parser.parse_args().rounds
    with folder() as place:
        print(disk(place))
    for setting in SETTINGS:
        with folder() as place:
            stored(place, setting, rounds)
    for inside in (False, True):
        with folder() as place:
            delivered(place, rounds, inside=inside)


if __name__ == "__main__":
    main()

"""Worker processes without HTTP: they claim, and settle at once, as often as they are told to."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Final

from benchmarks.claims import LEASE, PER_ORIGIN, delivered
from benchmarks.deliveries import ROOMY, set_aside
from callback_middleware.outbox.postgres import PostgresOutbox

PATIENCE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        at_once: How many it claims in one call.
        until: It goes on until it has settled so many; None for until a claim finds nothing.
    """

    at_once: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How many a worker has settled, and when, by the machine's monotonic clock in seconds."""

    count: int
    began: float
    ended: float


class Workers:
    """Processes that wait for orders.

    Args:
        lines: To each of them.
    """

    def __init__(self, lines: Sequence[Connection]) -> None:
        self._lines = lines

    def begin(self, order: Order) -> None:
        for line in self._lines:
            line.send(order)

    def finish(self) -> Sequence[Done]:
        return [line.recv() for line in self._lines]

    def run(self, order: Order) -> float:
        """Deliveries a second, of all together."""
        self.begin(order)
        return rate(self.finish())


def rate(done: Sequence[Done]) -> float:
    """From the first one's beginning to the last one's end."""
    return sum(one.count for one in done) / (max(one.ended for one in done) - min(one.began for one in done))


@contextmanager
def workers(url: str, count: int) -> Iterator[Workers]:
    """So many of them, connected."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        lines = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(url, theirs), daemon=True)
            process.start()
            stack.callback(process.join)
            # Its end alone is left: should the process end, nobody waits for what it says.
            theirs.close()
            lines.append(ours)
        try:
            for line in lines:
                line.recv()
            yield Workers(lines)
        finally:
            for line in lines:
                line.close()


def _serve(url: str, line: Connection) -> None:
    logging.disable(logging.CRITICAL)
    outbox = PostgresOutbox(url, backlog=ROOMY)
    with asyncio.Runner() as loop:
        loop.run(outbox.start())
        # What a process asks once: the retry policies, and how its statements are planned.
        loop.run(_work(outbox, Order(1)))
        line.send(None)
        with suppress(EOFError):
            while True:
                order = line.recv()
                set_aside()
                line.send(loop.run(_work(outbox, order)))
        loop.run(outbox.aclose())


async def _work(outbox: PostgresOutbox, order: Order) -> Done:
    count, began = 0, time.monotonic()
    while order.until is None or count < order.until:
        claims = await outbox.claim(order.at_once, LEASE, per_origin=PER_ORIGIN, busy={})
        if claims:
            applied = await outbox.settle([delivered(claim) for claim in claims])
            if len(applied) != len(claims):
                raise RuntimeError(f"{len(applied)} settlements applied instead of {len(claims)}")
            count += len(claims)
        elif order.until is None:
            break
        else:
            await outbox.wait(PATIENCE)
    return Done(count, began, time.monotonic())

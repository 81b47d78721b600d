"""Deliveries to put, as the invoice route makes them, and the file to put them in."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from callback_middleware.backlog import BacklogLimits
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.destinations import Origin
from callback_middleware.identifiers import uuid7
from callback_middleware.outbox.sqlite.mounts import file_system
from callback_middleware.ports import Batch, Outbox
from callback_middleware.retry import RetryPolicy

EVENT: Final = json.dumps({"description": "Payment celebration", "paid": True}).encode()
HEADERS: Final = (("content-type", "application/json"),)
RETRY: Final = RetryPolicy()

ROOMY: Final = BacklogLimits(per_origin=10**9, per_owner=10**9, newcomer=10**9)
"""Bounds that are looked at, as everybody's are, and not reached where nobody delivers."""


def origins(count: int, name: str = "receiver") -> Sequence[Origin]:
    """So many receivers."""
    return tuple(f"https://{name}-{number}.example" for number in range(count))


def deliveries(
    count: int, to: Sequence[Origin], *, due: timedelta = timedelta(), deadline: timedelta = DEADLINE
) -> list[Delivery]:
    """New deliveries to these receivers in turn, due so long from now; with a negative ``due``, since then."""
    now = SystemClock().now()
    return [
        Delivery(
            id=uuid7(now, os.urandom(10)),
            operation="POST /invoices/",
            callback="invoice_notification",
            method="POST",
            url=f"{(origin := to[number % len(to)])}/events/invoices/{number}",
            origin=origin,
            headers=HEADERS,
            body=EVENT,
            created_at=now,
            due_at=now + due,
            retry=RETRY,
            deadline=deadline,
        )
        for number in range(count)
    ]


async def fill(outbox: Outbox, wanted: Sequence[Delivery]) -> None:
    """Put many, some hundreds in each commit."""
    for start in range(0, len(wanted), 500):
        await outbox.put(Batch(wanted[start : start + 500]))


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for files that are measured, gone afterwards: where ``TMPDIR`` says, which should be a disk."""
    with tempfile.TemporaryDirectory(prefix="callback-benchmark-") as name:
        yield Path(name)


def disk(path: Path) -> str:
    """What the files lie on: where nothing is synced to, a ratio says nothing."""
    return f"files on {file_system(path.resolve()) or 'a disk of unknown kind'}"


def set_aside() -> None:
    """Keep what was prepared out of later garbage collections: it is the benchmark's, and nobody's cost."""
    gc.collect()
    gc.freeze()

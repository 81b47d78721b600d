"""What is found in an SQLite outbox after the power was cut, against what it had promised."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Delivery
from callback_middleware.errors import OutboxError
from callback_middleware.selection import Selection
from power_load import Load

AFTERWARDS: Final = 10**6
"""The seed of what is put after the cut; no load before it has this one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong.

    Attributes:
        lost: Promises, as ``power_load.py`` writes them down, that are not kept.
        broken: What must hold whatever was promised: the outbox works on, its batches are whole, its file is sound.
    """

    lost: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def judge(path: Path, promises: Iterable[str], *, backend: str = "asyncio") -> Verdict:
    """Open the outbox that a power cut left, have it work on, and look for all that was promised before and since."""
    outbox, expected = SQLiteOutbox(path, backlog=None), list(promises)

    async def work_on() -> Sequence[Delivery]:
        try:
            await Load(outbox, expected.append, AFTERWARDS).run(puts=8)
            return await everything(outbox)
        finally:
            await outbox.aclose()

    deliveries: Sequence[Delivery] = ()
    broken: tuple[str, ...] = ()
    try:
        deliveries = anyio.run(work_on, backend=backend)
    except* OutboxError as errors:
        broken = tuple(map(str, errors.exceptions))
    return Verdict(broken_promises(expected, deliveries), broken + unsound(path) + torn_batches(deliveries))


async def everything(outbox: SQLiteOutbox) -> Sequence[Delivery]:
    """All deliveries that an outbox remembers."""
    page = await outbox.search(Selection(), limit=1000)
    deliveries = list(page.deliveries)
    while page.more is not None:
        page = await outbox.search(Selection(), limit=1000, after=page.more)
        deliveries += page.deliveries
    return deliveries


def broken_promises(promises: Iterable[str], deliveries: Iterable[Delivery]) -> tuple[str, ...]:
    """The promises that these deliveries do not keep."""
    kept = {f"{delivery.state} {delivery.id}" for delivery in deliveries}
    kept |= {f"put {delivery.tags['batch']}" for delivery in deliveries}
    return tuple(promise for promise in promises if promise not in kept)


def unsound(path: Path) -> tuple[str, ...]:
    """What SQLite finds wrong with a file."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return tuple(found for (found,) in connection.execute("PRAGMA integrity_check") if found != "ok")
    except sqlite3.DatabaseError as error:
        return (str(error),)


def torn_batches(deliveries: Iterable[Delivery]) -> tuple[str, ...]:
    """The batches of which a part is there."""
    found = Counter((delivery.tags["batch"], delivery.tags["of"]) for delivery in deliveries)
    return tuple(
        f"{count} of the {of} deliveries of batch {batch}" for (batch, of), count in found.items() if count != int(of)
    )

"""Nobody waits for ever for a writer that is held up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from callback_middleware import Delivery, RetryPolicy, SQLiteOutbox
from callback_middleware.clock import SystemClock
from callback_middleware.errors import OutboxUnavailable, OutboxUncertain
from callback_middleware.identifiers import uuid7
from callback_middleware.outbox import gathering
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch


class HoldUp:
    """A job that keeps the writer's thread until it is let go."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def run(self, store: Store) -> None:
        self.over.wait()

    def done(self, error: BaseException | None) -> None:
        """Nobody waits for it."""


@contextmanager
def held_up(outbox: SQLiteOutbox) -> Iterator[None]:
    """The writer does nothing, and nobody has any patience."""
    hold_up = HoldUp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "PATIENCE", 0.05)
        outbox._session.submit(hold_up)
        try:
            yield
        finally:
            hold_up.over.set()


def batch() -> Batch:
    now = SystemClock().now()
    delivery = Delivery(
        id=uuid7(now, os.urandom(10)),
        operation="POST /",
        callback="event",
        method="POST",
        url="https://here.example/",
        origin="https://here.example:443",
        created_at=now,
        due_at=now,
        retry=RetryPolicy(),
        deadline=timedelta(seconds=15),
    )
    return Batch([delivery])


async def test_a_put_that_the_writer_has_is_perhaps_stored(tmp_path: Path) -> None:
    outbox, put = SQLiteOutbox(tmp_path / "callbacks.db"), batch()
    await outbox.counts()
    with held_up(outbox), pytest.raises(OutboxUncertain, match="did not say within"):
        await outbox.put(put)

    assert list((await outbox.put(put)).stored) == [], "it was stored once the writer came to it"
    await outbox.aclose()


async def test_a_put_that_never_reached_the_writer_is_certainly_not_stored(tmp_path: Path) -> None:
    outbox, first, second = SQLiteOutbox(tmp_path / "callbacks.db"), batch(), batch()
    await outbox.counts()

    async def put_first() -> None:
        with pytest.raises(OutboxUncertain):
            await outbox.put(first)

    with held_up(outbox):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_first)
            # Once it has gone over, what comes next gathers until the writer is back.
            while outbox._session.desk()._away is None:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(OutboxUnavailable, match="nothing was stored"):
                await outbox.put(second)

    assert list((await outbox.put(second)).stored) == [second.deliveries[0].id]
    await outbox.aclose()


async def test_an_outbox_that_was_held_up_works_on(tmp_path: Path) -> None:
    outbox = SQLiteOutbox(tmp_path / "callbacks.db")
    await outbox.counts()
    with held_up(outbox), pytest.raises(OutboxUncertain):
        await outbox.put(batch())

    with anyio.fail_after(30):
        reports = [await outbox.put(batch()) for _ in range(3)]

    assert [len(report.stored) for report in reports] == [1, 1, 1]
    await outbox.aclose()

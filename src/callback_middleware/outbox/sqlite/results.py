"""How runs end: out of the queue, and into the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.states import State


class Ended(NamedTuple):
    """The end of one run of one delivery; the columns of a result."""

    delivery: int
    run: int
    state: State
    ended_at: int
    attempts: int
    fence: int
    reason: str


def finish(store: Store, ended: Sequence[Ended]) -> None:
    """Take these out of the queue, and say how they ended. In a transaction."""
    if not ended:
        return
    marks = ", ".join("?" * len(ended))
    store.run(f"DELETE FROM queue WHERE seq IN ({marks})", [one.delivery for one in ended])  # noqa: S608 - marks
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(ended))
    store.run(
        f"INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason) VALUES {values}",  # noqa: S608
        [column for one in ended for column in one],
    )

"""What operators change: a delivery is cancelled, or begins a new run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.sqlite.reading import not_found, read_delivery
from callback_middleware.outbox.sqlite.results import Ended, finish
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.states import Event, advance


def cancel(store: Store, delivery: UUID) -> Delivery:
    """End a delivery that is pending or sending. Raises ``DeliveryNotFound`` or ``IllegalTransition``."""
    with store.transaction():
        before = _read(store, delivery)
        state = advance(before.state, Event.CANCEL)
        ((seq, fence),) = store.fetch(
            "SELECT seq, fence FROM queue WHERE seq = (SELECT seq FROM delivery WHERE id = ?)", (delivery.bytes,)
        )
        finish(store, [Ended(seq, before.run, state, store.ground.now(), before.attempts, fence, before.reason)])
        return _read(store, delivery)


def replay(store: Store, delivery: UUID) -> Delivery:
    """Begin a new run, due now. Raises ``DeliveryNotFound`` or ``IllegalTransition``."""
    with store.transaction():
        before = _read(store, delivery)
        advance(before.state, Event.REPLAY)
        _begin_run(store, before, store.ground.now())
        return _read(store, delivery)


def replay_each(store: Store, *, ids: Sequence[UUID], counted: Counter[Origin], spacing: timedelta) -> int:
    """Begin new runs of those that have ended, of each origin so far apart. Returns how many.

    Args:
        store: The file.
        ids: Which ones; what is still to be delivered, or was forgotten meanwhile, is left out.
        counted: How many of each origin were begun before; it is added to.
        spacing: Between two of one origin.
    """
    now, begun = store.ground.now(), 0
    with store.transaction():
        for delivery in ids:
            if not store.fetch(
                "SELECT 1 FROM result WHERE latest = 1 AND delivery = (SELECT seq FROM delivery WHERE id = ?)",
                (delivery.bytes,),
            ):
                continue
            before = _read(store, delivery)
            _begin_run(store, before, now, now + counted[before.origin] * microseconds(spacing))
            counted[before.origin] += 1
            begun += 1
    return begun


def _read(store: Store, delivery: UUID) -> Delivery:
    return read_delivery(store.connection, delivery, store.policy)


def _begin_run(store: Store, before: Delivery, now: int, due: int | None = None) -> None:
    due = now if due is None else due
    rows: list[Any] = store.fetch(
        "SELECT seq, origin_key, fence, subscription_owner FROM delivery JOIN result ON delivery = seq AND latest = 1 "
        "WHERE id = ?",
        (before.id.bytes,),
    )
    if not rows:
        raise not_found(before.id)
    ((seq, origin_key, fence, owner),) = rows
    store.run("UPDATE result SET latest = 0 WHERE delivery = ? AND latest = 1", (seq,))
    store.run(
        "INSERT INTO queue (seq, origin_key, due_at, ready, fence, run, owner) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, origin_key, due, due <= now, fence, before.run + 1, owner),
    )
    age = before.retry.max_age
    if age is not None:
        store.run("UPDATE delivery SET expires_at = ? WHERE seq = ?", (due + microseconds(age), seq))

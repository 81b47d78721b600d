"""Who finds room in the file: what a put brings against what is live already, in the same or an earlier transaction."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal, refusal, tightest
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.sqlite.rows import DELIVERY_COLUMNS, Row
from callback_middleware.outbox.sqlite.statements import Statements

_AT_ONCE: Final = 500
"""Values that one statement names."""

_STANDING: Final = "SELECT origin_key, live, accepted_at FROM origin WHERE origin_key IN (%s)"

_ID: Final = itemgetter(DELIVERY_COLUMNS.index("id"))
_KEY: Final = itemgetter(DELIVERY_COLUMNS.index("origin_key"))


def refusals(store: Statements, deliveries: Sequence[Delivery], rows: Sequence[Row]) -> dict[UUID, Refusal]:
    """Which of these find no room, all of them sent at once, and why.

    It is one look for all, or none where everybody is known to have plenty. An id that is known needs no room.
    """
    limits = store.limits
    if limits is None:
        return {}
    wanted = Counter(map(_KEY, rows))
    unsure = store.plenty.unsure(wanted)
    crowded = _crowded(store, limits, wanted, unsure) if unsure else {}
    if not crowded:
        return {}
    ids = [_ID(row) for row in rows if _KEY(row) in crowded]
    there = {id_ for (id_,) in _read(store, "SELECT id FROM delivery WHERE id IN (%s)", ids)}
    refused: dict[UUID, Refusal] = {}
    for delivery, row in zip(deliveries, rows, strict=True):
        key, id_ = _KEY(row), _ID(row)
        if key not in crowded or id_ in there:
            continue
        live, accepted = crowded[key]
        full = refusal(limits, delivery.origin, accepted=accepted, live=live)
        if full is None:
            there.add(id_)
            crowded[key] = live + 1, accepted
        else:
            refused[delivery.id] = full
    return refused


def _crowded(
    store: Statements, limits: BacklogLimits, wanted: Mapping[int, int], unsure: Collection[int]
) -> dict[int, tuple[int, bool]]:
    """Those of these that have no room for so many; how many are live of each, and whether it ever accepted any."""
    known = {key: (live, accepted_at > 0) for key, live, accepted_at in _read(store, _STANDING, unsure)}
    crowded = {}
    for key in unsure:
        live, accepted = known.get(key, (0, False))
        holds = tightest(limits, accepted=accepted)
        spare = (sys.maxsize if holds is None else holds[1]) - live - wanted[key]
        if spare < 0:
            crowded[key] = live, accepted
        else:
            store.plenty.learn(key, spare)
    return crowded


def refusal_of(store: Statements, delivery: Delivery) -> Refusal | None:
    """Why one more finds no room, in a transaction; None if it does."""
    if store.limits is None:
        return None
    key = origin_key(delivery.origin)
    store.plenty.forget(key)
    rows = store.fetch("SELECT live, accepted_at FROM origin WHERE origin_key = ?", (key,))
    live, accepted_at = rows[0] if rows else (0, 0)
    return refusal(store.limits, delivery.origin, accepted=accepted_at > 0, live=live, owned=_owned(store, delivery))


def _owned(store: Statements, delivery: Delivery) -> int:
    """How many are live of the owner of its subscription; 0 where there is none."""
    if delivery.subscription is None or delivery.subscription.key.owner is None:
        return 0
    rows = store.fetch("SELECT live FROM owner WHERE owner = ?", (delivery.subscription.key.owner,))
    return int(rows[0][0]) if rows else 0


def _read(store: Statements, statement: str, values: Collection[Any]) -> Iterator[Any]:
    """What a statement says of all these values, some at a time."""
    given = list(values)
    for start in range(0, len(given), _AT_ONCE):
        part = given[start : start + _AT_ONCE]
        yield from store.fetch(statement % ", ".join("?" * len(part)), part)

"""Who finds room in the file: what a put brings against what is live already, in the same or an earlier transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from callback_middleware.backlog import Refusal, refusal
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.crowding import Standing, crowded, refused
from callback_middleware.outbox.sqlite.statements import Statements

_AT_ONCE: Final = 500
"""Values that one statement names."""

_STANDING: Final = "SELECT origin_key, live, accepted_at > 0 FROM origin WHERE origin_key IN (%s)"

_NOTHING: Final = Standing(0, accepted=False)


def refusals(store: Statements, deliveries: Sequence[Delivery]) -> Mapping[UUID, Refusal]:
    """Which of these find no room, all of them sent at once, and why.

    It is one look for all, or none where everybody is known to have plenty. An id that is known needs no room.
    """
    limits = store.limits
    if limits is None:
        return {}
    wanted = Counter(origin_key(delivery.origin) for delivery in deliveries)
    unsure = store.plenty.unsure(wanted)
    if not unsure:
        return {}
    standings = dict.fromkeys(unsure, _NOTHING)
    standings.update({key: Standing(live, bool(accepted)) for key, live, accepted in _read(store, _STANDING, unsure)})
    full = crowded(store.plenty, limits, wanted, standings)
    if not full:
        return {}
    ids = [delivery.id.bytes for delivery in deliveries if origin_key(delivery.origin) in full]
    known = {UUID(bytes=id_) for (id_,) in _read(store, "SELECT id FROM delivery WHERE id IN (%s)", ids)}
    return refused(limits, deliveries, full, known)


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

"""What the file says of deliveries: the statements that operators' questions become."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from callback_middleware.outbox.sqlite.reader import Policies
from callback_middleware.outbox.sqlite.rows import Row, delivery_of, instant, queued_state, time_at
from callback_middleware.selection import Selection
from callback_middleware.states import State

MOST_AT_ONCE: Final = 500
"""Rows that one statement reads."""

MOST_LOOKED_AT: Final = 5_000
"""Rows that one statement looks at, whatever it finds: tens of milliseconds."""

_WIDTH: Final = len(DELIVERY_COLUMNS)
_COLUMNS: Final = (
    f"{', '.join(f'delivery.{name}' for name in DELIVERY_COLUMNS)}, "
    "queue.due_at, queue.leased, queue.attempts, queue.run, queue.reason, "
    "result.state, result.attempts, result.run, result.reason"
)
_JOINED: Final = (
    "delivery LEFT JOIN queue ON queue.seq = delivery.seq "
    "LEFT JOIN result ON result.delivery = delivery.seq AND result.latest = 1"
)
_GET: Final = f"SELECT {_COLUMNS} FROM {_JOINED} WHERE delivery.id = ?"  # noqa: S608 - names of ours
_COUNTS: Final = (
    "SELECT iif(leased, 'sending', 'pending'), count(*) FROM queue GROUP BY leased UNION ALL "
    "SELECT state, count(*) FROM result INDEXED BY result_state WHERE latest = 1 GROUP BY state"
)

_STATE: Final = "CASE WHEN queue.seq IS NULL THEN result.state WHEN queue.leased THEN 'sending' ELSE 'pending' END"

FEW: Final = 2000
"""Rows that are sorted for every page."""

# Where few of many are looked for, the way to them begins with what only they have. Where there are many, that would
# sort all of them for every page; the index of ids has them in order.
_SCARCE: Final = {
    frozenset({State.DEAD, State.CANCELLED}): "SELECT delivery FROM result INDEXED BY result_state "
    "WHERE latest = 1 AND state IN ('dead', 'cancelled')",
    frozenset({State.PENDING, State.SENDING}): "SELECT seq FROM queue",
}


def read_delivery(connection: sqlite3.Connection, delivery: UUID, policies: Policies) -> Delivery:
    """One delivery. Raises :class:`DeliveryNotFound`."""
    rows = connection.execute(_GET, (delivery.bytes,)).fetchall()
    if not rows:
        raise not_found(delivery)
    return _delivery(rows[0], policies)


def not_found(delivery: UUID) -> DeliveryNotFound:
    return DeliveryNotFound(f"no delivery has the id {delivery}")


def read_counts(connection: sqlite3.Connection) -> dict[State, int]:
    """How many deliveries are in each state, all at one moment."""
    counts = dict.fromkeys(State, 0)
    for state, count in connection.execute(_COUNTS).fetchall():
        counts[State(state)] = count
    return counts


def select(
    connection: sqlite3.Connection, selection: Selection, after: UUID | None, policies: Policies, *, at_once: int
) -> Iterator[Delivery]:
    """The selected deliveries, the newest first. It may be left at any time.

    Nothing is open between two statements, the first of which reads ``at_once`` rows, and none looks at more than
    :data:`MOST_LOOKED_AT`: a search that takes long must not keep the write-ahead log from being reset. What is put or
    forgotten meanwhile moves nothing to another page.

    What the statement leaves in, :meth:`Selection.matches` decides: SQLite's idea of upper and lower case, and a tag's
    way of writing, are not to be relied on.
    """
    fixed, values = _conditions(selection)
    among = _among(connection, selection)
    fixed += among
    before = None if after is None else after.bytes
    look_at = at_once
    while True:
        conditions, parameters = [*fixed], [*values]
        if before is not None:
            conditions.append("delivery.id < ?")
            parameters.append(before)
        # Among a few there is no long way.
        until = None if among else _far_enough(connection, before, look_at)
        if until is not None:
            conditions.append("delivery.id >= ?")
            parameters.append(until)
        where = " AND ".join(conditions) or "1"
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM {_JOINED} WHERE {where} ORDER BY delivery.id DESC LIMIT ?",  # noqa: S608 - ours
            (*parameters, at_once),
        ).fetchall()
        for row in rows:
            delivery = _delivery(row, policies)
            if selection.matches(delivery):
                yield delivery
        if len(rows) == at_once:
            before = rows[-1][0]
        elif until is None:
            return
        else:
            before = until
        # Few were what was looked for.
        at_once = MOST_AT_ONCE
        look_at = min(max(4 * look_at, at_once), MOST_LOOKED_AT)


def _far_enough(connection: sqlite3.Connection, before: bytes | None, rows: int) -> bytes | None:
    """The id at which a statement is to end that begins below another; None where it may go to the end."""
    found = connection.execute(
        "SELECT id FROM delivery WHERE id < coalesce(?, x'ffffffffffffffffffffffffffffffffff') "
        "ORDER BY id DESC LIMIT 1 OFFSET ?",
        (before, rows),
    ).fetchall()
    return found[0][0] if found else None


def _among(connection: sqlite3.Connection, selection: Selection) -> list[str]:
    """The condition that those looked for are among a few; none where they are not."""
    for states, rows in _SCARCE.items():
        if selection.states and states.issuperset(selection.states):
            (count,) = connection.execute(f"SELECT count(*) FROM ({rows} LIMIT ?)", (FEW + 1,)).fetchone()  # noqa: S608
            return [f"delivery.seq IN ({rows})"] if count <= FEW else []
    return []


def _conditions(selection: Selection) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []
    if selection.states:
        conditions.append(f"{_STATE} IN ({', '.join('?' * len(selection.states))})")
        parameters.extend(selection.states)
    if selection.callback is not None:
        conditions.append("delivery.callback = ?")
        parameters.append(selection.callback)
    if selection.host is not None:
        conditions.append("instr(delivery.origin, ?)")
        parameters.append(selection.host)
    if selection.since is not None:
        conditions.append("delivery.created_at >= ?")
        parameters.append(instant(selection.since))
    if selection.until is not None:
        conditions.append("delivery.created_at < ?")
        parameters.append(instant(selection.until))
    if selection.text is not None and _is_plain(selection.text):
        conditions.append(
            "instr(lower(delivery.url || ' ' || delivery.operation || ' ' || coalesce(delivery.tags, '') || ' ' || "
            "coalesce(queue.reason, result.reason, '')), ?)"
        )
        parameters.append(selection.text.lower())
    return conditions, parameters


def _is_plain(text: str) -> bool:
    """Whether a text is written in JSON as it is, and SQLite knows its lower case."""
    return text.isascii() and text.isprintable() and not set(text) & {'"', "\\"}


def _delivery(row: Row, policies: Policies) -> Delivery:
    due_at, leased, attempts, run, reason = row[_WIDTH : _WIDTH + 5]
    if due_at is not None:
        queued = {"state": queued_state(leased), "due_at": time_at(due_at)}
        return delivery_of(row, policies(row[12]), attempts=attempts, run=run, reason=reason, **queued)
    state, attempts, run, reason = row[_WIDTH + 5 :]
    return delivery_of(row, policies(row[12]), state=State(state), attempts=attempts, run=run, reason=reason)

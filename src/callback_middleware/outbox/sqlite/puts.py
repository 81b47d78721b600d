"""Storing what requests staged: many batches in one commit, in one statement if they are plain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final
from uuid import UUID

from callback_middleware.backlog import Refusal
from callback_middleware.delivery import Delivery
from callback_middleware.errors import OutboxError
from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.dedupe import REMEMBERED_FOR
from callback_middleware.outbox.gathering import Result
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from callback_middleware.outbox.sqlite.faults import doubt, is_failure
from callback_middleware.outbox.sqlite.room import refusal_of, refusals
from callback_middleware.outbox.sqlite.rows import Row, delivery_row, instant
from callback_middleware.outbox.sqlite.statements import Statements
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.outbox.sqlite.subscribing import end, subscribe, subscribed
from callback_middleware.ports import Batch, PutReport
from callback_middleware.subscription import Notification

MOST_ROWS: Final = 500
"""In one statement: 19 columns of each stay below the number of parameters that SQLite takes."""

_ONE: Final = f"({', '.join('?' * len(DELIVERY_COLUMNS))})"
_INSERT: Final = f"INSERT INTO delivery ({', '.join(DELIVERY_COLUMNS)}) VALUES "  # noqa: S608 - names of ours
_UNLESS_KNOWN: Final = " ON CONFLICT (id) DO NOTHING"

_STATEMENTS: Final[dict[int, str]] = {}


def put_all(store: Store, batches: Sequence[Batch]) -> Sequence[Result]:
    """Store every batch whole or not at all, all in one commit. One result for each, in their order.

    Raises:
        OutboxError: For all of them, as :meth:`~callback_middleware.ports.Outbox.put` does.
    """
    store.check_file()
    deliveries = [delivery for batch in batches for delivery in batch.deliveries]
    if all(map(_is_plain, batches)):
        try:
            return _put_plain(store, batches, deliveries)
        except OutboxError:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be written must not take its neighbours with it
            return _put_apart(store, batches)
    return _put_apart(store, batches)


def _is_plain(batch: Batch) -> bool:
    special = batch.subscribe or batch.notify or batch.end
    return not special and all(one.dedupe is None and one.subscription is None for one in batch.deliveries)


def _put_plain(store: Store, batches: Sequence[Batch], deliveries: Sequence[Delivery]) -> Sequence[Result]:
    """One statement, which is one commit and one wait for this interpreter's lock; and before it a look for room."""
    if not deliveries:
        return [PutReport() for _ in batches]
    retry_id = store.retry_id
    rows = [delivery_row(delivery, retry_id(delivery.retry)) for delivery in deliveries]
    full = refusals(store, deliveries)
    if full:
        rows = [row for delivery, row in zip(deliveries, rows, strict=True) if delivery.id not in full]
    if len(rows) > MOST_ROWS:
        with store.transaction():
            parts = [_insert(store, rows[start : start + MOST_ROWS]) for start in range(0, len(rows), MOST_ROWS)]
        new = {id_ for part in parts for id_ in part}
    else:
        try:
            new = _insert(store, rows) if rows else set()
        except sqlite3.Error as error:
            if is_failure(error):
                raise doubt(store.path, error) from error
            raise
    if len(new) == len(deliveries):
        return [PutReport([delivery.id for delivery in batch.deliveries]) for batch in batches]
    return [_report(new, full, batch.deliveries) for batch in batches]


def _insert(store: Statements, rows: Sequence[Row]) -> set[bytes]:
    """Insert those whose id is new, their queue rows with them. The new ids."""
    cursor = store.run(_statement(len(rows)), tuple(chain.from_iterable(rows)))
    if cursor.rowcount == len(rows):
        return {row[0] for row in rows}
    if not cursor.rowcount:
        return set()
    # One statement's rows follow each other: nobody else's come between.
    last = cursor.lastrowid or 0
    return {
        row[0]
        for row in store.fetch("SELECT id FROM delivery WHERE seq > ? AND seq <= ?", (last - cursor.rowcount, last))
    }


def _statement(rows: int) -> str:
    statement = _STATEMENTS.get(rows)
    if statement is None:
        statement = _STATEMENTS[rows] = _INSERT + ", ".join([_ONE] * rows) + _UNLESS_KNOWN
    return statement


def _report(new: set[bytes], full: Mapping[UUID, Refusal], deliveries: Iterable[Delivery]) -> PutReport:
    """Which of these are new, each once, also where two batches name it; and which found no room."""
    stored: list[UUID] = []
    refused: dict[UUID, Refusal] = {}
    for delivery in deliveries:
        if delivery.id in full:
            refused[delivery.id] = full[delivery.id]
        elif delivery.id.bytes in new:
            new.discard(delivery.id.bytes)
            stored.append(delivery.id)
    return PutReport(stored, refused=refused)


def _put_apart(store: Store, batches: Sequence[Batch]) -> Sequence[Result]:
    """Batch by batch in one transaction: what is wrong with one is undone, and told to it alone."""
    results: list[Result] = []
    with store.transaction():
        now = store.ground.now()
        for batch in batches:
            store.run("SAVEPOINT batch")
            try:
                results.append(put_one(store, batch, now))
            except Exception as error:
                if isinstance(error, sqlite3.Error) and is_failure(error):
                    raise
                store.run("ROLLBACK TO batch")
                results.append(error)
            store.run("RELEASE batch")
    return results


def put_one(store: Statements, batch: Batch, now: int) -> PutReport:
    """Store a batch in the transaction that is under way. What raises has left a part of it: undo that.

    Raises:
        SubscriptionExists: A key is another owner's.
    """
    stored: list[UUID] = []
    duplicates: list[UUID] = []
    unsubscribed: list[UUID] = []
    refused: dict[UUID, Refusal] = {}
    for subscription in batch.subscribe:
        subscribe(store, subscription, now)
    wanted = list(batch.deliveries)
    for notification in batch.notify:
        current = subscribed(store, notification.key, now)
        if current is not None:
            wanted.append(Delivery.notified(notification, current))
        elif not _is_known(store, notification.id):
            unsubscribed.append(notification.id)
    for delivery in wanted:
        if _is_known(store, delivery.id):
            continue
        full = refusal_of(store, delivery)
        if full is not None and not _is_used(store, delivery, now):
            refused[delivery.id] = full
            continue
        if delivery.dedupe is not None and not _admit(store, delivery, now):
            duplicates.append(delivery.id)
            continue
        _insert(store, [delivery_row(delivery, store.retry_id(delivery.retry))])
        stored.append(delivery.id)
    for key in batch.end:
        end(store, key, now)
    return PutReport(stored, duplicates, unsubscribed, refused)


def _is_known(store: Statements, delivery: UUID) -> bool:
    return bool(store.fetch("SELECT 1 FROM delivery WHERE id = ?", (delivery.bytes,)))


def _admit(store: Statements, delivery: Delivery, now: int) -> bool:
    """Remember a delivery's dedupe key. False if it is remembered already."""
    until = now + microseconds(REMEMBERED_FOR)
    cursor = store.run(
        "INSERT INTO dedupe (operation, callback, key, subscribed, until) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (operation, callback, key, subscribed) DO UPDATE SET until = excluded.until WHERE until <= ?",
        (*_key(delivery), until, now),
    )
    return cursor.rowcount == 1


def _is_used(store: Statements, delivery: Delivery, now: int) -> bool:
    """Whether a delivery's dedupe key is remembered; it is not, if it has none."""
    return delivery.dedupe is not None and bool(
        store.fetch(
            "SELECT 1 FROM dedupe WHERE operation = ? AND callback = ? AND key = ? AND subscribed = ? AND until > ?",
            (*_key(delivery), now),
        )
    )


def _key(delivery: Delivery) -> Row:
    version = delivery.subscription
    subscribed = "" if version is None else json.dumps([version.key.key, version.key.owner])
    return delivery.operation, delivery.callback, delivery.dedupe, subscribed


def earliest_due(batches: Iterable[Batch]) -> int | None:
    """When the first of what was put is due; None where nothing was."""
    dues = [one.due_at for batch in batches for one in chain[Delivery | Notification](batch.deliveries, batch.notify)]
    return instant(min(dues)) if dues else None

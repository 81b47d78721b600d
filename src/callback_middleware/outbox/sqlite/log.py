"""The operators' side: what there is, and a way back for what has ended."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TypeVar
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.destinations import Origin
from callback_middleware.outbox.records import ATTEMPT_COLUMNS, SUBSCRIPTION_COLUMNS
from callback_middleware.outbox.replaying import replay_pages
from callback_middleware.outbox.sqlite import changes
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.outcomes import attempt_of
from callback_middleware.outbox.sqlite.pruning import prune
from callback_middleware.outbox.sqlite.reader import Policies, Question
from callback_middleware.outbox.sqlite.reading import (
    MOST_AT_ONCE,
    not_found,
    read_counts,
    read_delivery,
    select,
)
from callback_middleware.outbox.sqlite.rows import instant, subscription_of
from callback_middleware.outbox.sqlite.session import Session
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.outbox.sqlite.subscribing import IN_FORCE
from callback_middleware.outcomes import Attempt
from callback_middleware.selection import Page, Selection
from callback_middleware.states import State
from callback_middleware.subscription import Subscription, SubscriptionKey

T = TypeVar("T")


class Log:
    """A :class:`~callback_middleware.ports.DeliveryLog` on the file.

    Questions are asked in a thread of their own, and see what was put before; changes are made by the writer.
    """

    _session: Session
    _ground: Ground

    async def get(self, delivery: UUID) -> Delivery:
        return await self._ask(lambda connection, policies: read_delivery(connection, delivery, policies))

    async def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        """Its attempts, oldest first, late ones included; of an answer's body the first 1024 bytes."""
        return await self._ask(lambda connection, _: _read_attempts(connection, delivery))

    async def counts(self) -> Mapping[State, int]:
        return await self._ask(lambda connection, _: read_counts(connection))

    async def search(self, selection: Selection, *, limit: int = 100, after: UUID | None = None) -> Page:
        def question(connection: sqlite3.Connection, policies: Policies) -> list[Delivery]:
            at_once = min(limit + 1, MOST_AT_ONCE)
            return list(islice(select(connection, selection, after, policies, at_once=at_once), limit + 1))

        found = await self._ask(question)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def subscriptions(
        self, *, callback: str | None = None, limit: int = 100, after: SubscriptionKey | None = None
    ) -> Sequence[Subscription]:
        now = self._ground.now()
        return await self._ask(
            lambda connection, policies: _read_subscriptions(connection, policies, now, callback, limit, after)
        )

    async def cancel(self, delivery: UUID) -> Delivery:
        cancelled = await self._session.desk().call(lambda store: changes.cancel(store, delivery))
        # It may have been a suspect that another one waited for.
        self._session.newsroom.tell_all()
        return cancelled

    async def replay(self, delivery: UUID) -> Delivery:
        replayed = await self._session.desk().call(lambda store: changes.replay(store, delivery))
        self._session.newsroom.tell_all()
        return replayed

    async def replay_all(
        self, selection: Selection, *, dry_run: bool = False, spacing: timedelta = timedelta(milliseconds=100)
    ) -> int:
        """As :meth:`~callback_middleware.ports.DeliveryLog.replay_all`: some hundreds at a time, puts in between."""
        counted: Counter[Origin] = Counter()

        async def begin(ids: Sequence[UUID]) -> int:
            work = partial(changes.replay_each, ids=ids, counted=counted, spacing=spacing)
            begun = await self._session.desk().call(work)
            self._session.newsroom.tell_all()
            return begun

        return await replay_pages(self, selection, None if dry_run else begin, at_once=MOST_AT_ONCE)

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """As :meth:`~callback_middleware.ports.DeliveryLog.prune`: some hundreds at a time, puts in between."""
        forgotten = 0
        while forgotten < limit:
            pruned = await self._session.desk().call(partial(prune, before=instant(before), limit=limit - forgotten))
            forgotten += pruned.forgotten
            if not pruned.more:
                break
        return forgotten

    async def _ask(self, question: Question[T]) -> T:
        # What was put before is committed, and there is a file of this version.
        await self._session.desk().call(_opened)
        return await self._session.reader.answer(question)


def _opened(store: Store) -> None:
    """For whoever only wants to know that the file is open."""


def _read_attempts(connection: sqlite3.Connection, delivery: UUID) -> Sequence[Attempt]:
    found = connection.execute("SELECT seq FROM delivery WHERE id = ?", (delivery.bytes,)).fetchall()
    if not found:
        raise not_found(delivery)
    rows = connection.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempt WHERE delivery = ? ORDER BY started_at, fence",  # noqa: S608
        found[0],
    ).fetchall()
    return [attempt_of(delivery, row) for row in rows]


def _read_subscriptions(  # noqa: PLR0917 - the port's, beside where they are read
    connection: sqlite3.Connection,
    policies: Policies,
    now: int,
    callback: str | None,
    limit: int,
    after: SubscriptionKey | None,
) -> Sequence[Subscription]:
    beyond = (None, None) if after is None else (after.callback, after.key)
    rows = connection.execute(
        f"SELECT {', '.join(SUBSCRIPTION_COLUMNS)} FROM subscription "  # noqa: S608 - names of ours
        f"WHERE {IN_FORCE} AND callback = coalesce(?, callback) AND (? IS NULL OR (callback, key) > (?, ?)) "
        "ORDER BY callback, key LIMIT ?",
        (now, callback, beyond[0], *beyond, limit),
    ).fetchall()
    return [subscription_of(row, policies(row[11])) for row in rows]

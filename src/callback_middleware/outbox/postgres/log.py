"""The operators' side: what there is, and a way back for what has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import microseconds
from callback_middleware.outbox.postgres.keeping import AT_ONCE
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.reading import MOST_AT_ONCE, Reading, not_found
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.rows import attempt_of, subscription_of
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.outbox.replaying import replay_pages
from callback_middleware.outcomes import Attempt
from callback_middleware.selection import Page, Selection
from callback_middleware.states import Event, State, advance
from callback_middleware.subscription import Subscription, SubscriptionKey

T = TypeVar("T")


class Log:
    """A :class:`~callback_middleware.ports.DeliveryLog` on the database."""

    _schema: Schema
    _retries: Retries
    _reading: Reading

    async def get(self, delivery: UUID) -> Delivery:
        return await self._ask(lambda connection: self._reading.get(connection, delivery))

    async def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        """Its attempts, oldest first, late ones included; of an answer's body the first 1024 bytes."""

        async def question(connection: Connection) -> Sequence[Attempt]:
            if not await connection.fetch(self._schema.known, [delivery]):
                raise not_found(delivery)
            return [attempt_of(row) for row in await connection.fetch(self._schema.attempts, delivery)]

        return await self._ask(question)

    async def counts(self) -> Mapping[State, int]:
        return await self._ask(self._reading.counts)

    async def search(self, selection: Selection, *, limit: int = 100, after: UUID | None = None) -> Page:
        async def question(connection: Connection) -> list[Delivery]:
            found: list[Delivery] = []
            at_once = min(limit + 1, MOST_AT_ONCE)
            async for delivery in self._reading.select(connection, selection, after, at_once=at_once):
                found.append(delivery)
                if len(found) > limit:
                    break
            return found

        found = await self._ask(question)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def subscriptions(
        self, *, callback: str | None = None, limit: int = 100, after: SubscriptionKey | None = None
    ) -> Sequence[Subscription]:
        beyond = (None, None) if after is None else (after.callback, after.key)

        async def question(connection: Connection) -> Sequence[Subscription]:
            rows = await connection.fetch(self._schema.subscriptions, callback, *beyond, limit)
            policies = await self._retries.policies(connection, {row[11] for row in rows})
            return [subscription_of(row, policies[row[11]]) for row in rows]

        return await self._ask(question)

    async def cancel(self, delivery: UUID) -> Delivery:
        async def change(connection: Connection) -> Delivery:
            if not await connection.fetchval(self._schema.cancel, delivery):
                # It has ended; or begins a new run at this moment, and may be cancelled again.
                advance((await self._reading.get(connection, delivery)).state, Event.CANCEL)
            return await self._reading.get(connection, delivery)

        cancelled = await self._ask(change)
        # It may have been a suspect that another one waited for.
        self._changed()
        return cancelled

    async def replay(self, delivery: UUID) -> Delivery:
        async def change(connection: Connection) -> Delivery:
            if not await connection.fetch(self._schema.replay, [delivery], 0, [], []):
                advance((await self._reading.get(connection, delivery)).state, Event.REPLAY)
            return await self._reading.get(connection, delivery)

        replayed = await self._ask(change)
        self._changed()
        return replayed

    async def replay_all(
        self, selection: Selection, *, dry_run: bool = False, spacing: timedelta = timedelta(milliseconds=100)
    ) -> int:
        """As :meth:`~callback_middleware.ports.DeliveryLog.replay_all`: some hundreds at a time, each in a commit."""
        counted: Counter[int] = Counter()

        async def begin(ids: Sequence[UUID]) -> int:
            before = (list(counted), list(counted.values()))
            rows = await self._ask(
                lambda connection: connection.fetch(self._schema.replay, ids, microseconds(spacing), *before)
            )
            begun = Counter({row["origin_key"]: row["begun"] for row in rows})
            counted.update(begun)
            self._changed()
            return begun.total()

        return await replay_pages(self, selection, None if dry_run else begin, at_once=MOST_AT_ONCE)

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """As :meth:`~callback_middleware.ports.DeliveryLog.prune`: some hundreds at a time, each in a commit."""
        forgotten = 0
        while forgotten < limit:
            most = min(limit - forgotten, AT_ONCE)
            count = await self._ask(lambda connection: connection.fetchval(self._schema.prune, before, most))  # noqa: B023 - awaited here
            forgotten += count
            if count < most:
                break
        return forgotten

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        raise NotImplementedError

    def _changed(self) -> None:
        """Something may be due for somebody."""
        raise NotImplementedError

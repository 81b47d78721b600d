"""Who contends: outboxes that put, join, claim, settle, extend, cancel, replay, forget and tend, all at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import anyio.lowlevel
import asyncpg

from callback_middleware.backlog import BacklogLimits
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Dead, Delivered, Fence, Released, Retry, Settlement, Verdict
from callback_middleware.errors import DeliveryNotFound, OutboxUnavailable, OutboxUncertain, SubscriptionExists
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.keeping import tend
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.ports import Batch, PutReport
from callback_middleware.selection import Selection
from callback_middleware.states import IllegalTransition, State
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting

LIMITS: Final = BacklogLimits(per_origin=400, per_owner=200, newcomer=12)
ORIGINS: Final = [f"https://receiver{number}.example:443" for number in range(12)]
KEYS: Final = [SubscriptionKey("invoice_notification", f"invoice {number}", "alice") for number in range(4)]
DEDUPES: Final = ["x", "y", "z"]
SHORT: Final = timedelta(milliseconds=30)
LONG: Final = timedelta(seconds=5)
SOON: Final = timedelta(milliseconds=20)
A_DAY: Final = timedelta(days=1)
OLD_DAYS: Final = (3, 4, 5)
"""So many days ago: whose partitions come and go all the time, and where some ids are from."""

VERDICTS: Final[Sequence[Verdict]] = (
    *(Delivered(), Delivered(), Delivered(), Dead("told so"), Dead("gone", gone=True)),
    *(Retry(timedelta(), "was down"), Retry(SOON, "was down"), Released(), Released(SOON)),
)


@dataclass
class Told:
    """What all were told: it must be found in the end.

    Attributes:
        stored: Ids that a put said are stored.
        ended: Fences of terminal settlements that applied, and what they said.
        tried: Fences that attempts were told for.
        rolled_back: Ids that were stored in transactions that were rolled back.
        forgotten: How many deliveries were pruned.
    """

    stored: set[UUID] = field(default_factory=set)
    ended: dict[Fence, Verdict] = field(default_factory=dict)
    tried: set[Fence] = field(default_factory=set)
    rolled_back: set[UUID] = field(default_factory=set)
    forgotten: int = 0


class Contender:
    """One process' outbox, and what somebody does with it who does everything, by chance.

    Args:
        url: Of the database.
        seed: Where its chance begins.
        told: Of all.
    """

    def __init__(self, url: str, seed: int, told: Told) -> None:
        self.outbox = PostgresOutbox(url, backlog=LIMITS, connections=3)
        self._url = url
        self._random = Random(seed)  # noqa: S311 - it is to be repeated
        self._told = told
        self._held: list[Claim] = []
        self._setting = OutboxSetting()
        self._what: Mapping[Callable[[], Awaitable[None]], int] = {
            self.put: 20,
            self.join: 6,
            self.claim: 16,
            self.take_back: 3,
            self.be_cancelled: 2,
            self.settle: 24,
            self.extend: 8,
            self.cancel: 4,
            self.replay: 6,
            self.replay_all: 1,
            self.prune: 3,
            self.tend: 1,
            self.make_and_drop_days: 2,
        }

    async def run(self, operations: int) -> None:
        """Do so many things, one after the other; then give back what is held."""
        for what in self._random.choices(list(self._what), list(self._what.values()), k=operations):
            # Somebody was in the way, and nothing was done.
            with suppress(OutboxUncertain):
                await what()
        while self._held:
            await self.settle(verdicts=[Released()])

    async def put(self) -> None:
        """A burst of some batches, of which the next one may not wait for the one before."""
        batches = [self._batch() for _ in range(self._random.randint(1, 5))]
        async with anyio.create_task_group() as tasks:
            for batch in batches:
                tasks.start_soon(self._put, batch)

    async def _put(self, batch: Batch) -> None:
        while True:
            try:
                self._learn(await self.outbox.put(batch))
            except OutboxUncertain:
                # As a request does: the same once more.
                continue
            except SubscriptionExists:
                pass
            return

    def _learn(self, report: PutReport) -> None:
        self._told.stored.update(report.stored)

    async def join(self) -> None:
        """In a transaction of somebody's, which goes on for a moment."""
        batch = self._batch()
        async with _connected(self._url) as connection:
            transaction = connection.transaction(isolation=self._random.choice(["read_committed", "repeatable_read"]))
            await transaction.start()
            try:
                joined = await self.outbox.put_in(connection, batch)
            except SubscriptionExists:
                await transaction.rollback()
                return
            except OutboxUnavailable as error:
                await transaction.rollback()
                if not isinstance(error.__cause__, asyncpg.SerializationError):
                    raise
                # Of a snapshot: somebody changed since what it would change.
                return
            if self._random.random() < 0.3:
                await transaction.rollback()
                self._told.rolled_back.update(joined.report.stored)
            else:
                await transaction.commit()
                self._learn(joined.report)

    def _batch(self) -> Batch:
        chance = self._random.random()
        deliveries = [self._setting.delivery(self._clock(), **self._attributes()) for _ in range(1 + int(3 * chance))]
        if chance < 0.6:
            return Batch(deliveries)
        keys = self._random.sample(KEYS, 2)
        subscriptions = [self._setting.subscription(self._clock(), key, origin=self._origin()) for key in keys]
        return Batch(
            deliveries=deliveries,
            subscribe=subscriptions if chance < 0.75 else (),
            notify=[self._setting.notification(self._clock(), key) for key in keys],
            end=keys[:1] if chance > 0.95 else (),
        )

    def _attributes(self) -> dict[str, Any]:
        dedupe = self._random.choice(DEDUPES) + str(self._random.randrange(40)) if self._random.random() < 0.2 else None
        due_in = SOON if self._random.random() < 0.2 else timedelta()
        return {"origin": self._origin(), "dedupe": dedupe, "due_in": due_in}

    def _origin(self) -> str:
        return self._random.choice(ORIGINS)

    def _clock(self) -> VirtualClock:
        """The time, or a time some days ago: ids are from there, and go where days come and go."""
        days = self._random.choice(OLD_DAYS) if self._random.random() < 0.1 else 0
        return VirtualClock(SystemClock().now() - days * A_DAY)

    async def claim(self) -> None:
        """Two at once: others are about to as well."""
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(self._claim_more)

    async def _claim_more(self) -> None:
        self._held.extend(await self._claim())

    async def _claim(self) -> Sequence[Claim]:
        lease = SHORT if self._random.random() < 0.4 else LONG
        busy = {self._origin(): self._random.randint(1, 5)}
        return await self.outbox.claim(self._random.randint(1, 12), lease, per_origin=5, busy=busy)

    async def take_back(self) -> None:
        """Claims that reach nobody."""
        outbox = self.outbox

        async def work(connection: Connection) -> None:
            leased = await outbox._claims.lease(connection, 6, LONG, 5, {})
            await outbox._claims.unclaim(connection, leased)

        await outbox._ask(work)

    async def be_cancelled(self) -> None:
        """Nobody waits for what is claimed any more, somewhere in the middle of it."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._claim)
            for _ in range(self._random.randrange(12)):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    async def settle(self, verdicts: Sequence[Verdict] = VERDICTS) -> None:
        if not self._held:
            return
        self._random.shuffle(self._held)
        most = self._random.randint(1, 8)
        some, self._held = self._held[:most], self._held[most:]
        if self._random.random() < 0.1:
            # Told again later, as if nobody had answered.
            self._held.extend(some)
        settlements = []
        for claim in some:
            verdict = self._random.choice(verdicts)
            attempt = None if isinstance(verdict, Released) else self._setting.attempt(claim, SystemClock().now())
            settlements.append(Settlement(claim.fence, verdict, attempt))
        applied = await self._settle(settlements)
        for one in settlements:
            if one.attempt is not None:
                self._told.tried.add(one.fence)
            if one.fence in applied and isinstance(one.verdict, Delivered | Dead):
                self._told.ended[one.fence] = one.verdict

    async def _settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        while True:
            with suppress(OutboxUncertain):
                return await self.outbox.settle(settlements)

    async def extend(self) -> None:
        if self._held:
            some = self._random.sample(self._held, min(len(self._held), 6))
            await self.outbox.extend(some, SHORT if self._random.random() < 0.5 else LONG)

    async def cancel(self) -> None:
        if self._told.stored:
            with suppress(IllegalTransition, DeliveryNotFound):
                await self.outbox.cancel(self._one())

    async def replay(self) -> None:
        if self._told.stored:
            with suppress(IllegalTransition, DeliveryNotFound):
                await self.outbox.replay(self._one())

    async def replay_all(self) -> None:
        dead = Selection(states=[State.DEAD], host=urlsplit(self._origin()).hostname)
        await self.outbox.replay_all(dead, spacing=timedelta())

    def _one(self) -> UUID:
        return self._random.choice(sorted(self._told.stored))

    async def prune(self) -> None:
        before = SystemClock().now() - timedelta(milliseconds=self._random.randint(0, 400))
        # Apart: others have forgotten something too, until this returns.
        forgotten = await self.outbox.prune(before, limit=self._random.randint(1, 20))
        self._told.forgotten += forgotten

    async def tend(self) -> None:
        await self.outbox._ask(lambda connection: tend(connection, self.outbox._schema, timedelta(days=2)))

    async def make_and_drop_days(self) -> None:
        day = SystemClock().now().astimezone(UTC).date() - self._random.choice(OLD_DAYS) * A_DAY
        what = self._random.choice([_make, _drop])
        await self.outbox._ask(lambda connection: what(connection, day))


async def _make(connection: Connection, day: date) -> None:
    for table in ("delivery", "result", "attempt"):
        await _do(connection, "SELECT callback_middleware.make_part($1, $2)", table, day)


async def _drop(connection: Connection, day: date) -> None:
    """Whatever ended, however lately."""
    before = SystemClock().now() + A_DAY
    for table in ("delivery", "result", "attempt"):
        await _do(connection, "SELECT callback_middleware.drop_part($1, $2, $3)", table, day, before)


async def _do(connection: Connection, statement: str, *values: object) -> None:
    with suppress(asyncpg.LockNotAvailableError, asyncpg.CheckViolationError):
        await connection.fetchval(statement, *values)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()

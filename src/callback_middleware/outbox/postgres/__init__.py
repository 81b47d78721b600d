"""A durable outbox in PostgreSQL: any number of web processes and workers share it, on any number of machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final, TypeVar

try:
    import asyncpg
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "PostgresOutbox needs asyncpg: pip install 'callback_middleware[postgres]'", name=missing.name
    ) from missing


from callback_middleware.backlog import BACKLOG, BacklogLimits
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.errors import ConfigurationError, OutboxError, OutboxUnavailable
from callback_middleware.eventloop import LoopLocal
from callback_middleware.outbox.gathering import PATIENCE
from callback_middleware.outbox.newsroom import Newsroom
from callback_middleware.outbox.postgres.claims import Claims, Leased
from callback_middleware.outbox.postgres.fates import Transaction, ask_fate
from callback_middleware.outbox.postgres.joining import Joining
from callback_middleware.outbox.postgres.line import Connection, Line, Outage
from callback_middleware.outbox.postgres.log import Log
from callback_middleware.outbox.postgres.migrating import check, version
from callback_middleware.outbox.postgres.migrations import steps
from callback_middleware.outbox.postgres.office import Office
from callback_middleware.outbox.postgres.puts import Puts
from callback_middleware.outbox.postgres.reading import Reading
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.schema import SCHEMA, Schema
from callback_middleware.outbox.postgres.settles import Settled, settle
from callback_middleware.outbox.postgres.urls import check_url, shown
from callback_middleware.ports import Batch, Clock, Fate, Joined, PutReport

__all__ = ["PostgresOutbox"]

T = TypeVar("T")

KEEP: Final = timedelta(days=30)
"""How long what has ended is kept, unless an outbox is told otherwise."""

ASKING: Final = 30.0
"""Seconds that an operator's question may take."""


class PostgresOutbox(Log):
    """An :class:`~callback_middleware.ports.Outbox` and its log in a PostgreSQL database.

    What was put survives every process, and a crash of the server: every put is committed before it returns, many in
    one commit. What is due, and which leases have ended, is said by the database's clock alone. Its schema is made by
    ``callback-middleware migrate``. Needs the extra ``[postgres]``, PostgreSQL 14 or newer, and asyncio.

    It is also a :class:`~callback_middleware.ports.TransactionalOutbox`: it stores in the transaction of its user's own
    asyncpg, psycopg or SQLAlchemy connection.

    Args:
        url: ``postgresql://user:password@host:5432/database``, as asyncpg takes it.
        schema: Where its tables are.
        keep: How long deliveries are kept that are delivered, dead or cancelled, in whole days; None for ever.
        clock: Tells the times that this process puts and attempts at: they are moved by what it is off. Default the
            system's.
        backlog: How many deliveries may be live; None for as many as come, and nobody is a newcomer. Processes that
            share the database count together, and each refuses by its own limits.
        connections: To the database, at most, of each event loop; beside one that listens for news where somebody
            waits for them.
        pooler: Whether the URL leads to a pooler that hands out connections per transaction (PgBouncer): then nothing
            is prepared, set or listened to, and polling alone finds what is due.

    Raises:
        ConfigurationError: The URL is none, ``schema`` is no name, or a number is out of its range.
    """

    durable: ClassVar[bool] = True
    patience: ClassVar[float | None] = PATIENCE

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        keep: timedelta | None = KEEP,
        clock: Clock | None = None,
        backlog: BacklogLimits | None = BACKLOG,
        connections: int = 4,
        pooler: bool = False,
    ) -> None:
        if keep is not None and keep < timedelta():
            raise ConfigurationError(f"PostgresOutbox(keep={keep!r}) must not be negative")
        if connections < 1:
            raise ConfigurationError(f"PostgresOutbox(connections={connections!r}) must be at least 1")
        self._name = shown(check_url(url))
        self._schema = Schema(schema)
        self._clock = clock or SystemClock()
        self._outage = Outage(self._name)
        self._retries = Retries(self._schema)
        self._reading = Reading(self._schema, self._retries)
        self._claims = Claims(self._schema, self._retries, backlog, self._clock)
        self._puts = Puts(self._schema, self._retries, backlog, pooler=pooler)
        self._joining = Joining(self._schema, self._name, backlog, self._retries)
        self._url = url
        self._keep = keep
        self._connections = connections
        self._pooler = pooler
        self._newsroom = Newsroom()
        self._alike = partial(
            PostgresOutbox, keep=keep, clock=clock, backlog=backlog, connections=connections, pooler=pooler
        )
        # Here, where nobody waits for the disk.
        steps()
        self._offices: LoopLocal[Office] = LoopLocal()

    def __repr__(self) -> str:
        return f"PostgresOutbox({self._name!r})"

    @property
    def url(self) -> str:
        """Where the database is, as it was given: with its password, and not for a log."""
        return self._url

    @property
    def schema(self) -> str:
        """The name of the schema that its tables are in."""
        return self._schema.name

    def elsewhere(self, url: str, *, schema: str | None = None) -> PostgresOutbox:
        """An outbox with the same settings, in another database, or another schema."""
        return self._alike(url, schema=schema or self.schema)

    @property
    def outage(self) -> OutboxUnavailable | None:
        return self._outage.error

    async def start(self) -> None:
        """As :meth:`~callback_middleware.ports.Outbox.start`: refuses a schema that is not this library's."""
        office = self._office()
        # What is out of reach is known and told by then; it is asked again by whoever needs it.
        with suppress(OutboxError):
            await office.line.run(self._check, seconds=PATIENCE)
            office.keep()

    async def put(self, batch: Batch) -> PutReport:
        return await self._office().gatherer.put(batch)

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        office = self._office()
        taken = dict(busy)
        leased = Leased()

        async def work(connection: Connection) -> Sequence[Claim]:
            nonlocal leased
            leased = await self._claims.lease(connection, limit, lease, per_origin, taken)
            return await self._claims.read(connection, leased)

        async def give_back() -> None:
            # What was leased, and perhaps not read: the next claim is not to take it for what killed its worker.
            if leased.ids:
                await office.line.run(lambda connection: self._claims.unclaim(connection, leased), seconds=PATIENCE)
                self._changed()

        claims = await office.finish(lambda: office.line.run(work, seconds=PATIENCE), undo=give_back)
        office.due_in(leased.next_due)
        return claims

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        if not claims:
            return frozenset()
        office = self._office()
        return await office.finish(
            lambda: office.line.run(lambda connection: self._claims.extend(connection, claims, lease), seconds=PATIENCE)
        )

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        if not settlements:
            return frozenset()

        office = self._office()

        async def work(connection: Connection) -> Settled:
            return await settle(connection, self._schema, settlements, self._clock.now())

        settled = await office.finish(lambda: office.line.run(work, seconds=PATIENCE))
        if settled.applied:
            office.line.works()
        if settled.due is not None:
            office.tell(settled.due)
        return settled.applied

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's: reaching it is no error
        """Return when something was put or came due since the last wait on this event loop, or after a second.

        What other processes put is heard of at once, except behind a pooler.
        """
        await self._office().wait(timeout.total_seconds())

    async def put_in(self, connection: object, batch: Batch) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in`, on an asynchronous connection."""
        await self._joining.learn(batch, self._ask)
        return await self._joining.put(connection, batch, self._clock.now())

    def put_in_sync(self, connection: object, batch: Batch) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in_sync`."""
        self._joining.learn_alone(batch, self._line())
        return self._joining.put_sync(connection, batch, self._clock.now())

    async def fate(self, transaction: object) -> Fate:
        """What became of a transaction, by its number: ``pg_xact_status``."""
        if not isinstance(transaction, Transaction):
            return Fate.UNKNOWN
        try:
            return await self._ask(lambda connection: ask_fate(connection, transaction))
        except (OutboxError, asyncpg.PostgresError):
            return Fate.UNKNOWN

    async def committed(self) -> None:
        self._changed()

    async def aclose(self) -> None:
        """Close this event loop's connections, after all that was put. It may be used again."""
        office = self._offices.get()
        self._offices.set(None)
        if office is not None:
            await office.aclose()

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._office().line.run(question, seconds=ASKING)

    def _changed(self) -> None:
        self._newsroom.tell_all()
        self._office().news.tell()

    def _office(self) -> Office:
        """The running event loop's."""
        office = self._offices.get()
        if office is None:
            office = Office(
                self._line(),
                self._schema,
                keep=self._keep,
                store=self._puts.put_all,
                clock=self._clock,
                newsroom=self._newsroom,
                listens=not self._pooler,
            )
            self._offices.set(office)
        return office

    def _line(self) -> Line:
        return Line(self._url, self._outage, self._schema.probe, size=self._connections, pooler=self._pooler)

    async def _check(self, connection: Connection) -> None:
        check(await version(connection, self._schema), self._schema, self._url)
        self._joining.identity = await connection.fetchval(self._schema.identity)
        if await connection.fetchval("SHOW synchronous_commit") == "off":
            raise ConfigurationError(
                f"the outbox {self._name} has synchronous_commit = off: what was acknowledged would be lost in a power "
                "cut. Set it to on, for the user or the database that the outbox is given"
            )
        # Its own sessions are set so; behind a pooler nothing is.
        isolation = await connection.fetchval("SHOW default_transaction_isolation")
        if isolation != "read committed":
            raise ConfigurationError(
                f"the outbox {self._name} has default_transaction_isolation = {isolation!r}: two workers would claim "
                "by what was true before the other did. Set it to 'read committed', for the user that it is given"
            )

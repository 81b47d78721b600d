"""Connections to one database from one event loop: few, bounded in time, and thrown away when anything is odd."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import anyio
import asyncpg

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.postgres.background import Background
from callback_middleware.outbox.postgres.faults import is_passing, meaning, out_of_reach
from callback_middleware.outbox.postgres.urls import shown

logger = logging.getLogger("callback_middleware")

T = TypeVar("T")

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy

CONNECTING: Final = 3.0
"""Seconds that a connection has to be made: less than a put waits."""

HANGING_UP: Final = 1.0
"""Seconds that the server has to stop something."""

PROBE: Final = 1.0
"""Seconds between two tries of a database that failed."""

SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "callback_middleware",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    # A worker that is stopped, or cut off, must not hold anything for longer than a lease.
    "idle_in_transaction_session_timeout": "10s",
    "statement_timeout": "30s",
    "tcp_user_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    "jit": "off",
}
"""Of every session, unless a pooler is in between."""


class Outage:
    """What the database fails with, until it works again: shared by all event loops of a process."""

    def __init__(self, name: str) -> None:
        self.error: OutboxUnavailable | None = None
        self._name = name

    def begin(self, error: OutboxUnavailable) -> None:
        if self.error is None:
            logger.error("%s", error)
        self.error = error

    def end(self) -> None:
        if self.error is not None:
            logger.warning("the outbox %s works again", self._name)
            self.error = None


class Line:
    """What the tasks of one event loop ask the database through.

    Args:
        url: ``postgresql://…``.
        outage: Begun when the database is out of reach, and ended when it works.
        probe: A statement that writes; run while there is an outage.
        size: Connections, at most.
        pooler: Whether they go through one that hands out connections per transaction.

    Attributes:
        background: What goes on by itself on this loop. It ends before the connections are closed.
    """

    def __init__(self, url: str, outage: Outage, probe: str, *, size: int, pooler: bool) -> None:
        self._url = url
        self._name = shown(url)
        self._outage = outage
        self._probe = probe
        self._size = size
        self._cached = 0 if pooler else 200
        self._settings = None if pooler else dict(SETTINGS)
        self._pool: asyncpg.Pool | None = None
        self._opening = anyio.Lock()
        self._probing = False
        self._closed = False
        self.background = Background()

    @property
    def is_down(self) -> bool:
        """Whether the database is known to be out of reach."""
        return self._outage.error is not None

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, seconds: float) -> T:
        """Do something on a connection, within so many seconds.

        A connection that was cut off, cancelled or too slow is closed: what it was in the middle of is nobody's any
        more.

        Raises:
            OutboxUnavailable: It was certainly not done; also where it was closed.
            OutboxUncertain: It may have been done.
        """
        begun = time.monotonic()
        connection, pool = await self._connection(min(seconds, CONNECTING))
        try:
            with anyio.fail_after(max(seconds - (time.monotonic() - begun), 0)):
                result = await work(connection)
        except BaseException as error:
            meant = self._failed(error, seconds)
            lost = isinstance(meant, OutboxUncertain) and not is_passing(error)
            if lost or not isinstance(meant, Exception):
                await _hang_up(connection)
            if meant is error:
                raise
            raise meant from error
        finally:
            # Also where its task is cancelled: it is a matter of this process alone.
            with anyio.CancelScope(shield=True):
                await pool.release(connection)
        return result

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own, outside of the pool. Raises what asyncpg does."""
        connection: asyncpg.Connection = await asyncpg.connect(
            self._url, timeout=CONNECTING, statement_cache_size=self._cached, server_settings=self._settings
        )
        return connection

    async def run_alone(self, work: Callable[[Any], Awaitable[None]]) -> None:
        """Do something on a connection of its own, on an event loop that ends with it.

        Raises:
            OutboxUnavailable: It was not done, or perhaps.
        """
        try:
            with anyio.fail_after(2 * CONNECTING):
                connection = await self.connect()
                try:
                    await work(connection)
                finally:
                    connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
            raise out_of_reach(self._name, error) from error

    async def aclose(self) -> None:
        """Close all connections. What is asked from now on is refused: nobody would close what it opened."""
        await self.background.end(CONNECTING)
        pool, self._pool = self._pool, None
        self._closed = True
        if pool is not None:
            with anyio.move_on_after(CONNECTING):
                await pool.close()
            pool.terminate()

    def works(self) -> None:
        """A write was done."""
        self._outage.end()

    async def _connection(self, seconds: float) -> tuple[Connection, asyncpg.Pool]:
        opened = self._pool
        try:
            if opened is not None and opened.get_idle_size():
                # There is nobody to wait for, and so no need of what would end that. Every put comes by here.
                return await opened.acquire(), opened
            with anyio.fail_after(seconds):
                pool = await self._open()
                return await pool.acquire(), pool
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
            if isinstance(error, TimeoutError) and self._is_busy():
                raise OutboxUnavailable(
                    f"the outbox {self._name} was asked too much: all {self._size} connections were in use for "
                    f"{seconds:g} s; give PostgresOutbox more (connections=)"
                ) from error
            said = TimeoutError(f"no connection within {seconds:g} s") if isinstance(error, TimeoutError) else error
            raise self._out(out_of_reach(self._name, said)) from error

    def _is_busy(self) -> bool:
        """Whether all connections are in use, and so there are some."""
        return self._pool is not None and self._pool.get_size() >= self._size and self._pool.get_idle_size() == 0

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._closed:
                raise OutboxUnavailable(f"the outbox {self._name} was closed: nothing was done")
            if self._pool is None:
                self._pool = asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    timeout=CONNECTING,
                    statement_cache_size=self._cached,
                    server_settings=self._settings,
                    reset=_leave_as_it_is,
                )
                await self._pool
            return self._pool

    def _failed(self, error: BaseException, seconds: float) -> BaseException:
        """What an error comes to that ended the use of a connection."""
        if isinstance(error, TimeoutError):
            late = f"it did not answer within {seconds:g} s"
            return self._out(
                OutboxUncertain(f"the outbox {self._name} is out of reach: {late}; see what makes it slow"),
            )
        meant = meaning(self._name, error)
        return error if meant is None else meant if is_passing(error) else self._out(meant)

    def _out(self, error: OutboxError) -> OutboxError:
        if self._closed:
            # Its connections were closed under it: that says nothing of the database.
            return error
        self._outage.begin(error if isinstance(error, OutboxUnavailable) else OutboxUnavailable(*error.args))
        if not self._probing:
            self._probing = True
            self.background.spawn(self._try_again)
        return error

    async def _try_again(self) -> None:
        """See whether the database works again, until it does or nobody uses it any more."""
        try:
            while True:
                await self.background.sleep(PROBE)
                if self._outage.error is None or self.background.over.is_set():
                    return
                try:
                    with anyio.fail_after(2 * CONNECTING):
                        await self._try()
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
                    logger.debug("the outbox %s still fails: %s", self._name, error)
                else:
                    self._outage.end()
        finally:
            self._probing = False

    async def _try(self) -> None:
        connection = await self.connect()
        try:
            await connection.execute(self._probe)
        finally:
            await _hang_up(connection)


async def _hang_up(connection: Connection | asyncpg.Connection) -> None:
    """Have the server stop what nobody waits for any more, and close the connection, whether it answers or not."""
    # The pool has taken it back by itself, if it was lost.
    with anyio.CancelScope(shield=True), suppress(Exception):
        await connection.close(timeout=HANGING_UP)


async def _leave_as_it_is(connection: object) -> None:
    """Nothing is set, locked or listened to on a connection of the pool: there is nothing to reset."""

"""One event loop's side of the database: its connections, what gathers there, who waits there, and who keeps it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, Generic, TypeVar

from callback_middleware.delivery import Delivery
from callback_middleware.errors import ConfigurationError, OutboxError
from callback_middleware.eventloop import Caller, spawn
from callback_middleware.outbox.gathering import PATIENCE, Gatherer, Gathering, Result
from callback_middleware.outbox.newsroom import Newsroom
from callback_middleware.outbox.postgres.keeping import tend
from callback_middleware.outbox.postgres.line import Connection, Line
from callback_middleware.outbox.postgres.news import POLL, News
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.ports import Batch, Clock
from callback_middleware.subscription import Notification

logger = logging.getLogger("callback_middleware")

T = TypeVar("T")

Store = Callable[[Connection, Sequence[Batch], datetime], Awaitable[Sequence[Result]]]

_ROUND: Final = 3600.0
"""Seconds between two times that what is old is looked for."""

_SOON: Final = 60.0
"""Seconds until then where the database was out of reach."""

_LONGEST_ROUND: Final = 300.0
"""Seconds that this may take."""


class Office:
    """What the tasks of one event loop ask the database through.

    Args:
        line: The loop's connections.
        schema: What is kept.
        keep: How long what has ended is kept; None for ever.
        store: Stores a burst, whose times were told by ``clock``.
        clock: This process' own.
        newsroom: Rings in every event loop of the process.
        listens: Whether other processes' news can be heard.

    Raises:
        ConfigurationError: The event loop is not asyncio's.
    """

    def __init__(
        self,
        line: Line,
        schema: Schema,
        *,
        keep: timedelta | None,
        store: Store,
        clock: Clock,
        newsroom: Newsroom,
        listens: bool,
    ) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "PostgresOutbox needs asyncio, because asyncpg knows no other event loop: run this application on "
                "asyncio, or mount it with outbox=SQLiteOutbox('callbacks.db')"
            ) from None
        self.line = line
        self.gatherer = Gatherer(lambda gathering: spawn(lambda: self._put(gathering)))
        self.news = News(line, schema.channel, newsroom.tell_all, listens=listens)
        self._caller = Caller()
        self._schema = schema
        self._keep = keep
        self._store = store
        self._clock = clock
        self._newsroom = newsroom
        self._keeping = False
        self._next_due: float | None = None

    async def finish(
        self, work: Callable[[], Awaitable[T]], *, undo: Callable[[], Awaitable[object]] | None = None
    ) -> T:
        """Do something to its end, whoever is cancelled meanwhile. What failed, or nobody waited for, is undone."""
        call = _Call(work, undo, self._caller)
        self.line.background.spawn(call.run)
        try:
            await call.over.wait()
        except BaseException:
            call.abandon()
            raise
        return call.result()

    async def wait(self, seconds: float) -> None:
        """Return when something may be due, and after so many seconds, or one, at the latest."""
        now = time.monotonic()
        end = now + min(seconds, POLL)
        if self._next_due is not None:
            end = min(end, self._next_due)
        await self._newsroom.wait(end - now, _instant(end), begun=self._begun)

    def due_in(self, seconds: float | None) -> None:
        """After so many seconds something comes due by itself; None for nothing."""
        self._next_due = None if seconds is None else time.monotonic() + seconds

    def tell(self, after: timedelta) -> None:
        """Something is due after this long that was not before: this process hears of it, and others."""
        seconds = after.total_seconds()
        self._newsroom.tell(_instant(time.monotonic() + seconds))
        if seconds < POLL:
            self.news.tell()

    def keep(self) -> None:
        """See to it, from now on, that there is a place for what comes, and that what is old goes."""
        if not self._keeping:
            self._keeping = True
            self.line.background.spawn(self._tend)

    async def aclose(self) -> None:
        """End what goes on by itself, and close the connections, when what was put before is stored."""
        await self.gatherer.drain()
        await self.line.aclose()

    def _begun(self) -> None:
        self.news.listen()
        self.keep()

    async def _put(self, gathering: Gathering) -> None:
        try:
            gathering.results = await self.line.run(
                lambda connection: self._store(connection, gathering.batches, self._clock.now()), seconds=PATIENCE
            )
        except Exception as error:  # noqa: BLE001 - it is told to whoever put
            gathering.error = error
        except BaseException as error:
            gathering.error = error
            raise
        else:
            self.line.works()
            self._tell_of(gathering)
        finally:
            self.gatherer.welcome(gathering)

    def _tell_of(self, gathering: Gathering) -> None:
        """What was stored may be due for somebody."""
        results = zip(gathering.batches, gathering.results, strict=True)
        stored = [batch for batch, result in results if not isinstance(result, Exception)]
        dues = [
            one.due_at for batch in stored for one in chain[Delivery | Notification](batch.deliveries, batch.notify)
        ]
        if dues:
            self.tell(min(dues) - self._clock.now())

    async def _tend(self) -> None:
        background = self.line.background
        while not background.over.is_set():
            pause = _ROUND
            try:
                await self.line.run(
                    lambda connection: tend(connection, self._schema, self._keep), seconds=_LONGEST_ROUND
                )
            except OutboxError as error:
                if background.over.is_set():
                    return
                if self.line.is_down:
                    # That is told already; and a day may come for which nobody has made partitions.
                    pause = _SOON
                else:
                    logger.warning("keeping the outbox small failed, and is tried again in an hour: %s", error)
            await background.sleep(pause)


class _Call(Generic[T]):
    """Something that is done to its end, and what came of it."""

    def __init__(
        self,
        work: Callable[[], Awaitable[T]],
        undo: Callable[[], Awaitable[object]] | None,
        caller: Caller,
    ) -> None:
        self.over = caller.once()
        self._work = work
        self._undo = undo
        self._abandoned = False
        self._results: list[T] = []
        self._error: BaseException | None = None

    async def run(self) -> None:
        try:
            self._results.append(await self._work())
        except Exception as error:  # noqa: BLE001 - it is told to whoever waits
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self.over.set()
        if self._abandoned or self._error is not None:
            await self._take_back()

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self.over.is_set() and self._error is None:
            spawn(self._take_back)
        self._abandoned = True

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]

    async def _take_back(self) -> None:
        # What cannot be taken back ends by itself: its lease does.
        with suppress(OutboxError):
            if self._undo is not None:
                await self._undo()


def _instant(seconds: float) -> int:
    """A time of the monotonic clock as whole microseconds."""
    return round(seconds * 1_000_000)

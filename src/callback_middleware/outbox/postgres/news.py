"""News between processes: ``LISTEN`` and ``NOTIFY`` as a hint, one for a burst; polling alone is correct."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import uuid4

import anyio
import asyncpg

from callback_middleware.outbox.postgres.line import Line

logger = logging.getLogger("callback_middleware")

POLL: Final = 1.0
"""Seconds between two looks, whatever is heard."""

_BREATH: Final = 0.025
"""Seconds between two notifications: each takes a lock that all databases of the server share."""

_AGAIN: Final = 5.0
"""Seconds between two tries to listen."""

_SELF: Final = uuid4().hex
"""Of this process: what it tells others it knows itself."""


class News:
    """One event loop's ear and mouth.

    Args:
        line: The loop's.
        channel: Where news are told.
        heard: Called when another process has told some.
        listens: Whether there is a connection to listen on; behind a pooler there is none.
    """

    def __init__(self, line: Line, channel: str, heard: Callable[[], object], *, listens: bool) -> None:
        self._line = line
        self._channel = channel
        self._heard = heard
        self._listens = listens
        self._listening = False
        self._telling = False
        self._more = False
        self._told = 0.0

    def listen(self) -> None:
        """Hear what other processes tell, from now on."""
        if self._listens and not self._listening:
            self._listening = True
            self._line.background.spawn(self._listen)

    def tell(self) -> None:
        """Tell other processes that something may be due. It returns at once, and many in a row are told as one."""
        self._more = True
        if not self._telling:
            self._telling = True
            self._line.background.spawn(self._tell)

    async def _tell(self) -> None:
        try:
            while self._more:
                await anyio.sleep(max(self._told + _BREATH - time.monotonic(), 0))
                self._more = False
                self._told = time.monotonic()
                await self._line.run(
                    lambda connection: connection.execute("SELECT pg_notify($1, $2)", self._channel, _SELF),
                    seconds=POLL,
                )
        except Exception as error:  # noqa: BLE001 - a hint: whoever waits looks by itself, soon
            logger.debug("news of the outbox were not told: %s", error)
        finally:
            self._telling = False

    async def _listen(self) -> None:
        try:
            while not self._line.background.over.is_set():
                try:
                    await self._listen_once()
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
                    logger.debug("news of the outbox are not heard: %s", error)
                await self._line.background.sleep(_AGAIN)
        finally:
            self._listening = False

    async def _listen_once(self) -> None:
        cut_off = anyio.Event()
        connection = await self._line.connect()
        try:
            connection.add_termination_listener(lambda _: cut_off.set())
            await connection.add_listener(self._channel, self._hear)
            # What was told before is looked for.
            self._heard()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_set_when, self._line.background.over, cut_off)
                await cut_off.wait()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await connection.close(timeout=POLL)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload != _SELF:
            self._heard()


async def _set_when(first: anyio.Event, then: anyio.Event) -> None:
    await first.wait()
    then.set()

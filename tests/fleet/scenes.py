"""What the rounds of a fleet share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from crashing.journal import Entry
from crashing.services import Service
from crashing.world import World
from fleet.proxy import Proxy, proxying

PUT: Final = "INSERT INTO callback_middleware.delivery"
"""What stands in the statement that stores deliveries."""

SLOWNESS: Final = 0.1
"""Seconds that a receiver takes, so that attempts are in flight at any moment."""


class Fleet(NamedTuple):
    """Two web processes, each at its place, which send nothing; and two workers."""

    webs: Sequence[Service]
    workers: Sequence[Service]


@asynccontextmanager
async def fleet(scene: World) -> AsyncIterator[Fleet]:
    async with (
        scene.web(0, dispatch=False) as web,
        scene.web(1, dispatch=False) as other_web,
        scene.worker() as worker,
        scene.worker() as other_worker,
    ):
        yield Fleet([web, other_web], [worker, other_worker])
        for service in (web, other_web, worker, other_worker):
            await service.terminate()


@asynccontextmanager
async def proxy_of(url: str) -> AsyncIterator[Proxy]:
    parts = urlsplit(url)
    async with proxying((parts.hostname or "", parts.port or 0)) as proxy:
        yield proxy


async def at_work(scene: World, worker: Service) -> None:
    """Return when a worker has claimed something from now on."""
    before = len(scene.journal.read())

    def claims(entries: Sequence[Entry]) -> bool:
        return any((one.process, one.what) == (worker.process, "claimed") for one in entries[before:])

    await scene.noted(claims, f"worker {worker.process} claims something")


def at_once(fault: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def strikes() -> None:
        fault()

    return strikes


async def terminating(url: str, backend: int) -> None:
    """Have the database end one of its processes."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_terminate_backend($1)", backend)
    finally:
        await connection.close()

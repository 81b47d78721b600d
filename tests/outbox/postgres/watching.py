"""What the server says of those who are connected, and waiting for what happens in its own time."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import anyio

from callback_middleware import eventloop
from postgres_server import DatabaseServer

_CONNECTED = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'callback_middleware'"


def connected(server: DatabaseServer, url: str) -> set[int]:
    """The server's processes for the connections that outboxes have to a database."""
    return {row[0] for row in server.execute(_CONNECTED, (urlsplit(url).path[1:],))}


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds, which nobody tells of."""
    # Less than the sessions' statement_timeout: that ends whatever was forgotten.
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nobody would set an event
            await anyio.sleep(0.01)


async def until_idle() -> None:
    """Return when no task goes on that belongs to nobody."""
    await until(lambda: not eventloop._tasks)

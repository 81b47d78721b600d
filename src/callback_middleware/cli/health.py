"""What probes ask a worker, answered by the event loop that delivers: a loop that hangs answers nobody.

HTTP/1.1 over h11, one request for each connection. Whoever can reach the port may ask; so little is read, kept and
waited for that nobody is served by asking a lot.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import anyio
import click
import h11
from anyio.abc import Listener, SocketAttribute, SocketStream, TaskGroup

from callback_middleware.dispatcher.conditions import Condition, Readiness
from callback_middleware.dispatcher.tasks import Tasks

logger = logging.getLogger("callback_middleware")

CONNECTIONS: Final = 32
"""At once; further ones are closed unheard."""

SECONDS: Final = 5.0
"""For one connection, from its first byte to its last."""

_LARGEST: Final = 8 * 1024
"""Bytes of a request that are looked at; and then of what comes after it, which is thrown away."""

_PIECE: Final = 4 * 1024
_ENDING: Final = 1.0
_PAUSE: Final = 1.0


class Reply(NamedTuple):
    """What a probe is told."""

    status: HTTPStatus
    content: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


def reply_to(method: str, target: str, condition: Callable[[], Condition]) -> Reply:
    """Decide what a probe is told.

    Args:
        method: In capitals; ``HEAD`` is told what ``GET`` is.
        target: The request's; a query changes nothing.
        condition: How the dispatcher stands, if that is asked.
    """
    path = target.partition("?")[0]
    if path not in ("/live", "/ready"):
        return Reply(HTTPStatus.NOT_FOUND, {"detail": "ask for /live or /ready"})
    if method not in ("GET", "HEAD"):
        return Reply(HTTPStatus.METHOD_NOT_ALLOWED, {"detail": "ask with GET or HEAD"}, (("allow", "GET, HEAD"),))
    if path == "/live":
        return Reply(HTTPStatus.OK, {"status": "live"})
    stands = condition()
    content: dict[str, Any] = {
        "status": stands.readiness.value,
        "since": stands.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "in_flight": stands.in_flight,
    }
    if stands.readiness is Readiness.READY:
        return Reply(HTTPStatus.OK, content)
    return Reply(HTTPStatus.SERVICE_UNAVAILABLE, {**content, "reason": stands.reason})


@asynccontextmanager
async def answering_probes(host: str, port: int, condition: Callable[[], Condition]) -> AsyncIterator[int]:
    """Answer probes on the running event loop for as long as the block lasts. Yields the port, and tells it to the log.

    Args:
        host: A name or address of this machine.
        port: 0 for any that is free.
        condition: How the dispatcher stands.

    Raises:
        ClickException: It cannot listen there.
    """
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as error:
        raise click.ClickException(
            f"probes cannot be answered at {host}, port {port}: {error}; give --health-port, or --health-host, another"
        ) from None
    # In no task group: what ends the block should come out of it as it is.
    tasks = Tasks(_failed)
    tasks.begin(partial(_Probes(condition).serve, listener.listeners))
    taken: int = listener.extra_attributes[SocketAttribute.local_port]()
    logger.info("readiness: http://%s:%d/ready", f"[{host}]" if ":" in host else host, taken)
    try:
        yield taken
    finally:
        await tasks.end(_ENDING)
        with anyio.CancelScope(shield=True):
            await listener.aclose()


class _Probes:
    """The connections that are open."""

    def __init__(self, condition: Callable[[], Condition]) -> None:
        self._condition = condition
        self._open = 0

    async def serve(self, listeners: Any) -> None:
        """Take connections, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            for listener in listeners:
                tasks.start_soon(self._accept, listener, tasks)

    async def _accept(self, listener: Listener[SocketStream], tasks: TaskGroup) -> None:
        while True:
            try:
                await listener.serve(self._converse, tasks)
            except OSError as error:
                # As when no file can be opened any more. That may pass.
                logger.warning("a probe cannot be answered: %s", error)
                await anyio.sleep(_PAUSE)

    async def _converse(self, stream: SocketStream) -> None:
        self._open += 1
        try:
            async with stream:
                if self._open <= CONNECTIONS:
                    with anyio.move_on_after(SECONDS):
                        await _answer(stream, self._condition)
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            # Whoever asked went away.
            return
        except Exception:
            logger.exception("answering a probe failed")
        finally:
            self._open -= 1


async def _answer(stream: SocketStream, condition: Callable[[], Condition]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST)
    method = "GET"
    try:
        request = await _request(stream, connection)
    except h11.RemoteProtocolError as error:
        reply = Reply(HTTPStatus(error.error_status_hint), {"detail": str(error)})
    else:
        if request is None:
            return
        method = request.method.decode("ascii")
        reply = reply_to(method, request.target.decode("ascii"), condition)
    body = json.dumps(reply.content).encode()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
        *reply.headers,
    ]
    data = connection.send(h11.Response(status_code=reply.status, headers=headers, reason=reply.status.phrase)) or b""
    await stream.send(data if method == "HEAD" else data + body)
    # A connection that is closed with something unread is reset, and the answer may be lost with it.
    await stream.send_eof()
    unread = _LARGEST
    while unread > 0:
        unread -= len(await stream.receive(_PIECE))


async def _request(stream: SocketStream, connection: h11.Connection) -> h11.Request | None:
    """What is asked; None if the other side closes before it has asked."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        try:
            connection.receive_data(await stream.receive(_PIECE))
        except anyio.EndOfStream:
            connection.receive_data(b"")


def _failed(error: BaseException) -> None:
    logger.error("probes are not answered any more", exc_info=error)

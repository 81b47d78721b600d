"""A load generator, a sink and a server, each where it disturbs the others least."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Literal

from callback_middleware import Dispatcher, EgressPolicy, SQLiteOutbox
from callback_middleware.senders.httpx import HttpxSender

SERVER_CORE, LOAD_CORE = 0, 1

PATIENCE = 30
"""Seconds that a server may take to start."""

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'


def pin(core: int | None) -> None:
    """Keep this process, and those it starts from now on, on one core; None lets them on all."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1) if core is None else {core})


@dataclass(frozen=True, slots=True)
class Served:
    """An application, and how it is served."""

    name: str
    arguments: Sequence[Any]
    http: Literal["h11", "httptools"]
    core: int | None
    frozen: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What one measured stretch of requests came to."""

    requests: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return statistics.quantiles(self.latencies, n=100)[98] * 1000 if len(self.latencies) > 1 else float("nan")


class _Client(asyncio.Protocol):
    """One kept-alive connection that asks again as soon as it is answered, until time is up."""

    def __init__(self, request: bytes, end: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._request = request
        self._end = end
        self._latencies = latencies
        self._done = done
        self._received = b""
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP client gets
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked >= self._end:
            self._transport.close()
            return
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(f"the server answered {self._received[:200]!r}"))
            self._transport.close()
            return
        self._received = b""
        self._latencies.append(time.perf_counter() - self._asked)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            if exc is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(exc)


async def _generate(port: int, request: bytes, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    start = time.perf_counter()
    dones = [loop.create_future() for _ in range(connections)]
    for done in dones:
        client = partial(_Client, request, start + seconds, latencies, done)
        await loop.create_connection(client, "127.0.0.1", port)
    await asyncio.gather(*dones)
    return Load(len(latencies), time.perf_counter() - start, latencies)


def generate(port: int, request: bytes, *, connections: int, seconds: float) -> Load:
    """Load a server for this long, each connection with one request at a time."""
    return asyncio.run(_generate(port, request, connections, seconds))


def post(path: str, body: bytes) -> bytes:
    """The bytes of one request."""
    fields = ["host: localhost", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode() + body


class _Sink(asyncio.Protocol):
    """A receiver: counts whole requests and answers each."""

    def __init__(self, count: Synchronized[int]) -> None:
        self._count = count
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP server gets
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self._received = b""
            self._count.value += 1
            self._transport.write(ANSWER)


def _serve_sink(listening: socket.socket, count: Synchronized[int]) -> None:
    pin(LOAD_CORE)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Sink(count), sock=listening)
        await server.serve_forever()

    asyncio.run(serve())


def _serve_application(listening: socket.socket, served: Served) -> None:
    import uvicorn

    from benchmarks import applications

    pin(served.core)
    logging.disable(logging.CRITICAL)
    app = getattr(applications, served.name)(*served.arguments)
    if served.frozen:
        gc.collect()
        gc.freeze()
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=served.http,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    asyncio.run(uvicorn.Server(config).serve([listening]))


def _work(file: Path) -> None:
    logging.disable(logging.CRITICAL)
    outbox = SQLiteOutbox(file)
    asyncio.run(Dispatcher(outbox, HttpxSender(), egress=EgressPolicy.development()).run())


@contextmanager
def _process(target: Any, *arguments: Any) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _listen() -> socket.socket:
    # By its protocol asyncio knows TCP, and turns off the delay of small packets.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    # Listening from now on: whoever connects before the process accepts waits in the backlog.
    listening.listen(1024)
    return listening


def _ask(port: int) -> None:
    """Ask a server for anything, and wait for its answer: then it is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        if not connection.recv(1):
            raise RuntimeError(f"the server on port {port} closed the connection instead of answering")


@contextmanager
def application(
    name: str,
    *arguments: Any,
    http: Literal["h11", "httptools"] = "h11",
    core: int | None = SERVER_CORE,
    frozen: bool = False,
) -> Iterator[int]:
    """One of :mod:`benchmarks.applications`, made with these arguments, under uvicorn on asyncio. Yields its port.

    Args:
        name: The function that makes it.
        arguments: The function's.
        http: What parses HTTP.
        core: The one that the process is pinned to; None for all.
        frozen: Whether what there is at the start is kept out of garbage collections (``gc.freeze``).
    """
    with _listen() as listening, _process(_serve_application, listening, Served(name, arguments, http, core, frozen)):
        port = listening.getsockname()[1]
        _ask(port)
        yield port


@contextmanager
def sink(count: Synchronized[int]) -> Iterator[int]:
    """A receiver in a process of its own. Yields its port."""
    with _listen() as listening, _process(_serve_sink, listening, count):
        yield listening.getsockname()[1]


@contextmanager
def worker(file: Path) -> Iterator[None]:
    """A process of its own that delivers, with the default sender, what is due in this file."""
    with _process(_work, file):
        yield

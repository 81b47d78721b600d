"""How many deliveries a second a sender makes, beside what users have without it.

Posts 1 KiB to a sink in a process of its own and prints one row per comparison: the median rates of interleaved
runs, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import cast

import aiohttp
import httpx
import uvloop

from callback_middleware.egress import EgressPolicy
from callback_middleware.outcomes import Accepted, AttemptRequest
from callback_middleware.ports import Sender
from callback_middleware.senders.aiohttp import AiohttpSender
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.idle import PoolLimits

BODY = b'{"description": "Payment celebration", "paid": true}'.ljust(1024)
HEADERS = (
    ("content-type", "application/json"),
    ("webhook-id", "0192f0c1-7e4b-7a3c-8d21-5c2f9be01a44"),
    ("webhook-timestamp", "1700000000"),
    ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
)
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'
DEADLINE = timedelta(seconds=30)

Post = Callable[[], Awaitable[None]]


class _Sink(asyncio.Protocol):
    """Answers whoever sent a whole request; reads no more of it than where it ends."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        _, blank, body = self._received.partition(b"\r\n\r\n")
        if blank and len(body) >= len(BODY):
            self._received = b""
            self._transport.write(ANSWER)


def _serve(ready: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


@asynccontextmanager
async def _stock_httpx(url: str) -> AsyncIterator[Post]:
    async with httpx.AsyncClient(timeout=DEADLINE.total_seconds()) as client:

        async def post() -> None:
            (await client.post(url, content=BODY, headers=HEADERS)).raise_for_status()

        yield post


@asynccontextmanager
async def _bare_aiohttp(url: str) -> AsyncIterator[Post]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(DEADLINE.total_seconds())
    ) as session:

        async def post() -> None:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                response.raise_for_status()
                await response.read()

        yield post


@asynccontextmanager
async def _through(sender: Sender, url: str) -> AsyncIterator[Post]:
    egress = EgressPolicy.development()
    request = AttemptRequest("POST", url, HEADERS, BODY)

    async def post() -> None:
        outcome = await sender.send(request, egress=egress, deadline=DEADLINE)
        if not isinstance(outcome, Accepted):
            raise TypeError(outcome)

    try:
        yield post
    finally:
        await sender.aclose()


@dataclass(frozen=True)
class Comparison:
    """A sender, what it is measured against, and the ratio to reach."""

    sender: Client
    against: Client
    at_once: int
    at_least: float


@dataclass(frozen=True)
class Client:
    """How to make a client, and how many deliveries to give it: enough to see its pool at work, and to finish."""

    name: str
    connect: Callable[[str], AbstractAsyncContextManager[Post]]
    deliveries: int


# The sink is one address, and takes as much as comes.
LIMITS = PoolLimits(per_address=256)

HTTPX_SENDER = Client("HttpxSender", lambda url: _through(HttpxSender(limits=LIMITS), url), 8_000)
AIOHTTP_SENDER = Client("AiohttpSender", lambda url: _through(AiohttpSender(limits=LIMITS), url), 8_000)
STOCK_HTTPX = Client("httpx.AsyncClient", _stock_httpx, 2_000)
BARE_AIOHTTP = Client("aiohttp.ClientSession", _bare_aiohttp, 8_000)

COMPARISONS: Sequence[Comparison] = [
    Comparison(HTTPX_SENDER, STOCK_HTTPX, 32, 8.0),
    Comparison(HTTPX_SENDER, STOCK_HTTPX, 256, 30.0),
    Comparison(AIOHTTP_SENDER, BARE_AIOHTTP, 32, 0.75),
    Comparison(AIOHTTP_SENDER, BARE_AIOHTTP, 256, 0.75),
]


async def rate(client: Client, url: str, at_once: int) -> float:
    """Deliveries a second, with ``at_once`` under way until none is left. Opening the connections counts."""
    left = iter(range(client.deliveries))

    async with client.connect(url) as post:

        async def deliver() -> None:
            for _ in left:
                await post()

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(deliver())
        return client.deliveries / (time.perf_counter() - began)


def measure(comparison: Comparison, url: str, runs: int) -> tuple[float, float]:
    """The median rates of the sender and of what it is measured against, in turns."""
    rates: dict[Client, list[float]] = {comparison.sender: [], comparison.against: []}
    for _ in range(runs):
        for client, measured in rates.items():
            measured.append(asyncio.run(rate(client, url, comparison.at_once)))
    return statistics.median(rates[comparison.sender]), statistics.median(rates[comparison.against])


def main() -> None:
    """Print one row per comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each side")
    runs = parser.parse_args().runs

    # A child that shares nothing: neither this one's memory nor its event loop.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=_serve, args=(there,), daemon=True)
    sink.start()
    url = f"http://127.0.0.1:{here.recv()}/invoices/2fb7b6e0?source=benchmark"
    print(
        f"{'sender':<15}{'at once':>8}{'per second':>12}  {'against':<22}{'per second':>10}{'ratio':>8}{'at least':>10}"
    )
    try:
        for comparison in COMPARISONS:
            ours, theirs = measure(comparison, url, runs)
            print(
                f"{comparison.sender.name:<15}{comparison.at_once:>8}{ours:>12,.0f}  {comparison.against.name:<22}"
                f"{theirs:>10,.0f}{ours / theirs:>8.2f}{comparison.at_least:>10.2f}",
                flush=True,
            )
    finally:
        sink.terminate()


if __name__ == "__main__":
    main()

"""What the middleware costs: a route without callbacks, and the invoice route beside hand-written versions.

``python -m benchmarks.routes``. Each application is one uvicorn process on one core; load and receiver share the other.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from multiprocessing.sharedctypes import Synchronized

from benchmarks.load import LOAD_CORE, Load, application, generate, post, sink

INVOICE = json.dumps(
    {"id": "2expen51ve", "title": "A website", "customer": "Mr. Richie Rich", "total": 9999.1}
).encode()
CONNECTIONS = 32
DELIVERY_SECONDS = 20


def main(*, rounds: int = 5, slices: int = 40, seconds: float = 3) -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    route_without_callbacks(slices=slices)
    print()
    invoice_route(rounds=rounds, seconds=seconds)


def route_without_callbacks(*, slices: int, seconds: float = 1) -> None:
    """Many short slices in turn: the difference is a few microseconds, and the machine drifts by more."""
    request = post("/invoices/", INVOICE)
    with application("bare") as bare, application("mounted") as mounted:
        for port in (bare, mounted):
            generate(port, request, connections=CONNECTIONS, seconds=seconds)
        rates: dict[int, list[float]] = {bare: [], mounted: []}
        for turn in range(slices):
            # Each goes first as often as the other.
            for port in (bare, mounted) if turn % 2 else (mounted, bare):
                rates[port].append(generate(port, request, connections=CONNECTIONS, seconds=seconds).rate)
        pairs = list(zip(rates[bare], rates[mounted], strict=True))
    bare_rate, mounted_rate = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for theirs, mine in pairs)
    print(f"route without callbacks, {slices} interleaved pairs of {seconds:g} s, {CONNECTIONS} connections")
    print(f"  bare     {bare_rate:8.0f} req/s")
    print(f"  mounted  {mounted_rate:8.0f} req/s   {ratio:.3f} of bare (median of the pairs)")


def invoice_route(*, rounds: int, seconds: float) -> None:
    """Request/s, p99 and the share that arrived, against the same route without any callback."""
    names = [
        "bare",
        "default_sender",
        "aiohttp_sender",
        "background_shared_aiohttp",
        "background_shared_httpx",
        "background_new_httpx",
    ]
    results: dict[str, list[tuple[Load, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(_one(name, seconds))
    bare = statistics.median(load.rate for load, _ in results["bare"])
    print(
        f"invoice route, {rounds} interleaved runs of {seconds:g} s, {CONNECTIONS} connections; "
        f"delivered: within {DELIVERY_SECONDS} s of the last response"
    )
    print(f"  {'':28}{'req/s':>8}{'of bare':>9}{'p99 ms':>9}{'delivered':>11}")
    for name, runs in results.items():
        rate = statistics.median(load.rate for load, _ in runs)
        p99 = statistics.median(load.p99 for load, _ in runs)
        share = statistics.median(share for _, share in runs)
        delivered = "-" if name == "bare" else f"{share:.1%}"
        print(f"  {name:28}{rate:8.0f}{rate / bare:9.2f}{p99:9.1f}{delivered:>11}")


def _one(name: str, seconds: float) -> tuple[Load, float]:
    count: Synchronized[int] = multiprocessing.Value("q", 0)
    with sink(count) as receiver, application(name) as port:
        request = post(f"/invoices/?callback_url=http://127.0.0.1:{receiver}/events", INVOICE)
        generate(port, request, connections=1, seconds=0.3)
        _settle(count, float("inf"))
        before = count.value
        load = generate(port, request, connections=CONNECTIONS, seconds=seconds)
        _settle(count, before + load.requests)
        return load, (count.value - before) / load.requests


def _settle(count: Synchronized[int], wanted: float) -> None:
    """Until everything arrived, or nothing has for two seconds, or time is up."""
    end, seen, since = time.monotonic() + DELIVERY_SECONDS, -1, time.monotonic()
    while count.value < wanted and time.monotonic() < end:
        if count.value != seen:
            seen, since = count.value, time.monotonic()
        elif time.monotonic() - since > 2:
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()

"""What the guard costs an attempt, in microseconds, and as a share of the attempt.

``python -m benchmarks.guard``. The guard is: reading the URL and checking its text, resolving the name afresh, and
checking every address that it resolves to. What the name server takes is no part of it: the lookup answers at once, in
the thread that a real one gets. An attempt posts 1 KiB with the default sender to a sink in a process of its own, on a
kept-alive connection, one at a time: by name with the whole guard, and to an address with none of its resolving.
Medians of interleaved runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from statistics import median
from typing import Final

from benchmarks.figures import in_turns
from benchmarks.load import sink
from callback_middleware import egress as decisions
from callback_middleware.egress import EgressPolicy, hosts
from callback_middleware.egress.addresses import Address, address_of
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.outcomes import Accepted, AttemptRequest
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.interfaces import OwnAddresses
from callback_middleware.senders.resolver import Resolver

ROUNDS: Final = 7
CALLS: Final = 2_000
ATTEMPTS: Final = 1_000
DEADLINE: Final = timedelta(seconds=30)
BODY: Final = b'{"description": "Payment celebration", "paid": true}'.ljust(1024)
HEADERS: Final = (("content-type", "application/json"), ("webhook-id", "0192f0c1-7e4b-7a3c-8d21-5c2f9be01a44"))

POLICY: Final = EgressPolicy(own_addresses=("203.0.113.5", "2001:db8::5"))
ADDRESSES: Final[Sequence[Address]] = [ip_address("93.184.215.14"), ip_address("2606:4700:4700::1111")]

URL: Final = "the URL's text"
NEW_URL: Final = "the URL's text, of a receiver not seen before"
ADDRESS: Final = "both addresses of a name"
NEW_ADDRESS: Final = "both addresses, not seen before"
OWN: Final = "this machine's own addresses, already read"
READ: Final = "reading them, once in five minutes"
RESOLVE: Final = "resolving: a thread, and both addresses"
BY_NAME: Final = "an attempt by name"
BY_ADDRESS: Final = "an attempt to an address"


def forget() -> None:
    """As for a receiver that is new."""
    for remembered in (decisions._check_authority, decisions._check_address, hosts._authority, address_of):  # noqa: SLF001 - a measurement looks inside
        remembered.cache_clear()


def check_url() -> None:
    """What planning and sending each do."""
    POLICY.check_authority(HttpUrl.of("https://www.external.org/events/invoices/2expen51ve?source=benchmark").authority)


def check_addresses() -> None:
    """What connecting does."""
    for address in ADDRESSES:
        POLICY.check_address(address, host="www.external.org")


def called(function: Callable[[], object], *, new: bool = False) -> Callable[[], float]:
    """Microseconds a call; with ``new``, of the first."""

    def run() -> float:
        took = 0.0
        for _ in range(CALLS):
            if new:
                forget()
            began = time.perf_counter()
            function()
            took += time.perf_counter() - began
        return took / CALLS * 1e6

    return run


def asked_for_own_addresses(*, read: bool) -> Callable[[], float]:
    """Microseconds to complete a policy with this machine's addresses."""

    async def run() -> float:
        own = OwnAddresses(clock=lambda: 0.0)
        policy = EgressPolicy()
        await own.refused_by(policy)
        began = time.perf_counter()
        for _ in range(CALLS // 10):
            if read:
                own = OwnAddresses()
            await own.refused_by(policy)
        return (time.perf_counter() - began) / (CALLS // 10) * 1e6

    return lambda: asyncio.run(run())


def resolved() -> float:
    """Microseconds to resolve and check a name whose lookup takes no time."""

    async def run() -> float:
        resolver = Resolver(lambda _: ADDRESSES)
        authority = HttpUrl.of("https://www.external.org/").authority
        began = time.perf_counter()
        for _ in range(CALLS):
            await resolver.checked(authority, POLICY)
        return (time.perf_counter() - began) / CALLS * 1e6

    return asyncio.run(run())


def attempted(host: str, port: int) -> Callable[[], float]:
    """Microseconds an attempt."""
    egress = EgressPolicy(
        schemes=("http",),
        ports=None,
        allowed_hosts=("receiver.example", "127.0.0.1"),
        allowed_networks=("127.0.0.1",),
        own_addresses=(),
    )

    async def run() -> float:
        sender = HttpxSender(lookup=lambda _: [ip_address("127.0.0.1")])
        request = AttemptRequest("POST", f"http://{host}:{port}/invoices/2fb7b6e0?source=benchmark", HEADERS, BODY)
        await sender.send(request, egress=egress, deadline=DEADLINE)
        began = time.perf_counter()
        for _ in range(ATTEMPTS):
            outcome = await sender.send(request, egress=egress, deadline=DEADLINE)
            if not isinstance(outcome, Accepted):
                raise TypeError(outcome)
        took = time.perf_counter() - began
        await sender.aclose()
        return took / ATTEMPTS * 1e6

    return lambda: asyncio.run(run())


def measure(port: int) -> Mapping[str, float]:
    """The median of each, in microseconds."""
    subjects = {
        URL: called(check_url),
        NEW_URL: called(check_url, new=True),
        ADDRESS: called(check_addresses),
        NEW_ADDRESS: called(check_addresses, new=True),
        OWN: asked_for_own_addresses(read=False),
        READ: asked_for_own_addresses(read=True),
        RESOLVE: resolved,
        BY_NAME: attempted("receiver.example", port),
        BY_ADDRESS: attempted("127.0.0.1", port),
    }
    return {name: median(runs) for name, runs in in_turns(subjects, ROUNDS).items()}


def main() -> None:
    """Print the table."""
    with sink(multiprocessing.Value("q", 0)) as port:
        medians = measure(port)
    attempt = medians[BY_NAME]
    print(f"medians of {ROUNDS} interleaved runs\n")
    print(f"{'':48}{'µs':>8}{'of an attempt by name':>24}")
    for name, microseconds in medians.items():
        print(f"{name:48}{microseconds:8.1f}{microseconds / attempt:23.1%}")
    # Once when it is planned, once when it is sent; the addresses are a part of resolving.
    guard = 2 * medians[URL] + medians[OWN] + medians[RESOLVE]
    print(f"{'the guard, for one attempt':48}{guard:8.1f}{guard / attempt:23.1%}")


if __name__ == "__main__":
    main()

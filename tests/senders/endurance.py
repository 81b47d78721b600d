"""A process that sends to receivers that misbehave, over and over, and prints as JSON what that cost it.

``test_endurance.py`` runs it, and the receivers.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final

import anyio
import anyio.lowlevel
from misbehaving import SCRIPTS, TOGETHER

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.outcomes import Accepted, AttemptRequest, Outcome, Phase
from callback_middleware.senders import aiohttp as aiohttp_sender
from callback_middleware.senders import httpx as httpx_sender
from callback_middleware.senders.aiohttp_checks import CurrentAttempt
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.progress import Progress

LONG: Final = timedelta(seconds=60)
SHORT: Final = timedelta(seconds=1)
ROUNDS: Final = 20
LARGE: Final = b"x" * 2**22
"""More than is on its way to somebody who does not read."""
LOOPBACK: Final = EgressPolicy(
    schemes=("http", "https"),
    ports=None,
    allowed_hosts=("*.example", "127.0.0.0/8"),
    allowed_networks=("127.0.0.0/8",),
)

HOPELESS: Final = {"silence", "half an answer", "no handshake", "unread"}
"""What nothing but the deadline ends."""
HOPELESS_WITH_AIOHTTP: Final = {"endless extensions", "one endless extension", "endless lines"}

never = threading.Event()
under_way: list[Progress] = []


class Watched(Progress):
    """Where one attempt is: the default sender's."""

    def __init__(self) -> None:
        super().__init__()
        under_way.append(self)


class WatchedAttempt(CurrentAttempt):
    """The same of the other."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        under_way.append(self)


def lookup(name: str) -> Sequence[Address]:
    never.wait()
    return [ip_address("127.0.0.1")]


async def kilobytes(name: str) -> int:
    """Of this process, as Linux says it."""
    for line in (await anyio.Path("/proc/self/status").read_text()).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


class Endurance:
    """One sender, and what becomes of it."""

    def __init__(self, library: str, ports: Mapping[str, int]) -> None:
        limits = PoolLimits(connections=TOGETHER, per_address=TOGETHER)
        context = ssl.create_default_context()
        make: Callable[..., Any] = aiohttp_sender.AiohttpSender if library == "aiohttp" else httpx_sender.HttpxSender
        self.hopeless = HOPELESS | (HOPELESS_WITH_AIOHTTP if library == "aiohttp" else set())
        self.sender = make(limits=limits, lookup=lookup, ssl_context=context)
        self.ports = ports
        self.phases = {
            "resolve": ("http://{}.example/", Phase.RESOLVE, b""),
            "unaccepted": ("http://127.0.0.1:{}/", Phase.CONNECT, b""),
            "no handshake": ("https://127.0.0.1:{}/", Phase.TLS, b""),
            "unread": ("http://127.0.0.1:{}/", Phase.SEND, LARGE),
            "silence": ("http://127.0.0.1:{}/", Phase.HEADERS, b""),
            "half an answer": ("http://127.0.0.1:{}/", Phase.BODY, b""),
        }
        if library == "aiohttp":  # it says no more
            self.phases["no handshake"] = ("https://127.0.0.1:{}/", Phase.CONNECT, b"")
            self.phases["unread"] = ("http://127.0.0.1:{}/", Phase.HEADERS, LARGE)

    async def send(self, url: str, deadline: timedelta, body: bytes = b"{}") -> Outcome:
        outcome: Outcome = await self.sender.send(
            AttemptRequest("POST", url, (), body), egress=LOOPBACK, deadline=deadline
        )
        return outcome

    async def healthy(self) -> int:
        """Deliver as many at once as there are slots. Returns how many arrived."""
        arrived = 0

        async def one() -> None:
            nonlocal arrived
            outcome = await self.send(f"http://127.0.0.1:{self.ports['healthy']}/", LONG)
            arrived += isinstance(outcome, Accepted)

        async with anyio.create_task_group() as tasks:
            for _ in range(TOGETHER):
                tasks.start_soon(one)
        return arrived

    async def descriptors(self) -> int:
        """How many are open when nothing is kept."""
        await self.sender.aclose()
        await anyio.wait_all_tasks_blocked()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path is wanted

    async def cancel(self, name: str) -> Mapping[str, Any]:
        """Cancel a thousand attempts that have come as far as this, and deliver normally."""
        url, phase, body = self.phases[name]
        cancelled = 0
        for _ in range(ROUNDS):
            del under_way[:]
            async with anyio.create_task_group() as tasks:
                for number in range(TOGETHER):
                    tasks.start_soon(self.send, url.format(self.ports.get(name, number)), LONG, body)
                while len(under_way) < TOGETHER or any(one.phase is not phase for one in under_way):
                    await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
                cancelled += sum(one.phase is phase for one in under_way)
                tasks.cancel_scope.cancel()
        arrived = await self.healthy()
        return {"cancelled": cancelled, "arrived": arrived, "descriptors": await self.descriptors()}

    async def suffer(self, name: str) -> Mapping[str, int]:
        """What so many attempts came to."""
        came_to: Counter[str] = Counter()

        async def one() -> None:
            body = LARGE if name == "unread" else b"{}"
            scheme = "https" if name == "no handshake" else "http"
            url = f"{scheme}://127.0.0.1:{self.ports[name]}/"
            outcome = await self.send(url, SHORT if name in self.hopeless else LONG, body)
            came_to[f"{type(outcome).__name__} {getattr(outcome, 'phase', '')}".strip()] += 1

        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(one)
        return came_to

    async def run(self) -> Mapping[str, Any]:
        await self.healthy()
        before = await self.descriptors()
        # What a process begins with is its parent's: the peak counts from here.
        await anyio.Path("/proc/self/clear_refs").write_text("5")
        memory = await kilobytes("VmRSS")
        suffered = {name: await self.suffer(name) for name in SCRIPTS}
        grown = await kilobytes("VmHWM") - memory
        after = await self.descriptors()
        return {
            "suffered": suffered,
            "kilobytes": grown,
            "descriptors": (before, after),
            "cancelled": {name: await self.cancel(name) for name in self.phases},
        }


def main(library: str, loop: str, ports: str) -> None:
    vars(httpx_sender)["Progress"] = Watched
    vars(aiohttp_sender)["CurrentAttempt"] = WatchedAttempt
    report = anyio.run(Endurance(library, json.loads(ports)).run, backend=loop)
    json.dump(report, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # lookups still hang


if __name__ == "__main__":
    main(*sys.argv[1:])

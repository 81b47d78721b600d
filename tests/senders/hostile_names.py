"""A process in a network of its own, where the whole internet is this machine and its name server is a stranger's.

It sends to one name after another, with the system's own lookup, and prints what became of each, as JSON. The global
addresses below are addresses of its own loopback; nothing else is there, and nothing leaves it. Its name server is at
127.0.0.1, as ``/etc/resolv.conf`` must say; see ``test_hostile_names.py``, which arranges all that.
"""

from __future__ import annotations

import fcntl
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

import anyio
import trustme
from name_server import Name, NameServer

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.outcomes import AttemptRequest
from callback_middleware.ports import Sender
from callback_middleware.senders.aiohttp import AiohttpSender
from callback_middleware.senders.httpx import HttpxSender

PUBLIC: Final = "93.184.0.1"
ELSEWHERE: Final = "93.184.0.2"
INTERNAL: Final = "10.0.0.1"
METADATA: Final = "169.254.169.254"
NETWORKS: Final = ((PUBLIC, "255.255.0.0"), (INTERNAL, "255.0.0.0"), (METADATA, "255.255.255.255"))
HEARD: Final = (80, 443)
"""Whoever connects to these ports is answered, whatever address he came to."""
DEADLINE: Final = timedelta(seconds=30)
SOON: Final = timedelta(seconds=0.3)

never = threading.Event()


def addresses(*found: str) -> Mapping[str, Sequence[str]]:
    """Records for addresses of either family."""
    return {
        "A": [address for address in found if ":" not in address],
        "AAAA": [address for address in found if ":" in address],
    }


NAMES: Final = {
    "good.test.": Name([addresses(PUBLIC)]),
    "rebinding.test.": Name([addresses(PUBLIC), addresses(INTERNAL), addresses(PUBLIC)]),
    "moving.test.": Name([addresses(PUBLIC), addresses(ELSEWHERE)]),
    "mixed.test.": Name([addresses(PUBLIC, INTERNAL, ELSEWHERE)]),
    "mixed-families.test.": Name([addresses(PUBLIC, "fd00::1")]),
    "internal.test.": Name([addresses(INTERNAL)]),
    "metadata.test.": Name([addresses(METADATA)]),
    "loopback.test.": Name([addresses("127.0.0.1", "::1")]),
    "mapped.test.": Name([addresses("::ffff:10.0.0.1")]),
    "nat64.test.": Name([addresses("64:ff9b::a00:1")]),
    "6to4.test.": Name([addresses("2002:a00:1::1")]),
    "compatible.test.": Name([addresses("::10.0.0.1")]),
    "dual.test.": Name([addresses("2606:4700::1111", PUBLIC)]),
    "many.test.": Name([addresses(*(f"93.184.1.{number}" for number in range(1, 101)))]),
    "many-and-one.test.": Name([addresses(*(f"93.184.1.{number}" for number in range(1, 101)), METADATA)]),
    "alias.test.": Name([{"CNAME": ["alias2.test."]}]),
    "alias2.test.": Name([{"CNAME": ["alias3.test."]}]),
    "alias3.test.": Name([{"CNAME": ["good.test."]}]),
    "bad-alias.test.": Name([{"CNAME": ["bad-alias2.test."]}]),
    "bad-alias2.test.": Name([{"CNAME": ["internal.test."]}]),
    "round.test.": Name([{"CNAME": ["and-round.test."]}]),
    "and-round.test.": Name([{"CNAME": ["round.test."]}]),
    "empty.test.": Name([{}]),
    "silent.test.": Name([addresses(PUBLIC)], wait=never),
    # What a search domain would find.
    "nowhere.test.search.example.": Name([addresses(PUBLIC)]),
    "nowhere.test.corp.example.": Name([addresses(INTERNAL)]),
}


@dataclass
class Try:
    """One attempt."""

    kind: str
    outcome: Mapping[str, Any]
    events: Sequence[Sequence[str]]
    """In order: ``checked`` and ``connect``, each with an address."""


@dataclass
class Receivers:
    """Whoever is at the addresses of this machine: they accept everything, and keep every connection open."""

    context: ssl.SSLContext
    requests: list[Mapping[str, str]] = field(default_factory=list)
    """Of each: address and port that it came to, TLS server name, first line and ``Host``."""
    connections: int = 0

    def serve(self) -> None:
        for port in HEARD:
            listener = socket.create_server(("0.0.0.0", port))  # noqa: S104 - in a network of its own
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        address, port = connection.getsockname()
        names: list[str | None] = []
        with suppress(OSError):
            if port == 443:
                self.context.sni_callback = lambda _socket, name, _context: names.append(name)
                connection = self.context.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rwb")
            while first := stream.readline():
                headers = {}
                while line := stream.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    headers[name] = value
                stream.read(int(headers.get("Content-Length", "0")))
                self.requests.append(
                    {
                        "address": address,
                        "port": str(port),
                        "server_name": str(names[-1] if names else None),
                        "first": first.decode().strip(),
                        "host": headers["Host"],
                    }
                )
                stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                stream.flush()


events: list[tuple[str, str]] = []


class Recorded(EgressPolicy):
    """The default policy, which says what it was asked and allowed."""

    def check_address(self, address: str | Address, *, host: str | None = None) -> None:
        super().check_address(address, host=host)
        events.append(("checked", str(address)))


def record_connections() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            events.append(("connect", str(arguments[1][0])))

    sys.addaudithook(hook)


def make_a_network() -> None:
    """Give the loopback interface the addresses of the world. On it, an address brings its whole network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def tell(request: int, label: str, value: bytes) -> None:
            fcntl.ioctl(control, request, struct.pack("16s24s", label.encode(), value))

        def address(text: str) -> bytes:
            return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(text))

        up = struct.pack("H", 0x1 | 0x8 | 0x40)  # IFF_UP, IFF_LOOPBACK, IFF_RUNNING
        tell(0x8914, "lo", up)  # SIOCSIFFLAGS
        for number, (own, mask) in enumerate(NETWORKS):
            tell(0x8916, f"lo:{number}", address(own))  # SIOCSIFADDR
            tell(0x891C, f"lo:{number}", address(mask))  # SIOCSIFNETMASK


class World:
    """The cases, and what they came to."""

    def __init__(self, sender: Sender, server: NameServer, receivers: Receivers) -> None:
        self.sender = sender
        self.server = server
        self.receivers = receivers
        self.policy = Recorded()
        self.plain = Recorded(schemes=("http", "https"))
        self.report: dict[str, Any] = {}

    async def attempt(self, url: str, deadline: timedelta = DEADLINE) -> Try:
        del events[:]
        policy = self.plain if url.startswith("http:") else self.policy
        outcome = await self.sender.send(
            AttemptRequest("POST", url, (("Content-Type", "application/json"),), b"{}"),
            egress=policy,
            deadline=deadline,
        )
        told = {
            name: getattr(outcome, name)
            for name in ("phase", "detail", "rule")
            if getattr(outcome, name, None) is not None
        }
        return Try(type(outcome).__name__, told, tuple(events))

    async def case(self, name: str, *urls: str, deadline: timedelta = DEADLINE) -> None:
        """Attempt these one after another, and note what everybody saw."""
        asked, over_tcp = len(self.server.asked), self.server.over_tcp
        requests, connections = len(self.receivers.requests), self.receivers.connections
        tries = [asdict(await self.attempt(url, deadline)) for url in urls]
        self.report[name] = {
            "tries": tries,
            "asked": self.server.asked[asked:],
            "over_tcp": self.server.over_tcp - over_tcp,
            "requests": self.receivers.requests[requests:],
            "connections": self.receivers.connections - connections,
        }

    async def run(self) -> None:
        await self.case("tls", "https://good.test/hook?a=b", "https://good.test/hook?a=c")
        await self.case("plain", "http://good.test/hook")
        await self.case("rebinding", *["https://rebinding.test/"] * 3)
        await self.case("moving", *["https://moving.test/"] * 3)
        for name in ("mixed", "mixed-families", "internal", "metadata", "loopback", "bad-alias"):
            await self.case(name, f"https://{name}.test/")
        for name in ("mapped", "nat64", "6to4", "compatible", "many-and-one"):
            await self.case(name, f"https://{name}.test/")
        await self.case("dual", "https://dual.test/")
        await self.case("alias", "https://alias.test/")
        await self.case("many", "https://many.test:8443/")
        for name in ("round", "empty", "nobody", "nowhere"):
            await self.case(name, f"https://{name}.test/")
        await self.case("silent", "https://silent.test/", deadline=SOON)
        await self.case("unheard", "https://silent.test/")
        await self.case("after all that", "https://good.test/")
        await self.sender.aclose()


def main(library: str, loop: str) -> None:
    make_a_network()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(name.removesuffix(".") for name in NAMES)).configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server, receivers = NameServer(NAMES), Receivers(context)
    server.serve("127.0.0.1", 53)
    receivers.serve()
    record_connections()
    make: Callable[..., Sender] = AiohttpSender if library == "aiohttp" else HttpxSender
    world = World(make(ssl_context=trusting), server, receivers)
    anyio.run(world.run, backend=loop)
    json.dump(world.report, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Whatever a stranger types, and whatever a name server answers, no socket is opened to what is not global.

Both senders, whole: URL, resolver, checks, connecting. The network is faked at its lowest point, ``connect`` of a
socket, which writes down where it was to lead. What is global is for the tests' own oracle to say.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from hostile_urls import HOSTILE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_oracle import ALLOCATED, SPECIAL, Address, Range, is_global

from callback_middleware.egress import EgressPolicy
from callback_middleware.outcomes import Accepted, AttemptRequest, Blocked, Outcome, Unreachable
from callback_middleware.ports import Sender
from callback_middleware.senders.aiohttp import AiohttpSender
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.resolver import Lookup

DEADLINE = timedelta(seconds=30)
OWN = ip_address("93.184.215.14")
POLICY = EgressPolicy(schemes=("http", "https"), ports=None, own_addresses=[str(OWN)])

COMBINATIONS = [(HttpxSender, "asyncio"), (HttpxSender, "trio"), (AiohttpSender, "asyncio")]
NAMES = [f"{sender.__name__}-{backend}" for sender, backend in COMBINATIONS]


def carrying(target: IPv4Address) -> Sequence[IPv6Address]:
    """The address in every IPv6 form that carries it, where there is one with a public look too."""
    octets = target.packed
    inverted = bytes(octet ^ 0xFF for octet in octets)
    return [
        IPv6Address(bytes(12) + octets),
        IPv6Address(bytes(10) + b"\xff\xff" + octets),
        IPv6Address(bytes(8) + b"\xff\xff\0\0" + octets),
        IPv6Address(b"\0\x64\xff\x9b" + bytes(8) + octets),
        IPv6Address(b"\0\x64\xff\x9b\0\1" + octets[:2] + b"\0" + octets[2:] + bytes(5)),
        IPv6Address(b"\x20\x02" + octets + bytes(10)),
        IPv6Address(b"\x20\1\0\0\x08\x08\x08\x08\0\0\0\0" + inverted),
        IPv6Address(b"\x20\1\0\0" + octets + b"\0\0\0\0" + b"\xf7" * 4),
        IPv6Address(b"\x26\x06\x47\0\0\0\0\0" + b"\0\0\x5e\xfe" + octets),
        IPv6Address(b"\x26\x06\x47\0\0\0\0\0" + b"\2\0\x5e\xfe" + octets),
    ]


FOUR: st.SearchStrategy[IPv4Address] = st.one_of(
    st.sampled_from(["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.1", "168.63.129.16", str(OWN)]).map(
        IPv4Address
    ),
    st.integers(0, 2**32 - 1).map(IPv4Address),
)
IN_A_ROW: st.SearchStrategy[Address] = st.sampled_from([*SPECIAL, *ALLOCATED]).flatmap(
    lambda row: st.integers(row.first, row.last).map(IPv4Address if row.version == 4 else IPv6Address)
)
SIX: st.SearchStrategy[Address] = st.sampled_from([Range.of("2000::/3", ""), Range.of("::/0", "")]).flatmap(
    lambda space: st.integers(space.first, space.last).map(IPv6Address)
)
SCOPED = st.tuples(st.sampled_from(["2606:4700::1", "fe80::1"]), st.integers(1, 9)).map(
    lambda both: IPv6Address(f"{both[0]}%{both[1]}")
)
PUBLIC = st.sampled_from(["1.1.1.1", "8.8.8.8", "2606:4700::1", "2a00:1450::1", "64:ff9b::808:808"]).map(ip_address)
ANY: st.SearchStrategy[Address] = st.one_of(
    FOUR, FOUR.flatmap(lambda four: st.sampled_from(carrying(four))), IN_A_ROW, SIX, SCOPED
)
ANSWERS = st.one_of(
    st.lists(PUBLIC, min_size=1, max_size=6),
    st.lists(PUBLIC, max_size=3).flatmap(lambda some: ANY.map(lambda one: [*some, one])),
    st.lists(ANY, max_size=4),
)

LITERALS = ANY.map(lambda address: f"[{address}]" if address.version == 6 else str(address))
NUMBERS = st.integers(0, 2**32 - 1).flatmap(
    lambda number: st.sampled_from([str(number), hex(number), f"0{number:o}", f"{number >> 24}.{number & 0xFFFFFF}"])
)
NAMES_ASKED_ABOUT = st.sampled_from(["receiver.example", "a.b.example", "metadata.google.internal", "x--y.example"])
WELL_FORMED = st.builds(
    "{}{}{}/{}".format,
    st.sampled_from(["http://", "https://", "HTTP://"]),
    # Mostly names: of what they resolve to there is more to say than of what is typed.
    st.one_of(NAMES_ASKED_ABOUT, NAMES_ASKED_ABOUT, LITERALS),
    st.sampled_from(["", ":80", ":8000"]),
    st.sampled_from(["", "hook?x=1"]),
)
ILL_FORMED = st.builds(
    "{}{}{}{}/{}".format,
    st.sampled_from(["http://", "https:/", "//", ""]),
    st.sampled_from(["", "a@", "1.1.1.1@", "1.1.1.1:80@", "1.1.1.1\\@"]),
    st.one_of(NAMES_ASKED_ABOUT, LITERALS, NUMBERS, st.sampled_from(["localhost", "x.localhost"]), st.text(max_size=8)),
    st.sampled_from(["", ":0", ":080", ".", "%2e", "#@1.1.1.1"]),
    st.sampled_from(["", "@1.1.1.1/", "../"]),
)
URLS = st.one_of(
    WELL_FORMED,
    WELL_FORMED,
    ILL_FORMED,
    st.sampled_from([url for urls in HOSTILE.values() for url in urls]),
    st.text(max_size=40),
)


@contextmanager
def fake_network(connecting: Callable[[Any, Any], None] | None = None) -> Iterator[list[Address]]:
    """Where sockets were to lead. None of them does, unless ``connecting`` has a way for them."""
    seen: list[Address] = []

    def connect(self: socket.socket, where: Any) -> None:
        seen.append(ip_address(where[0]))
        if connecting is None:
            raise ConnectionRefusedError
        connecting(self, where)

    def never(*_: object) -> None:
        raise AssertionError("a sender opens its sockets with connect()")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", never)
        patch.setattr(socket.socket, "sendto", never)
        patch.setattr(socket, "create_connection", never)
        yield seen


@asynccontextmanager
async def closing(sender: Sender) -> AsyncIterator[Sender]:
    """A sender that leaves nothing open, whatever its test finds."""
    try:
        yield sender
    finally:
        await sender.aclose()


def resolving(answers: Iterator[Sequence[Address]], told: list[Sequence[Address]]) -> Lookup:
    """A resolver that reads numbers as the system's does, and of names says something else every time."""

    def lookup(name: str) -> Sequence[Address]:
        try:
            answer: Sequence[Address] = [IPv4Address(socket.inet_aton(name.rstrip(".")))]
        except OSError:
            answer = next(answers)
        told.append(answer)
        return answer

    return lookup


@pytest.mark.parametrize(("kind", "backend"), COMBINATIONS, ids=NAMES)
def test_the_fake_network_sees_every_connection_that_is_allowed(
    kind: type[HttpxSender | AiohttpSender], backend: str
) -> None:
    """So that what follows finds nothing because nothing is there."""
    answer = [ip_address("1.1.1.1"), ip_address("2606:4700::1")]

    async def attempts() -> None:
        async with closing(kind(lookup=resolving(iter([answer]), []))) as sender:
            for host in ("receiver.example", "8.8.8.8"):
                request = AttemptRequest("POST", f"http://{host}/", (), b"{}")
                assert isinstance(await sender.send(request, egress=POLICY, deadline=DEADLINE), Unreachable)

    with fake_network() as seen:
        anyio.run(attempts, backend=backend)
    assert seen == [*answer, ip_address("8.8.8.8")]


@pytest.mark.parametrize(("kind", "backend"), COMBINATIONS, ids=NAMES)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(URLS, st.lists(ANSWERS, min_size=3, max_size=3))
def test_no_url_and_no_answer_opens_a_socket_to_what_is_not_global(
    kind: type[HttpxSender | AiohttpSender], backend: str, url: str, answers: Sequence[Sequence[Address]]
) -> None:
    """Three attempts at one URL, whose name resolves anew for each."""

    async def attempts(seen: list[Address]) -> None:
        told: list[Sequence[Address]] = []
        async with closing(kind(lookup=resolving(iter(answers), told))) as sender:
            for _ in range(3):
                told.clear()
                seen.clear()
                outcome = await sender.send(AttemptRequest("POST", url, (), b"{}"), egress=POLICY, deadline=DEADLINE)
                for address in seen:
                    assert is_global(address), address
                    assert address != OWN
                if told:
                    allowed = all(is_global(address) and address != OWN for address in told[0])
                    # Any bad answer refuses the name, and nothing is tried but what was answered.
                    assert set(seen) <= set(told[0] if allowed else ())
                    assert allowed or isinstance(outcome, Blocked)

    with fake_network() as seen:
        anyio.run(attempts, seen, backend=backend)


@pytest.mark.parametrize(("kind", "backend"), COMBINATIONS, ids=NAMES)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANSWERS, min_size=4, max_size=8))
def test_a_name_that_is_bound_anew_takes_no_kept_alive_connection_along(
    kind: type[HttpxSender | AiohttpSender], backend: str, answers: Sequence[Sequence[Address]]
) -> None:
    """What is accepted was global in every answer of its attempt, on a connection to one of them."""

    async def attempts() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's
        received: list[int] = []
        opened: dict[int, Address] = {}
        connect = socket.socket.connect

        def to_the_receiver(one: socket.socket, where: Any) -> None:
            if one.family == socket.AF_INET6:
                raise ConnectionRefusedError  # there may be no IPv6 loopback
            one.bind(("127.0.0.1", 0))
            opened[one.getsockname()[1]] = ip_address(where[0])
            connect(one, ("127.0.0.1", port))

        async def answer(stream: SocketStream) -> None:
            async with stream:
                try:
                    while True:
                        await stream.receive()
                        received.append(stream.extra(SocketAttribute.remote_port))  # noqa: S610 - anyio's
                        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return

        sender = kind(lookup=resolving(iter(answers), []))
        async with closing(sender), listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            with fake_network(to_the_receiver):
                for answered in answers:
                    before = len(received)
                    request = AttemptRequest("POST", "http://receiver.example:8000/", (), b"{}")
                    outcome: Outcome = await sender.send(request, egress=POLICY, deadline=DEADLINE)
                    allowed = bool(answered) and all(is_global(one) and one != OWN for one in answered)
                    assert allowed or not isinstance(outcome, Accepted)
                    assert len(received) - before == isinstance(outcome, Accepted)
                    assert all(opened[one] in answered for one in received[before:])
            tasks.cancel_scope.cancel()

    anyio.run(attempts, backend=backend)

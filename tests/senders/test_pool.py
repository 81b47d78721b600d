"""The pool: what it keeps, for whom, and for how long."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import anyio
import pytest
import trio
from scripted_receiver import LATER, LOOPBACK, SOON, Peer, Receiver, always, answer, serve

from callback_middleware.egress.addresses import Address
from callback_middleware.outcomes import Accepted, AddressBusy, Outcome
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.streams import Stream


async def delivered(sender: HttpxSender, receiver: Receiver, host: str = "127.0.0.1") -> None:
    outcome = await sender.send(receiver.post(host=host), egress=LOOPBACK, deadline=LATER)
    assert isinstance(outcome, Accepted), outcome


async def test_an_expired_connection_is_not_used_again() -> None:
    sender = HttpxSender(limits=PoolLimits(keepalive=0))
    async with serve(always(answer())) as receiver:
        await delivered(sender, receiver)
        await delivered(sender, receiver)
        await sender.aclose()
    assert receiver.accepted == 2


async def test_never_are_more_connections_open_than_the_limit() -> None:
    sender = HttpxSender(limits=PoolLimits(connections=2))
    now_open = 0
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal now_open, most
        now_open += 1
        most = max(most, now_open)
        try:
            await always(answer())(peer)
        finally:
            now_open -= 1

    async with serve(script) as receiver:
        async with anyio.create_task_group() as tasks:
            for number in range(1, 21):
                tasks.start_soon(delivered, sender, receiver, f"127.0.0.{number}")
        await sender.aclose()
    assert receiver.accepted == 20
    # The receiver hears of a closing after the sender may open the next one: one of each is on its way.
    assert most <= 4


async def test_an_exchange_that_outlives_closing_leaves_nothing_behind() -> None:
    asked, answered = anyio.Event(), anyio.Event()
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await answered.wait()
        await peer.send(answer())
        await peer.gone()
        gone.set()

    sender = HttpxSender()
    async with serve(script) as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(delivered, sender, receiver)
        await asked.wait()
        await sender.aclose()
        answered.set()
        await gone.wait()


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_a_loop_that_ends_without_a_word_leaves_nothing_open(run: object) -> None:
    """As a test client's loop does: a leak would be a ResourceWarning, which fails the test."""
    sender = HttpxSender()
    accepted: list[int] = []

    async def one_loop() -> None:
        async with serve(always(answer())) as receiver:
            await delivered(sender, receiver)
            await delivered(sender, receiver)
            accepted.append(receiver.accepted)

    for _ in range(3):
        coroutine = one_loop if run is trio.run else one_loop()
        run(coroutine)  # type: ignore[operator]
    gc.collect()
    assert accepted == [1, 1, 1]


async def test_an_address_that_swallows_packets_costs_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Address] = []
    connect = Stream.connect

    async def connecting(address: Address, port: int) -> Stream:
        tried.append(address)
        if address == ip_address("127.0.0.9"):
            await anyio.sleep_forever()
        return await connect(address, port)

    monkeypatch.setattr(Stream, "connect", connecting)

    def lookup(name: str) -> Sequence[Address]:
        return [ip_address("127.0.0.9"), ip_address("127.0.0.1")]

    sender = HttpxSender(lookup=lookup)
    async with serve(always(answer())) as receiver:
        outcome = await sender.send(receiver.post(host="a.example"), egress=LOOPBACK, deadline=LATER / 60)
        await sender.aclose()
    assert isinstance(outcome, Accepted)
    assert tried == [ip_address("127.0.0.9"), ip_address("127.0.0.1")]


async def test_who_is_cancelled_while_connecting_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    connecting = anyio.Event()

    async def swallow(address: Address, port: int) -> Stream:
        connecting.set()
        await anyio.sleep_forever()
        raise AssertionError

    sender = HttpxSender(limits=PoolLimits(per_address=1, connections=1))
    async with serve(always(answer())) as receiver:
        with monkeypatch.context() as patch:
            patch.setattr(Stream, "connect", swallow)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(delivered, sender, receiver)
                await connecting.wait()
                tasks.cancel_scope.cancel()
        await delivered(sender, receiver)
        await sender.aclose()


async def test_where_one_address_is_full_another_that_swallows_packets_gets_its_share_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a place at the full one, it might have been reached: so nothing is charged, whatever the deadline."""
    connect, asked, answered = Stream.connect, anyio.Event(), anyio.Event()

    async def connecting(address: Address, port: int) -> Stream:
        if address == ip_address("127.0.0.9"):
            await anyio.sleep_forever()
        return await connect(address, port)

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await answered.wait()
        await peer.send(answer())

    monkeypatch.setattr(Stream, "connect", connecting)
    sender = HttpxSender(
        limits=PoolLimits(per_address=1), lookup=lambda _: [ip_address("127.0.0.1"), ip_address("127.0.0.9")]
    )
    async with serve(script) as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(delivered, sender, receiver, "127.0.0.1")
        await asked.wait()
        with pytest.raises(AddressBusy):
            await sender.send(receiver.post(host="a.example"), egress=LOOPBACK, deadline=SOON)
        answered.set()
    await sender.aclose()


async def test_no_more_than_four_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Address] = []

    async def refuse(address: Address, port: int) -> Stream:
        tried.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(Stream, "connect", refuse)
    sender = HttpxSender(lookup=lambda _: [ip_address(f"127.0.1.{number}") for number in range(1, 100)])
    async with serve(always(answer())) as receiver:
        outcome: Outcome = await sender.send(receiver.post(host="a.example"), egress=LOOPBACK, deadline=LATER)
    assert not isinstance(outcome, Accepted)
    assert len(tried) == 4


async def test_nothing_opens_a_socket_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    original = socket.socket

    def recording(*arguments: int) -> socket.socket:
        made.append(arguments)
        return original(*arguments)

    async with serve(always(answer())) as receiver:
        sender = HttpxSender(lookup=lambda _: [ip_address("127.0.0.1"), ip_address("169.254.169.254")])
        monkeypatch.setattr("callback_middleware.senders.streams.socket.socket", recording)
        await sender.send(receiver.post(host="a.example"), egress=LOOPBACK, deadline=LATER)
        monkeypatch.undo()
    assert made == []


async def test_idle_connections_beyond_the_limit_are_closed() -> None:
    together = anyio.Event()
    under_way = 0
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        nonlocal under_way
        await peer.request()
        under_way += 1
        if under_way == 2:
            together.set()
        await together.wait()
        await peer.send(answer())
        await peer.gone()
        gone.set()

    sender = HttpxSender(limits=PoolLimits(idle_per_key=1))
    async with serve(script) as receiver:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delivered, sender, receiver)
            tasks.start_soon(delivered, sender, receiver)
        await gone.wait()
        await sender.aclose()
    assert receiver.accepted == 2

"""So many attempts at once go to one address, whatever names lead to it; no more are made, and none is charged."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import timedelta

import anyio
import pytest
from scripted_receiver import (
    BODY,
    HEADERS,
    LATER,
    LOOPBACK,
    SOON,
    MakeSender,
    Peer,
    Receiver,
    Script,
    always,
    answer,
    names,
    serve,
)

from callback_middleware.delivery import Delivery, Released, Verdict
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.errors import ConfigurationError
from callback_middleware.identifiers import uuid7
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.outcomes import Accepted, AddressBusy, Outcome, TimedOut, Unreachable
from callback_middleware.ports import Batch, Sender
from callback_middleware.retry import RetryPolicy
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock


@pytest.fixture
def anyio_backend(combination: Sequence[str]) -> str:
    return combination[1]


class Holding:
    """A receiver that answers nobody before it is told to."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.asked = 0
        self._more = anyio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.asked += 1
            self._more.set()
            await self.go.wait()
            await peer.send(answer())

    async def has(self, number: int) -> None:
        while self.asked < number:
            self._more = anyio.Event()
            await self._more.wait()


class Sending:
    """Attempts, and what they came to."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self.sender = sender
        self.receiver = receiver
        self.outcomes: list[Outcome] = []

    async def to(self, host: str, deadline: timedelta = LATER) -> None:
        request = self.receiver.post(host=host)
        self.outcomes.append(await self.sender.send(request, egress=LOOPBACK, deadline=deadline))

    @property
    def accepted(self) -> int:
        return sum(isinstance(outcome, Accepted) for outcome in self.outcomes)


async def test_two_names_for_one_address_share_its_places(make_sender: MakeSender) -> None:
    lookup = names(a_example="127.0.0.1", b_example="127.0.0.1", c_example="127.0.0.2")
    sender = make_sender(limits=PoolLimits(per_address=2), lookup=lookup)
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending.to, "a.example")
            tasks.start_soon(sending.to, "b.example")
            await holding.has(2)
            for host in ("a.example", "b.example", "127.0.0.1"):
                with pytest.raises(AddressBusy) as busy:
                    await sending.to(host)
                assert timedelta() < busy.value.after <= timedelta(minutes=1)
            # Another address has its own.
            tasks.start_soon(sending.to, "c.example")
            await holding.has(3)
            holding.go.set()
        await sending.to("a.example")
    assert sending.accepted == 4
    assert len(receiver.requests) == 4


async def test_connections_that_are_kept_take_no_place(make_sender: MakeSender) -> None:
    lookup = names(a_example="127.0.0.1", b_example="127.0.0.1")
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=lookup)
    async with serve(always(answer())) as receiver:
        sending = Sending(sender, receiver)
        for _ in range(3):
            await sending.to("a.example")
            await sending.to("b.example")
    assert sending.accepted == 6
    assert receiver.accepted == 2


async def test_a_kept_connection_is_not_used_where_there_is_no_room(make_sender: MakeSender) -> None:
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=names(a_example="127.0.0.1", b_example="127.0.0.1"))
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        holding.go.set()
        await sending.to("a.example")
        holding.go = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending.to, "b.example")
            await holding.has(2)
            with pytest.raises(AddressBusy):
                await sending.to("a.example")
            holding.go.set()
        await sending.to("a.example")
    assert sending.accepted == 3
    assert receiver.accepted == 2


async def test_where_one_address_is_full_the_next_is_tried(make_sender: MakeSender) -> None:
    lookup = names(one_example="127.0.0.1", both_example=["127.0.0.1", "127.0.0.2"])
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=lookup)
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending.to, "one.example")
            await holding.has(1)
            tasks.start_soon(sending.to, "both.example")
            await holding.has(2)
            with pytest.raises(AddressBusy):
                await sending.to("both.example")
            holding.go.set()
    assert sending.accepted == 2


async def test_where_the_others_fail_and_one_is_full_nothing_is_charged(make_sender: MakeSender) -> None:
    """A name that works without IPv6 is not given up because its IPv4 address had no room."""
    lookup = names(one_example="127.0.0.1", dual_example=["::1", "127.0.0.1"])
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=lookup)
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending.to, "one.example")
            await holding.has(1)
            with pytest.raises(AddressBusy):
                await sending.to("dual.example")
            holding.go.set()
        await sending.to("dual.example")
    assert sending.accepted == 2


async def test_a_place_is_kept_where_the_connection_is_alone(make_sender: MakeSender) -> None:
    """And not where one was tried in vain."""
    lookup = names(dual_example=["::1", "127.0.0.1"], six_example="::1")
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=lookup)
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending.to, "dual.example")
            await holding.has(1)
            await sending.to("six.example")
            holding.go.set()
    assert [type(outcome) for outcome in sending.outcomes] == [Unreachable, Accepted]


async def refused(peer: Peer) -> None:
    await peer.reset()


async def hung(peer: Peer) -> None:
    await peer.gone()


@pytest.mark.parametrize(("script", "kind"), [(refused, Unreachable), (hung, TimedOut)])
async def test_whatever_becomes_of_an_attempt_its_place_is_given_back(
    make_sender: MakeSender, script: Script, kind: type[Outcome]
) -> None:
    sender = make_sender(limits=PoolLimits(per_address=1))
    async with serve(script) as receiver:
        sending = Sending(sender, receiver)
        for _ in range(3):
            await sending.to("127.0.0.1", SOON)
    assert [type(outcome) for outcome in sending.outcomes] == [kind] * 3


async def test_an_address_that_refuses_keeps_no_place(make_sender: MakeSender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unheard:
        receiver = Receiver(unheard.getsockname()[1])
    sending = Sending(make_sender(limits=PoolLimits(per_address=1)), receiver)
    for _ in range(3):
        await sending.to("127.0.0.1")
    assert [type(outcome) for outcome in sending.outcomes] == [Unreachable] * 3


async def test_a_cancelled_attempt_keeps_no_place(make_sender: MakeSender) -> None:
    sender = make_sender(limits=PoolLimits(per_address=1))
    holding = Holding()
    async with serve(holding) as receiver:
        sending = Sending(sender, receiver)
        for number in range(1, 4):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sending.to, "127.0.0.1")
                await holding.has(number)
                tasks.cancel_scope.cancel()
        holding.go.set()
        await sending.to("127.0.0.1")
    assert sending.accepted == 1


@pytest.mark.parametrize("name", ["connections", "per_address"])
def test_limits_that_let_nobody_in_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"PoolLimits.{name}=0 must be at least 1"):
        PoolLimits(**{name: 0})


class Settled(Observers):
    """Hears of a delivery that goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.released = anyio.Event()

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        if isinstance(verdict, Released):
            self.released.set()


async def test_a_dispatcher_that_finds_no_room_charges_no_attempt(make_sender: MakeSender) -> None:
    clock, settled, holding = VirtualClock(), Settled(), Holding()
    outbox = MemoryOutbox(clock=clock, backlog=None)
    sender = make_sender(limits=PoolLimits(per_address=1), lookup=names(a_example="127.0.0.1", b_example="127.0.0.1"))
    dispatcher = Dispatcher(outbox, sender, egress=LOOPBACK, clock=clock, observer=settled)
    async with serve(holding) as receiver:
        deliveries = [
            Delivery(
                id=uuid7(clock.now(), host.ljust(10).encode()[:10]),
                operation="POST /invoices/",
                callback="paid",
                method="POST",
                url=receiver.url(host=host),
                origin=receiver.url("", host=host),
                headers=HEADERS,
                body=BODY,
                created_at=clock.now(),
                due_at=clock.now(),
                retry=RetryPolicy.fixed(60),
                deadline=LATER,
            )
            for host in ("a.example", "b.example")
        ]
        await outbox.put(Batch(deliveries))
        made: list[int] = []

        async def deliver() -> None:
            made.append(await dispatcher.deliver_due())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deliver)
            await holding.has(1)
            await settled.released.wait()
            holding.go.set()
        clock.advance(1)
        await deliver()
    assert made == [1, 1]
    for delivery in deliveries:
        assert (await outbox.get(delivery.id)).state is State.DELIVERED
        assert [attempt.number for attempt in await outbox.attempts(delivery.id)] == [1]

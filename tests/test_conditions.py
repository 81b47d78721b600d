"""How a dispatcher stands: before, while and after it has something to do, and while its outbox has trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import anyio
import pytest

from callback_middleware import Dispatcher, EgressPolicy, MemoryOutbox, RetryPolicy
from callback_middleware.delivery import DEADLINE, Claim, Delivery, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.dispatcher.conditions import AskedOutbox, Condition, Readiness
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.identifiers import uuid7
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, outcome_of
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock


class TroubledOutbox(MemoryOutbox):
    """An outbox that fails, or takes its time, as it is told."""

    outage: OutboxUnavailable | None = None  # type: ignore[misc, assignment]

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock)
        self.claim_fails: Exception | None = None
        self.settle_fails: Exception | None = None
        self.may_answer = anyio.Event()
        self.may_answer.set()

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        await self.may_answer.wait()
        if self.claim_fails is not None:
            raise self.claim_fails
        return await super().claim(limit, lease, per_origin=per_origin, busy=busy)

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        await self.may_answer.wait()
        return await super().extend(claims, lease)

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        await self.may_answer.wait()
        if self.settle_fails is not None:
            raise self.settle_fails
        return await super().settle(settlements)


class HeldSender:
    """A sender whose receivers answer when they are told to."""

    def __init__(self) -> None:
        self.asked, self.may_answer = anyio.Event(), anyio.Event()

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.asked.set()
        await self.may_answer.wait()
        return outcome_of(Answer(200))

    async def aclose(self) -> None: ...


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def outbox(clock: VirtualClock) -> TroubledOutbox:
    return TroubledOutbox(clock)


@pytest.fixture
def asked(outbox: TroubledOutbox, clock: VirtualClock) -> AskedOutbox:
    return AskedOutbox(outbox, clock)


def due(clock: VirtualClock) -> Delivery:
    now = clock.now()
    return Delivery(
        id=uuid7(now, bytes(10)),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url="https://here.example/events",
        origin="https://here.example:443",
        headers=(),
        body=b"{}",
        created_at=now,
        due_at=now,
        retry=RetryPolicy(),
        deadline=DEADLINE,
    )


async def claim(asked: AskedOutbox) -> Sequence[Claim]:
    return await asked.claim(10, timedelta(seconds=30), per_origin=10, busy={})


def readiness(dispatcher: Dispatcher) -> Readiness:
    return dispatcher.condition.readiness


def said(condition: Condition) -> tuple[Readiness, str]:
    return condition.readiness, condition.reason


async def test_it_is_starting_until_its_first_claim_is_answered(asked: AskedOutbox, clock: VirtualClock) -> None:
    begun = clock.now()
    assert asked.condition(0) == Condition(
        readiness=Readiness.STARTING, since=begun, in_flight=0, reason="it has not claimed yet"
    )
    clock.advance(timedelta(seconds=1))

    await claim(asked)

    clock.advance(timedelta(seconds=9))
    assert asked.condition(7) == Condition(
        readiness=Readiness.READY, since=begun + timedelta(seconds=1), in_flight=7, reason=""
    )


async def test_a_claim_that_fails_is_the_reason_until_one_does_not(
    asked: AskedOutbox, outbox: TroubledOutbox, clock: VirtualClock
) -> None:
    await claim(asked)
    clock.advance(timedelta(seconds=1))
    failed_at = clock.now()
    outbox.claim_fails = OutboxUnavailable("the disk is full")
    with pytest.raises(OutboxUnavailable):
        await claim(asked)
    clock.advance(timedelta(seconds=1))
    outbox.claim_fails = RuntimeError()
    with pytest.raises(RuntimeError):
        await claim(asked)
    assert said(asked.condition(0)) == (Readiness.FAILING, "RuntimeError")
    assert asked.condition(0).since == failed_at

    outbox.claim_fails = None
    await claim(asked)
    assert said(asked.condition(0)) == (Readiness.READY, "")


async def test_a_settlement_that_fails_is_a_reason_too(
    asked: AskedOutbox, outbox: TroubledOutbox, clock: VirtualClock
) -> None:
    await claim(asked)
    outbox.settle_fails = OutboxUnavailable("the disk is full")
    with pytest.raises(OutboxUnavailable):
        await asked.settle([])
    assert said(asked.condition(0)) == (Readiness.FAILING, "the disk is full")

    outbox.settle_fails = None
    await asked.settle([])
    assert asked.condition(0).readiness is Readiness.FAILING, "it may yet not claim"
    await claim(asked)
    assert asked.condition(0).readiness is Readiness.READY


async def test_an_outage_that_the_outbox_knows_of_is_a_reason_at_once(
    asked: AskedOutbox, outbox: TroubledOutbox
) -> None:
    await claim(asked)
    outbox.outage = OutboxUnavailable("the database is gone")
    assert said(asked.condition(0)) == (Readiness.FAILING, "the database is gone")
    outbox.outage = None
    assert said(asked.condition(0)) == (Readiness.READY, "")


@pytest.mark.parametrize("question", ["claim", "extend", "settle"])
async def test_an_outbox_that_does_not_answer_is_a_reason_after_a_while(
    question: str, asked: AskedOutbox, outbox: TroubledOutbox, clock: VirtualClock
) -> None:
    await claim(asked)
    outbox.may_answer = anyio.Event()

    async def ask() -> None:
        match question:
            case "claim":
                await claim(asked)
            case "extend":
                await asked.extend([], timedelta(seconds=30))
            case _:
                await asked.settle([])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        clock.advance(timedelta(seconds=4))
        assert asked.condition(0).readiness is Readiness.READY
        clock.advance(timedelta(seconds=3))
        assert said(asked.condition(0)) == (Readiness.FAILING, "the outbox has not answered for 7 s")
        outbox.may_answer.set()
    assert said(asked.condition(0)) == (Readiness.READY, "")


async def test_a_dispatcher_is_ready_while_it_runs_and_drains_when_it_is_stopped(
    outbox: TroubledOutbox, clock: VirtualClock
) -> None:
    sender = HeldSender()
    dispatcher = Dispatcher(outbox, sender, clock=clock)
    await outbox.put(Batch([due(clock)]))
    assert dispatcher.condition.readiness is Readiness.STARTING

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.run)
            await sender.asked.wait()
            running = dispatcher.condition
            dispatcher.stop()
            draining = dispatcher.condition
            sender.may_answer.set()
    assert (running.readiness, running.in_flight) == (Readiness.READY, 1)
    assert (said(draining), draining.in_flight) == ((Readiness.DRAINING, "it was told to stop"), 1)
    assert (dispatcher.condition.readiness, dispatcher.condition.in_flight) == (Readiness.DRAINING, 0)


async def test_a_dispatcher_that_runs_again_starts_again(outbox: TroubledOutbox, clock: VirtualClock) -> None:
    dispatcher = Dispatcher(outbox, HeldSender(), clock=clock)
    dispatcher.stop()
    assert readiness(dispatcher) is Readiness.STARTING, "nothing ran that could be stopped"
    for _ in range(2):
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                outbox.may_answer = anyio.Event()
                tasks.start_soon(dispatcher.run)
                await anyio.wait_all_tasks_blocked()
                assert readiness(dispatcher) is Readiness.STARTING
                outbox.may_answer.set()
                await anyio.wait_all_tasks_blocked()
                assert readiness(dispatcher) is Readiness.READY
                dispatcher.stop()


async def test_a_dispatcher_says_what_its_outbox_fails_with(outbox: TroubledOutbox, clock: VirtualClock) -> None:
    outbox.claim_fails = OutboxUnavailable("the database is gone")
    dispatcher = Dispatcher(outbox, HeldSender(), clock=clock)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.run)
            await anyio.wait_all_tasks_blocked()
            assert said(dispatcher.condition) == (Readiness.FAILING, "the database is gone")
            dispatcher.stop()

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from callback_middleware.delivery import DEADLINE, Claim, Dead, Delivered, Delivery, Fence, Retry, Settlement, Verdict
from callback_middleware.destinations import Origin
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.dispatcher.rounds import MARGIN
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.identifiers import uuid7
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.outcomes import (
    Accepted,
    Answer,
    Attempt,
    AttemptRequest,
    Outcome,
    Phase,
    Unreachable,
    outcome_of,
)
from callback_middleware.planning import Skip
from callback_middleware.ports import Batch
from callback_middleware.retry import STANDARD, RetryPolicy
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock

HERE = "https://here.example:443"
THERE = "https://there.example:443"
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)

Answering = Callable[[AttemptRequest], Awaitable[Outcome]]


class ScriptedSender:
    """A sender that answers as it is told, and remembers how many were in flight."""

    def __init__(self, answering: Answering | None = None) -> None:
        self.answering = answering or answer(200)
        self.sent: list[AttemptRequest] = []
        self.ended: list[AttemptRequest] = []
        self.in_flight: Counter[Origin] = Counter()
        self.most_in_flight = 0
        self.most_of_one_origin = 0

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        origin = request.url.split("/")[2]
        self.sent.append(request)
        self.in_flight[origin] += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight.total())
        self.most_of_one_origin = max(self.most_of_one_origin, *self.in_flight.values())
        try:
            outcome = await self.answering(request)
            self.ended.append(request)
            return outcome
        finally:
            self.in_flight[origin] -= 1

    async def aclose(self) -> None: ...

    @property
    def ids(self) -> list[str]:
        return [dict(request.headers)["webhook-id"] for request in self.sent]


def answer(*statuses: int) -> Answering:
    """Answers these in turn, the last one for ever; lets others run meanwhile."""
    script = itertools.chain(statuses, itertools.repeat(statuses[-1]))

    async def answering(request: AttemptRequest) -> Outcome:
        await anyio.lowlevel.checkpoint()
        return outcome_of(Answer(next(script)))

    return answering


async def hang(request: AttemptRequest) -> Outcome:
    await anyio.sleep_forever()
    raise AssertionError


class Witness:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.verdicts: list[Verdict] = []

    def put(self, batch: Batch) -> None: ...

    def skipped(self, skip: Skip) -> None: ...

    def lost(self, batch: Batch, error: Exception) -> None: ...

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        self.verdicts.append(verdict)


class WatchedOutbox(MemoryOutbox):
    """An outbox that counts what it is asked, and fails when it is told to."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock, backlog=None)
        self.claims: list[tuple[int, int]] = []
        self.busy: list[dict[Origin, int]] = []
        self.settlements: list[Sequence[Settlement]] = []
        self.extensions: list[tuple[int, timedelta]] = []
        self.waits = 0
        self.failing: dict[str, int] = {}

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        self._maybe_fail("claim")
        claims = await super().claim(limit, lease, per_origin=per_origin, busy=busy)
        self.claims.append((limit, len(claims)))
        self.busy.append(dict(busy))
        return claims

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        self._maybe_fail("settle")
        # As an engine that waits for a disk: a cancellation may come here.
        await anyio.lowlevel.checkpoint()
        self.settlements.append(list(settlements))
        return await super().settle(settlements)

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        self._maybe_fail("extend")
        self.extensions.append((len(claims), lease))
        return await super().extend(claims, lease)

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's
        self.waits += 1
        self._maybe_fail("wait")
        await super().wait(timeout)

    def _maybe_fail(self, verb: str) -> None:
        if self.failing.get(verb, 0):
            self.failing[verb] -= 1
            raise OutboxUnavailable(f"no {verb}")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def outbox(clock: VirtualClock) -> WatchedOutbox:
    return WatchedOutbox(clock)


@pytest.fixture
def witness() -> Witness:
    return Witness()


_numbers = itertools.count(1)


def delivery(clock: VirtualClock, origin: Origin = HERE, **attributes: Any) -> Delivery:
    now = clock.now()
    plain = Delivery(
        id=uuid7(now, next(_numbers).to_bytes(10, "big")),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url=origin.removesuffix(":443") + "/events",
        origin=origin,
        headers=(("content-type", "application/json"),),
        body=b'{"paid":true}',
        created_at=now,
        due_at=now,
        retry=RetryPolicy.fixed(60, 600),
        deadline=DEADLINE,
    )
    return replace(plain, **attributes)


async def put(outbox: MemoryOutbox, *deliveries: Delivery) -> None:
    await outbox.put(Batch(deliveries))


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def until_state(outbox: MemoryOutbox, state: State, count: int) -> None:
    with anyio.fail_after(30):
        while (await outbox.counts())[state] < count:
            await anyio.lowlevel.checkpoint()


def at_once(number: int) -> ReceiverLimits:
    """So many attempts for every receiver, from the first moment, whatever it answers: isolation has its own tests."""
    return ReceiverLimits(at_once=number, start=number, failures=None, newcomer_pause=timedelta())


def new(
    outbox: MemoryOutbox, sender: ScriptedSender, *, receivers: ReceiverLimits | None = None, **settings: Any
) -> Dispatcher:
    return Dispatcher(outbox, sender, receivers=receivers or at_once(8), **settings)


@asynccontextmanager
async def running(*dispatchers: Dispatcher) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for dispatcher in dispatchers:
            tasks.start_soon(dispatcher.run)
        yield
        with anyio.fail_after(30):
            for dispatcher in dispatchers:
                await dispatcher.drain()


class SlowOutbox(WatchedOutbox):
    """An outbox that may take a while to answer that nothing more is due."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.may_answer = anyio.Event()
        self.may_answer.set()

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        claims = await super().claim(limit, lease, per_origin=per_origin, busy=busy)
        if not claims:
            await self.may_answer.wait()
        return claims


async def test_what_is_put_while_a_claim_is_answered_is_delivered(clock: VirtualClock) -> None:
    outbox, sender = SlowOutbox(clock), ScriptedSender()

    async with running(new(outbox, sender, clock=clock)):
        await anyio.wait_all_tasks_blocked()
        outbox.may_answer = anyio.Event()
        await put(outbox, delivery(clock))
        await anyio.wait_all_tasks_blocked()
        await put(outbox, delivery(clock))
        await anyio.wait_all_tasks_blocked()
        outbox.may_answer.set()
        await until_state(outbox, State.DELIVERED, 2)


async def test_what_is_put_is_delivered(outbox: WatchedOutbox, clock: VirtualClock, witness: Witness) -> None:
    sender = ScriptedSender()
    one = delivery(clock)

    async with running(new(outbox, sender, clock=clock, observer=witness)):
        await anyio.wait_all_tasks_blocked()
        await put(outbox, one)
        await until_state(outbox, State.DELIVERED, 1)

    (request,) = sender.sent
    assert (request.method, request.url, request.body) == ("POST", one.url, one.body)
    assert (await outbox.get(one.id)).attempts == 1
    assert [attempt.outcome for attempt in await outbox.attempts(one.id)] == [Accepted(Answer(200))]
    assert witness.verdicts == [Delivered()]
    assert witness.attempts == list(await outbox.attempts(one.id))


async def test_three_days_of_retries(outbox: WatchedOutbox, clock: VirtualClock, witness: Witness) -> None:
    dispatcher = new(outbox, ScriptedSender(answer(503)), clock=clock, observer=witness, chance=lambda: 0.5)
    one = delivery(clock, retry=RetryPolicy())
    await put(outbox, one)

    while not (state := await outbox.get(one.id)).state.terminal:
        clock.advance(max(state.due_at - clock.now(), timedelta()))
        assert await dispatcher.deliver_due() == 1

    attempts = await outbox.attempts(one.id)
    assert [attempt.number for attempt in attempts] == list(range(1, 11))
    starts = [attempt.started_at for attempt in attempts]
    assert [later - earlier for earlier, later in itertools.pairwise(starts)] == list(STANDARD)
    assert state.reason == "gave up after 10 attempts: the receiver answered 503"
    assert [type(verdict) for verdict in witness.verdicts] == [Retry] * 9 + [Dead]
    assert len({dict(request.headers)["webhook-id"] for request in dispatcher_sent(dispatcher)}) == 1


def dispatcher_sent(dispatcher: Dispatcher) -> list[AttemptRequest]:
    sender = dispatcher._attempter.sender
    assert isinstance(sender, ScriptedSender)
    return sender.sent


async def test_chance_spreads_the_retries(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    # One for when it is due again, one for its receiver.
    chances = iter([0.0, 0.5, 1.0, 0.5])
    dispatcher = new(outbox, ScriptedSender(answer(500)), clock=clock, chance=lambda: next(chances))
    first, second = delivery(clock), delivery(clock)
    await put(outbox, first, second)

    await dispatcher.deliver_due()

    dues = {(await outbox.get(one.id)).due_at - clock.now() for one in (first, second)}
    assert dues == {48 * SECOND, 72 * SECOND}


async def test_an_idle_dispatcher_asks_nothing(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    async with running(new(outbox, ScriptedSender(), clock=clock)):
        await anyio.wait_all_tasks_blocked()
        asked = len(outbox.claims), outbox.waits
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert (len(outbox.claims), outbox.waits) == asked


async def test_a_dispatcher_without_room_asks_nothing(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    """Whatever is due: neither more of a busy origin, nor an outbox that returns from ``wait`` at once."""

    async def eager(timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's
        outbox.waits += 1
        await anyio.lowlevel.checkpoint()

    outbox.wait = eager  # type: ignore[method-assign]
    dispatcher = new(outbox, ScriptedSender(hang), clock=clock, concurrency=4, grace=timedelta())
    await put(outbox, *(delivery(clock) for _ in range(10)))

    async with running(dispatcher):
        await until(lambda: len(dispatcher_sent(dispatcher)) == 4)
        await anyio.wait_all_tasks_blocked()
        assert (len(outbox.claims), outbox.waits) == (1, 1)


@pytest.mark.parametrize(("origins", "in_flight", "of_one_origin"), [(10, 7, 1), (3, 6, 2), (1, 2, 2)])
async def test_no_more_is_in_flight_than_allowed(
    outbox: WatchedOutbox, clock: VirtualClock, origins: int, in_flight: int, of_one_origin: int
) -> None:
    sender = ScriptedSender()
    await put(outbox, *(delivery(clock, f"https://{number % origins}.example:443") for number in range(100)))

    async with running(new(outbox, sender, clock=clock, concurrency=7, receivers=at_once(2))):
        await until_state(outbox, State.DELIVERED, 100)

    assert (sender.most_in_flight, sender.most_of_one_origin) == (in_flight, of_one_origin)
    assert len(sender.sent) == 100


async def test_no_more_is_claimed_than_there_are_free_slots(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender()
    await put(outbox, *(delivery(clock) for _ in range(50)))

    async with running(new(outbox, sender, clock=clock, concurrency=5, receivers=at_once(5))):
        await until_state(outbox, State.DELIVERED, 50)

    assert all(claimed <= limit <= 5 for limit, claimed in outbox.claims)
    assert sender.most_in_flight == 5


async def test_only_origins_in_flight_are_remembered(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    await put(outbox, *(delivery(clock, f"https://{number}.example:443") for number in range(50)))

    await new(outbox, ScriptedSender(), clock=clock, concurrency=5).deliver_due()

    assert all(sum(busy.values()) <= 5 and all(busy.values()) for busy in outbox.busy)
    assert outbox.busy[-1] == {}


async def test_a_thousand_due_at_a_receiver_that_hangs_delay_nobody_else(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    healthy = answer(200)

    async def answering(request: AttemptRequest) -> Outcome:
        return await (hang if request.url.startswith("https://here") else healthy)(request)

    sender = ScriptedSender(answering)
    await put(outbox, *(delivery(clock, HERE) for _ in range(1000)))
    clock.advance(SECOND)
    dispatcher = new(outbox, sender, clock=clock, grace=timedelta())

    async with running(dispatcher):
        await until(lambda: len(sender.sent) == 8)
        await put(outbox, *(delivery(clock, THERE) for _ in range(100)))
        await until_state(outbox, State.DELIVERED, 100)
        assert len([request for request in sender.sent if request.url.startswith("https://here")]) == 8


async def test_what_ended_together_is_settled_together(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    go = anyio.Event()

    async def together(request: AttemptRequest) -> Outcome:
        await go.wait()
        return Accepted(Answer(200))

    sender = ScriptedSender(together)
    await put(outbox, *(delivery(clock) for _ in range(8)))

    async with running(new(outbox, sender, clock=clock)):
        await until(lambda: len(sender.sent) == 8)
        await anyio.wait_all_tasks_blocked()
        go.set()
        await until_state(outbox, State.DELIVERED, 8)

    assert [len(settlements) for settlements in outbox.settlements] == [8]


async def test_two_dispatchers_share_an_outbox_and_send_nothing_twice(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    senders = [ScriptedSender(), ScriptedSender()]
    deliveries = [delivery(clock, f"https://{number % 5}.example:443") for number in range(300)]

    async with running(*(new(outbox, sender, clock=clock, concurrency=8) for sender in senders)):
        for start in range(0, 300, 10):
            await put(outbox, *deliveries[start : start + 10])
            await anyio.lowlevel.checkpoint()
        await until_state(outbox, State.DELIVERED, 300)

    ids = [*senders[0].ids, *senders[1].ids]
    assert Counter(ids) == Counter(str(one.id) for one in deliveries)
    assert all(sender.sent for sender in senders)


async def test_draining_lets_what_is_in_flight_end_and_claims_no_more(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    go = anyio.Event()

    async def slow(request: AttemptRequest) -> Outcome:
        await go.wait()
        return Accepted(Answer(200))

    sender = ScriptedSender(slow)
    dispatcher = new(outbox, sender, clock=clock, concurrency=2)
    await put(outbox, *(delivery(clock) for _ in range(3)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run)
        await until(lambda: len(sender.sent) == 2)
        tasks.start_soon(dispatcher.drain)
        await anyio.wait_all_tasks_blocked()
        go.set()

    counts = await outbox.counts()
    assert (counts[State.DELIVERED], counts[State.PENDING], len(sender.sent)) == (2, 1, 2)


async def test_what_does_not_end_within_the_grace_is_handed_back(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender(hang)
    one = delivery(clock)
    await put(outbox, one)

    async with running(new(outbox, sender, clock=clock, grace=timedelta(milliseconds=1))):
        await until(lambda: sender.sent)

    handed_back = await outbox.get(one.id)
    assert (handed_back.state, handed_back.attempts, handed_back.due_at) == (State.PENDING, 0, clock.now())
    assert not any(sender.in_flight.values())
    assert await new(outbox, ScriptedSender(), clock=clock).deliver_due() == 1


async def test_cancelling_hands_back_what_is_in_flight(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender(hang)
    await put(outbox, delivery(clock), delivery(clock))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(new(outbox, sender, clock=clock).run)
        await until(lambda: len(sender.sent) == 2)
        tasks.cancel_scope.cancel()

    assert (await outbox.counts())[State.PENDING] == 2


def test_an_event_loop_that_ends_hands_back_what_is_in_flight(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    """An asyncio loop cancels its tasks one by one, whatever group they are in."""
    sender = ScriptedSender(hang)

    async def main() -> None:
        await put(outbox, delivery(clock), delivery(clock))
        task = asyncio.create_task(new(outbox, sender, clock=clock).run())
        await until(lambda: len(sender.sent) == 2)
        assert not task.done()

    asyncio.run(main())

    assert anyio.run(outbox.counts)[State.PENDING] == 2


async def test_it_runs_again_after_it_was_stopped(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    dispatcher = new(outbox, ScriptedSender(), clock=clock)
    for count in (1, 2):
        async with running(dispatcher):
            await put(outbox, delivery(clock))
            await until_state(outbox, State.DELIVERED, count)


async def test_it_runs_once_at_a_time(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    dispatcher = new(outbox, ScriptedSender(), clock=clock)

    async with running(dispatcher):
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="runs already"):
            await dispatcher.run()


async def test_a_stopped_run_returns(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    dispatcher = new(outbox, ScriptedSender(), clock=clock)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.run)
            await anyio.wait_all_tasks_blocked()
            dispatcher.stop()


async def test_stopping_what_does_not_run_is_nothing(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    dispatcher = new(outbox, ScriptedSender(), clock=clock)

    dispatcher.stop()
    await dispatcher.drain()


async def test_a_sender_that_raises_fails_its_own_attempt_alone(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: AttemptRequest) -> Outcome:
        if request.url.startswith("https://here"):
            raise ValueError("secret")
        return Accepted(Answer(200))

    bad, good = delivery(clock, HERE), delivery(clock, THERE)
    await put(outbox, bad, good)

    async with running(new(outbox, ScriptedSender(broken), clock=clock)):
        await until_state(outbox, State.DELIVERED, 1)

    failed = await outbox.get(bad.id)
    assert (failed.state, failed.attempts) == (State.PENDING, 1)
    assert failed.reason == "the receiver could not be reached (send: the sender raised ValueError)"
    assert "the sender raised" in caplog.text


async def test_an_attempt_that_breaks_the_dispatcher_itself_stops_nothing(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls = itertools.count()

    def chance() -> float:
        if next(calls) == 0:
            raise ZeroDivisionError
        return 0.5

    sender = ScriptedSender(answer(500))
    await put(outbox, delivery(clock))

    async with running(new(outbox, sender, clock=clock, chance=chance)):
        await until(lambda: sender.ended)
        await put(outbox, delivery(clock))
        await until_state(outbox, State.PENDING, 1)

    assert "due again when its lease ends" in caplog.text
    assert (await outbox.counts())[State.SENDING] == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_escapes_a_sender_stops_nothing(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    """Only asyncio can: any task may cancel another, and its waiter sees a cancellation that is not its own."""

    async def cancelled(request: AttemptRequest) -> Outcome:
        if request.url.startswith("https://here"):
            raise asyncio.CancelledError
        return Accepted(Answer(200))

    await put(outbox, delivery(clock, HERE))

    async with running(new(outbox, ScriptedSender(cancelled), clock=clock)):
        await anyio.wait_all_tasks_blocked()
        await put(outbox, delivery(clock, THERE))
        await until_state(outbox, State.DELIVERED, 1)


async def test_an_observer_that_raises_stops_nothing(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Witness):
        def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
            raise ValueError

        def settled(self, delivery: Delivery, verdict: Verdict) -> None:
            raise ValueError

    await put(outbox, delivery(clock), delivery(clock))

    assert await new(outbox, ScriptedSender(), clock=clock, observer=Broken()).deliver_due() == 2

    assert (await outbox.counts())[State.DELIVERED] == 2
    assert "an observer raised" in caplog.text


@pytest.mark.parametrize("verb", ["claim", "settle", "wait"])
async def test_an_outbox_that_fails_for_a_while_delays_and_is_told_once(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    caplog.set_level(logging.WARNING, "callback_middleware")
    outbox.failing[verb] = 3
    sender = ScriptedSender()
    await put(outbox, delivery(clock))
    caplog.clear()

    async with running(new(outbox, sender, clock=clock)):
        await until_state(outbox, State.DELIVERED, 1)
        await until(lambda: not outbox.failing[verb])
        await until(lambda: "works again, after 3 failures" in caplog.text)

    assert len(sender.sent) == 1
    assert len([record for record in caplog.records if "wait until the outbox works" in record.message]) == 1


async def test_what_cannot_be_settled_is_not_lost_by_stopping(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender()
    await put(outbox, delivery(clock))

    async with running(new(outbox, sender, clock=clock)):
        outbox.failing["settle"] = 1
        await until(lambda: sender.ended)

    assert (await outbox.counts())[State.DELIVERED] == 1


async def test_an_outbox_that_fails_to_the_end_is_told_and_the_leases_end(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    sender = ScriptedSender()
    await put(outbox, delivery(clock))

    async with running(new(outbox, sender, clock=clock, grace=timedelta(milliseconds=1))):
        outbox.failing["settle"] = 1000
        await until(lambda: sender.ended)

    assert "could not be handed back" in caplog.text
    assert (await outbox.counts())[State.SENDING] == 1


async def test_deliver_due_raises_what_the_outbox_does(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    outbox.failing["claim"] = 1

    with pytest.raises(OutboxUnavailable):
        await new(outbox, ScriptedSender(), clock=clock).deliver_due()


async def test_deliver_due_does_what_is_due_and_leaves_the_rest(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    dispatcher = new(outbox, ScriptedSender(answer(500)), clock=clock)
    immediately = RetryPolicy.fixed(0, 60)
    await put(outbox, delivery(clock, retry=immediately), delivery(clock, due_at=clock.now() + HOUR))

    assert await dispatcher.deliver_due() == 2
    assert await dispatcher.deliver_due() == 0


async def test_deliver_due_that_is_stopped_lets_what_is_in_flight_end_and_claims_no_more(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    go = anyio.Event()

    async def slow(request: AttemptRequest) -> Outcome:
        await go.wait()
        return Accepted(Answer(200))

    sender = ScriptedSender(slow)
    dispatcher = new(outbox, sender, clock=clock, concurrency=3)
    await put(outbox, delivery(clock), delivery(clock))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.deliver_due)
        await until(lambda: len(sender.sent) == 2)
        await put(outbox, delivery(clock))
        tasks.start_soon(dispatcher.drain)
        await anyio.wait_all_tasks_blocked()
        go.set()

    counts = await outbox.counts()
    assert (counts[State.DELIVERED], counts[State.PENDING], len(sender.sent)) == (2, 1, 2)


async def test_deliver_due_that_is_stopped_hands_back_what_does_not_end_within_the_grace(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    sender = ScriptedSender(hang)
    one = delivery(clock)
    await put(outbox, one)
    dispatcher = new(outbox, sender, clock=clock, grace=timedelta(milliseconds=1))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.deliver_due)
            await until(lambda: sender.sent)
            dispatcher.stop()

    handed_back = await outbox.get(one.id)
    assert (handed_back.state, handed_back.attempts, handed_back.due_at) == (State.PENDING, 0, clock.now())


async def test_a_result_that_comes_after_the_lease_is_a_late_attempt(
    outbox: WatchedOutbox, clock: VirtualClock, witness: Witness
) -> None:
    go = anyio.Event()

    async def stalled(request: AttemptRequest) -> Outcome:
        await go.wait()
        return outcome_of(Answer(500))

    one = delivery(clock)
    await put(outbox, one)
    slow = new(outbox, ScriptedSender(stalled), clock=clock, observer=witness)
    quick = new(outbox, ScriptedSender(), clock=clock)

    async with running(slow):
        await until(lambda: dispatcher_sent(slow))
        clock.advance(DEADLINE + MARGIN)
        assert await quick.deliver_due() == 1
        go.set()
        await until(lambda: witness.attempts)

    assert (await outbox.get(one.id)).state is State.DELIVERED
    assert len(await outbox.attempts(one.id)) == 2
    assert witness.verdicts == [], "what was not applied is not told as settled"


async def test_a_lease_covers_the_deadline_of_its_attempt(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    await put(outbox, delivery(clock, deadline=60 * SECOND), delivery(clock))

    await new(outbox, ScriptedSender(), clock=clock).deliver_due()

    assert outbox.extensions == [(1, 60 * SECOND + MARGIN)]


async def test_a_claim_that_took_long_is_extended_before_its_attempt(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    await put(outbox, delivery(clock))
    claim = outbox.claim

    async def slow(*arguments: Any, **named: Any) -> Sequence[Claim]:
        claims = await claim(*arguments, **named)
        clock.advance(MARGIN)
        return claims

    outbox.claim = slow  # type: ignore[method-assign]

    assert await new(outbox, ScriptedSender(), clock=clock).deliver_due() == 1
    assert outbox.extensions == [(1, DEADLINE + MARGIN)]


async def test_a_claim_that_was_lost_meanwhile_is_not_attempted(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    async def nobody(claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        return frozenset()

    outbox.extend = nobody  # type: ignore[method-assign]
    sender = ScriptedSender()
    await put(outbox, delivery(clock, deadline=HOUR), delivery(clock))

    assert await new(outbox, sender, clock=clock).deliver_due() == 1
    assert len(sender.sent) == 1


async def test_a_lease_that_cannot_be_extended_gives_its_claim_back(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    outbox.failing["extend"] = 1
    one = delivery(clock, deadline=60 * SECOND)
    await put(outbox, one)

    async with running(new(outbox, ScriptedSender(), clock=clock)):
        await until_state(outbox, State.DELIVERED, 1)

    assert (await outbox.get(one.id)).attempts == 1


async def test_what_expired_is_dead_without_an_attempt(
    outbox: WatchedOutbox, clock: VirtualClock, witness: Witness
) -> None:
    one = delivery(clock, expires_at=clock.now() + SECOND)
    await put(outbox, one)
    clock.advance(2 * SECOND)
    sender = ScriptedSender()

    assert await new(outbox, sender, clock=clock, observer=witness).deliver_due() == 0

    assert sender.sent == []
    assert (await outbox.get(one.id)).state is State.DEAD
    assert witness.verdicts == [Dead("expired")]


class Death(BaseException):
    """What ends a process."""


async def test_a_delivery_that_kills_its_worker_takes_nobody_with_it(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    """Workers die one after another over the same delivery; it is dead in the end, and all others are delivered."""
    poison = delivery(clock)
    await put(outbox, poison, *(delivery(clock) for _ in range(20)))
    living = True

    async def deadly(request: AttemptRequest) -> Outcome:
        nonlocal living
        if dict(request.headers)["webhook-id"] == str(poison.id):
            living = False
            raise Death
        await anyio.lowlevel.checkpoint()
        return Accepted(Answer(200))

    settle = outbox.settle

    async def settled_by_the_living(settlements: Sequence[Settlement]) -> frozenset[Fence]:
        return await settle(settlements) if living else frozenset()

    outbox.settle = settled_by_the_living  # type: ignore[method-assign]
    deaths = 0
    while not (await outbox.get(poison.id)).state.terminal:
        living = True
        try:
            await new(outbox, ScriptedSender(deadly), clock=clock).deliver_due()
        except* Death:
            deaths += 1
        clock.advance(DEADLINE + MARGIN)
    living = True
    await new(outbox, ScriptedSender(), clock=clock).deliver_due()

    assert deaths == 5
    assert (await outbox.counts())[State.DELIVERED] == 20
    assert (await outbox.get(poison.id)).reason == "killed its worker"


async def test_unsigned_is_said_once(
    outbox: WatchedOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = new(outbox, ScriptedSender(), clock=clock)
    assert caplog.records == []

    await dispatcher.deliver_due()
    await dispatcher.deliver_due()

    assert [record.levelno for record in caplog.records if "unsigned" in record.message] == [logging.WARNING]


@pytest.mark.parametrize("limit", [{"concurrency": 0}, {"grace": -SECOND}])
def test_limits_that_make_no_sense_are_refused(outbox: WatchedOutbox, limit: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limit))):
        new(outbox, ScriptedSender(), **limit)


async def test_an_unreachable_receiver_is_retried(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    async def refused(request: AttemptRequest) -> Outcome:
        return Unreachable(Phase.CONNECT, "connection refused")

    one = delivery(clock)
    await put(outbox, one)

    await new(outbox, ScriptedSender(refused), clock=clock, chance=lambda: 0.5).deliver_due()

    waiting = await outbox.get(one.id)
    assert (waiting.state, waiting.due_at) == (State.PENDING, clock.now() + 60 * SECOND)

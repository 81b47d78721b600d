"""One receiver costs the others nothing: slow start, breaker and pace, as a whole dispatcher keeps them."""

from __future__ import annotations

from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from callback_middleware.dispatcher import Dispatcher
from callback_middleware.dispatcher import rounds as rounds_module
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, outcome_of
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from test_dispatcher import HERE, THERE, ScriptedSender, WatchedOutbox, answer, delivery, hang, put, running, until


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def outbox(clock: VirtualClock) -> WatchedOutbox:
    return WatchedOutbox(clock)


def attempts_so_far(outbox: MemoryOutbox, clock: VirtualClock, sender: ScriptedSender) -> Dispatcher:
    return Dispatcher(outbox, sender, clock=clock, chance=lambda: 0.5)


async def test_a_receiver_that_nobody_knows_gets_one_attempt_and_the_rest_is_charged_none(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    sender = ScriptedSender(hang)
    waiting = [delivery(clock) for _ in range(5)]
    await put(outbox, *waiting)

    async with running(dispatcher := Dispatcher(outbox, sender, clock=clock, grace=timedelta())):
        await until(lambda: sender.sent)
        await anyio.wait_all_tasks_blocked()
        dispatcher.stop()

    assert len(sender.sent) == 1
    assert [(await outbox.get(one.id)).attempts for one in waiting] == [0] * 5
    assert (await outbox.counts())[State.PENDING] == 5


async def test_with_every_answer_it_gets_more(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    async def answering(request: AttemptRequest) -> Outcome:
        # When all have begun that may, in whatever order tasks have their turn.
        await anyio.wait_all_tasks_blocked()
        return outcome_of(Answer(200))

    sender = ScriptedSender(answering)
    await put(outbox, *[delivery(clock) for _ in range(40)])

    await Dispatcher(outbox, sender, clock=clock).deliver_due()

    assert len(sender.sent) == 40
    assert sender.most_of_one_origin == 8


async def test_one_that_fails_is_left_alone_and_what_waits_for_it_keeps_its_attempts(
    outbox: WatchedOutbox, clock: VirtualClock
) -> None:
    sender = ScriptedSender(answer(500))
    waiting = [delivery(clock) for _ in range(20)]
    await put(outbox, *waiting)
    dispatcher = attempts_so_far(outbox, clock, sender)

    assert await dispatcher.deliver_due() == 5
    clock.advance(29)
    assert await dispatcher.deliver_due() == 0
    clock.advance(1)
    assert await dispatcher.deliver_due() == 1

    assert sum([(await outbox.get(one.id)).attempts for one in waiting]) == 6


async def test_a_failing_one_is_in_nobody_elses_way(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    async def answering(request: AttemptRequest) -> Outcome:
        await anyio.lowlevel.checkpoint()
        return outcome_of(Answer(500 if "//here" in request.url else 200))

    sender = ScriptedSender(answering)
    await put(outbox, *[delivery(clock) for _ in range(100)], *[delivery(clock, THERE) for _ in range(100)])

    await Dispatcher(outbox, sender, clock=clock, concurrency=4).deliver_due()

    assert (await outbox.counts())[State.DELIVERED] == 100
    assert sum("//here" in request.url for request in sender.sent) == 5


async def test_all_deliveries_of_a_receiver_wait_as_long_as_it_asks(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    answers = iter([outcome_of(Answer(503, [("retry-after", "120")]))])

    async def answering(request: AttemptRequest) -> Outcome:
        await anyio.lowlevel.checkpoint()
        return next(answers, outcome_of(Answer(200)))

    sender = ScriptedSender(answering)
    await put(outbox, *[delivery(clock, retry=RetryPolicy.fixed(1)) for _ in range(3)])
    dispatcher = attempts_so_far(outbox, clock, sender)
    await dispatcher.deliver_due()

    clock.advance(119)
    assert await dispatcher.deliver_due() == 0
    clock.advance(1)
    assert await dispatcher.deliver_due() == 2
    # What was answered itself is due a little later: waits are spread.
    clock.advance(60)
    assert await dispatcher.deliver_due() == 1


async def test_a_running_dispatcher_comes_back_when_the_pause_is_over(
    outbox: WatchedOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells it: nothing is put, and nothing comes due."""
    monkeypatch.setattr(rounds_module, "_OPENINGS", 0.0)
    sender = ScriptedSender(answer(500, 200))
    limits = ReceiverLimits(failures=1, pause=timedelta(milliseconds=1), longest_pause=timedelta(seconds=1))
    await put(outbox, *[delivery(clock) for _ in range(3)])

    async with running(Dispatcher(outbox, sender, clock=clock, receivers=limits, chance=lambda: 0.5)):
        await until(lambda: sender.ended)
        await anyio.wait_all_tasks_blocked()
        assert len(sender.sent) == 1
        clock.advance(0.001)
        await until(lambda: len(sender.ended) == 3)


async def test_a_rate_spaces_the_attempts_of_one_receiver_alone(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender()
    await put(outbox, *[delivery(clock) for _ in range(5)], *[delivery(clock, THERE) for _ in range(2)])
    dispatcher = Dispatcher(outbox, sender, clock=clock, receivers=ReceiverLimits(rate=2))

    made = []
    for _ in range(5):
        made.append(await dispatcher.deliver_due())
        clock.advance(0.5)

    assert made == [2, 2, 1, 1, 1]


async def test_a_newcomer_gets_an_attempt_a_second_until_it_accepts(clock: VirtualClock) -> None:
    outbox = MemoryOutbox(clock=clock)
    sender = ScriptedSender(answer(404, 404, 200))
    await put(outbox, *[delivery(clock) for _ in range(12)])
    dispatcher = attempts_so_far(outbox, clock, sender)

    made = []
    for _ in range(3):
        made.append(await dispatcher.deliver_due())
        clock.advance(1)

    assert made == [1, 1, 10]


async def test_what_one_run_learned_the_next_one_knows(outbox: WatchedOutbox, clock: VirtualClock) -> None:
    sender = ScriptedSender(answer(500))
    await put(outbox, *[delivery(clock, retry=RetryPolicy.fixed()) for _ in range(5)])
    dispatcher = attempts_so_far(outbox, clock, sender)
    await dispatcher.deliver_due()

    await put(outbox, delivery(clock), delivery(clock, THERE))
    async with running(dispatcher):
        await until(lambda: len(sender.sent) == 6)
        await anyio.wait_all_tasks_blocked()

    assert HERE.removesuffix(":443") + "/events" not in [request.url for request in sender.sent[5:]]

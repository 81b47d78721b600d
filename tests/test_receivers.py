"""All receivers of one dispatcher: what a claim is told, and what is remembered."""

from __future__ import annotations

import logging
import tracemalloc
from datetime import timedelta

import pytest

from callback_middleware.dispatcher.receivers import Receivers
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.outcomes import Answer, Phase, TimedOut, outcome_of

HERE, THERE = "https://here.example:443", "https://there.example:443"
HANGS = TimedOut(Phase.HEADERS)
ACCEPTS = outcome_of(Answer(204))


def attempt(receivers: Receivers, origin: str = HERE, *, status: int | None = 204, now: float = 0.0) -> None:
    """One whole attempt."""
    receivers.begin(origin, now)
    outcome = HANGS if status is None else outcome_of(Answer(status))
    receivers.end(origin, outcome, now, now, 0.5, None)
    receivers.leave(origin, now)


@pytest.fixture
def receivers() -> Receivers:
    return Receivers(ReceiverLimits(remembered=100))


def test_one_that_nobody_knows_is_in_nobodys_way(receivers: Receivers) -> None:
    assert not receivers.busy(0.0)
    assert receivers.room(HERE, 0.0) == 1


def test_a_claim_may_bring_what_has_room_beside_what_is_in_flight(receivers: Receivers) -> None:
    for _ in range(3):
        attempt(receivers)

    receivers.begin(HERE, 0.0)

    assert receivers.busy(0.0) == {HERE: 5}
    assert not receivers.crowded()


def test_one_with_no_room_is_crowded_until_something_ends(receivers: Receivers) -> None:
    receivers.begin(HERE, 0.0)
    receivers.begin(THERE, 0.0)

    assert receivers.busy(0.0) == {HERE: 8, THERE: 8}
    assert receivers.crowded()
    for origin in (HERE, THERE):
        receivers.end(origin, ACCEPTS, 0.0, 1.0, 0.5, None)
        receivers.leave(origin, 1.0)
    assert not receivers.crowded()
    assert not receivers.busy(1.0)


def test_one_that_is_paused_gets_nothing_until_the_pause_is_over(receivers: Receivers) -> None:
    for _ in range(5):
        attempt(receivers, status=None)

    assert receivers.busy(0.0) == {HERE: 8}
    assert receivers.next_opening(0.0) == 30.0
    assert receivers.busy(29.9) == {HERE: 8}
    assert receivers.busy(30.0) == {HERE: 7}
    assert receivers.next_opening(30.0) is None


def test_one_that_is_back_is_in_nobodys_way(receivers: Receivers) -> None:
    for _ in range(5):
        attempt(receivers, status=None)

    attempt(receivers, now=31.0)

    assert not receivers.busy(31.0)
    assert receivers.room(HERE, 31.0) == 2


def test_an_opening_is_told_as_long_as_it_is_to_come(receivers: Receivers) -> None:
    receivers.begin(HERE, 10.0, newcomer=True)
    receivers.end(HERE, outcome_of(Answer(404)), 10.0, 10.2, 0.5, None)
    receivers.leave(HERE, 10.2)

    assert receivers.next_opening(10.2) == pytest.approx(0.8)
    assert receivers.next_opening(12.0) == 0.0
    assert not receivers.busy(12.0)
    assert receivers.next_opening(12.0) is None


def test_of_too_many_the_one_that_was_heard_of_longest_ago_starts_again(receivers: Receivers) -> None:
    attempt(receivers)
    for number in range(100):
        attempt(receivers, f"https://{number}.example:443")

    assert receivers.room(HERE, 0.0) == 1
    assert receivers.room("https://99.example:443", 0.0) == 2


def test_one_with_an_attempt_in_flight_is_never_forgotten(receivers: Receivers) -> None:
    attempt(receivers)
    receivers.begin(HERE, 0.0)

    for number in range(300):
        attempt(receivers, f"https://{number}.example:443", status=None)

    assert receivers.busy(0.0)[HERE] == 7
    assert len(receivers._standings) == 100


def test_a_hundred_thousand_receivers_that_fail_take_no_more_room_than_are_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "callback_middleware")
    receivers = Receivers(ReceiverLimits(failures=1, remembered=50))
    for number in range(100_000):
        attempt(receivers, f"https://{number}.example:443", status=None, now=number / 1000)

    assert len(receivers._standings) == 50
    assert len(receivers.busy(100.0)) <= 50
    assert len(receivers._openings) <= 100


def test_a_hundred_thousand_receivers_take_less_than_32_mib(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "callback_middleware")
    receivers = Receivers(ReceiverLimits(failures=1))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100_000):
            attempt(receivers, f"https://{number}.example:443", status=None, now=number / 1000)
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 16 * 1024 * 1024
    assert most - before < 32 * 1024 * 1024


def test_a_pause_is_told_once_and_so_is_its_end(receivers: Receivers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    for _ in range(6):
        attempt(receivers, status=None)
    attempt(receivers, now=40.0)
    attempt(receivers, now=41.0)

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"nothing is sent to {HERE} for 30 s: 5 attempts in a row failed"),
        (logging.INFO, f"{HERE} answers again"),
    ]


def test_a_pause_that_the_receiver_asks_for_is_told_as_that(
    receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    receivers.begin(HERE, 0.0)
    receivers.end(HERE, outcome_of(Answer(503)), 0.0, 0.0, 0.5, timedelta(seconds=90))

    assert [record.getMessage() for record in caplog.records] == [
        f"nothing is sent to {HERE} for 90 s: its answer asks for that"
    ]


def test_what_has_no_room_uses_up_no_rate() -> None:
    receivers = Receivers(ReceiverLimits(rate=2))

    assert [receivers.begin(HERE, 0.0) for _ in range(3)] == [True, False, False]
    for _ in range(2):
        receivers.leave(HERE, 0.0)

    receivers.end(HERE, ACCEPTS, 0.0, 0.1, 0.5, None)
    receivers.leave(HERE, 0.1)
    assert receivers.room(HERE, 0.5) == 1

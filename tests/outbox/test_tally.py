from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from memory_setting import HERE, START, SUBSCRIPTION, THERE, delivery

from callback_middleware.backlog import BacklogLimits, Bound
from callback_middleware.delivery import Delivery
from callback_middleware.outbox import tally as tallying
from callback_middleware.outbox.tally import Tally
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey, SubscriptionVersion

SECOND = timedelta(seconds=1)
ALICES = SubscriptionVersion(SubscriptionKey(SUBSCRIPTION.callback, "7", "alice"), 1)


def accepting(tally: Tally, origin: str, at: int) -> None:
    """An origin is sent something, accepts it, and has nothing live again."""
    one = delivery(1, origin=origin)
    tally.begin(one)
    tally.accept(origin, START + at * SECOND)
    tally.end(one)


def known(tally: Tally, *origins: str) -> list[str]:
    return [origin for origin in origins if not tally.is_newcomer(origin)]


def test_who_has_nothing_live_and_never_accepted_is_forgotten_at_once() -> None:
    tally, one = Tally(), delivery(1, subscription=ALICES)
    tally.begin(one)
    tally.ask(one)
    assert len(tally) == 2

    tally.end(one)

    assert len(tally) == 0
    assert tally.asked(HERE) is None


def test_of_those_who_accepted_and_have_nothing_live_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallying, "MOST_IDLE", 2)
    tally = Tally(BacklogLimits())
    tally.begin(delivery(2, origin="busy"))
    tally.accept("busy", START)

    for number, origin in enumerate("abacd"):
        accepting(tally, origin, number)

    assert known(tally, "a", "b", "c", "d", "busy") == ["c", "d", "busy"]
    assert len(tally) == 3


def test_what_accepted_last_before_a_time_is_forgotten_unless_it_has_something_live() -> None:
    tally = Tally(BacklogLimits())
    for number, origin in enumerate("abc"):
        accepting(tally, origin, number)
    tally.begin(delivery(2, origin="a"))

    tally.forget(START + 2 * SECOND)

    assert known(tally, "a", "b", "c") == ["a", "c"]


def test_an_owner_is_counted_as_long_as_something_of_it_is_live() -> None:
    tally, one = Tally(BacklogLimits(per_owner=1)), delivery(1, subscription=ALICES)
    there = delivery(2, subscription=ALICES, origin=THERE)

    tally.begin(one)
    full = tally.refusal(there)
    tally.end(one)

    assert full is not None
    assert full.bound is Bound.PER_OWNER
    assert tally.refusal(there) is None


@pytest.mark.parametrize(
    ("live", "over", "wait"),
    [
        ([1], delivery(1), False),
        ([1, 2], delivery(1), True),
        ([1, 2], delivery(2), False),
        ([2], replace(delivery(1), state=State.CANCELLED), True),
    ],
)
def test_others_of_a_newcomer_wait_for_what_is_out_of_it(live: list[int], over: Delivery, wait: bool) -> None:
    tally = Tally(BacklogLimits())
    for number in live:
        tally.begin(delivery(number))
    tally.ask(delivery(1))

    assert tally.others_wait(over) is wait

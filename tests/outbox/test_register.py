from __future__ import annotations

from datetime import timedelta

import pytest
from memory_setting import START, delivery

from callback_middleware.delivery import Delivery
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.register import Register
from callback_middleware.outbox.tally import Tally
from callback_middleware.states import Event, IllegalTransition, State

SECOND = timedelta(seconds=1)


def register_of(*deliveries: Delivery, keep: int = 10) -> tuple[Register, list[Delivery]]:
    """A register of these, and what it will say that it remembers no longer."""
    forgotten: list[Delivery] = []
    register = Register(keep, forgotten.append, Tally())
    for one in deliveries:
        register.add(one)
    return register, forgotten


def test_a_move_that_is_illegal_changes_nothing() -> None:
    register, _ = register_of(delivery(1))
    row, counts = register.row(delivery(1).id), register.counts()

    with pytest.raises(IllegalTransition):
        register.move(row, Event.SUCCEED, START, reason="changed")

    assert row.delivery == delivery(1)
    assert register.counts() == counts
    assert register.ended() == []


def test_whoever_comes_to_an_end_pushes_out_who_ended_first() -> None:
    register, forgotten = register_of(*map(delivery, (1, 2, 3)), keep=2)

    for number in (2, 1, 3):
        register.move(register.row(delivery(number).id), Event.CANCEL, START)

    assert [one.id for one in forgotten] == [delivery(2).id]
    assert [row.delivery.id for row in register.ended()] == [delivery(1).id, delivery(3).id]
    assert register.counts()[State.CANCELLED] == 2
    assert delivery(2).id not in register
    with pytest.raises(DeliveryNotFound, match=str(delivery(2).id)):
        register.row(delivery(2).id)


def test_a_clock_that_was_set_back_hides_nothing_from_a_prune() -> None:
    register, forgotten = register_of(*map(delivery, (1, 2, 3)))
    for number, ended_at in ((1, START + 9 * SECOND), (2, START), (3, START + SECOND)):
        register.move(register.row(delivery(number).id), Event.CANCEL, ended_at)

    assert register.prune(START + 5 * SECOND, 10) == 2
    assert [one.id for one in forgotten] == [delivery(2).id, delivery(3).id]


def test_a_register_that_keeps_nothing_forgets_at_once() -> None:
    register, forgotten = register_of(delivery(1), keep=0)

    register.move(register.row(delivery(1).id), Event.CANCEL, START)

    assert [one.state for one in forgotten] == [State.CANCELLED]
    assert register.deliveries() == []

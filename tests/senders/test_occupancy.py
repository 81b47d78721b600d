"""How many attempts are under way to each address."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address

import pytest

from callback_middleware.egress.addresses import Address
from callback_middleware.senders.occupancy import LONGEST, SHORTEST, Occupancy

HERE = ip_address("93.184.215.14")
THERE = ip_address("2606:4700::1111")


def full(most: int, address: Address = HERE) -> Occupancy:
    occupancy = Occupancy(most)
    for _ in range(most):
        assert occupancy.enter(address)
    return occupancy


def test_an_address_has_so_many_places_and_another_as_many() -> None:
    occupancy = full(2)
    assert not occupancy.has_room(HERE)
    assert not occupancy.enter(HERE)
    assert occupancy.enter(THERE)


def test_a_place_that_was_given_back_is_free() -> None:
    occupancy = full(2)
    occupancy.leave(HERE)
    assert occupancy.has_room(HERE)
    assert occupancy.enter(HERE)
    assert not occupancy.enter(HERE)


def test_an_address_that_nobody_uses_is_forgotten() -> None:
    occupancy = full(3)
    for _ in range(5):
        occupancy.turn_away(HERE)
    for _ in range(3):
        assert len(occupancy) == 1
        occupancy.leave(HERE)
    assert len(occupancy) == 0
    assert occupancy.turn_away(HERE).after == SHORTEST
    assert len(occupancy) == 0


@pytest.mark.parametrize("other", ["64:ff9b::5db8:d70e", "2002:5db8:d70e::1", "::ffff:5db8:d70e"])
def test_an_ipv6_address_that_leads_to_an_ipv4_one_is_that_one(other: str) -> None:
    assert not full(1).enter(ip_address(other))


def test_who_is_turned_away_later_comes_back_later_and_within_a_minute() -> None:
    occupancy = full(2)
    waits = [occupancy.turn_away(HERE).after for _ in range(5)]
    assert [wait / SHORTEST for wait in waits] == [1, 1, 2, 2, 3]
    for _ in range(1000):
        occupancy.turn_away(HERE)
    assert occupancy.turn_away(HERE).after == LONGEST == timedelta(minutes=1)


def test_who_comes_in_stands_outside_no_more() -> None:
    occupancy = full(1)
    for _ in range(3):
        occupancy.turn_away(HERE)
    occupancy.enter(THERE)
    occupancy.leave(THERE)
    assert occupancy.turn_away(HERE).after == 4 * SHORTEST
    occupancy = full(2)
    assert [occupancy.turn_away(HERE).after / SHORTEST for _ in range(3)] == [1, 1, 2]
    occupancy.leave(HERE)
    occupancy.enter(HERE)
    assert occupancy.turn_away(HERE).after == 2 * SHORTEST
    assert "try again in 2 s" in str(occupancy.turn_away(HERE))

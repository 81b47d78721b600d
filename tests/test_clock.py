from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callback_middleware.clock import SystemClock
from callback_middleware.testing import VirtualClock

START = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_system_clock_is_aware_and_in_utc() -> None:
    now = SystemClock().now()

    assert now.tzinfo is UTC
    assert now > datetime(2024, 1, 1, tzinfo=UTC)


def test_the_system_clock_never_measures_backwards() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]

    assert readings == sorted(readings)


def test_a_virtual_clock_stands_still() -> None:
    clock = VirtualClock(START)

    assert clock.now() == clock.now() == START
    assert clock.monotonic() == clock.monotonic()


def test_a_virtual_clock_moves_when_it_is_told() -> None:
    clock = VirtualClock(START)
    before = clock.monotonic()

    clock.advance(timedelta(days=3))
    clock.advance(0.5)

    assert clock.now() == START + timedelta(days=3, seconds=0.5)
    assert clock.monotonic() - before == timedelta(days=3, seconds=0.5).total_seconds()


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ValueError, match="set_back"):
        VirtualClock().advance(-1)


def test_a_wall_clock_can_be_set_back_and_durations_do_not_notice() -> None:
    clock = VirtualClock(START)
    before = clock.monotonic()

    clock.set_back(timedelta(hours=2))
    clock.advance(1)

    assert clock.now() == START - timedelta(hours=2) + timedelta(seconds=1)
    assert clock.monotonic() - before == 1

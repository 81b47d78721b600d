"""What one receiver may cost: transitions of its standing, and nothing else."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.errors import ConfigurationError
from callback_middleware.isolation import ReceiverLimits, Standing, begun, ended, opens_at, room
from callback_middleware.outcomes import Answer, Blocked, Outcome, Phase, TimedOut, Unreachable, outcome_of

LIMITS = ReceiverLimits()
NEW = LIMITS.new
HANGS = TimedOut(Phase.HEADERS)


def answered(*statuses: int, standing: Standing = NEW, limits: ReceiverLimits = LIMITS, now: float = 0.0) -> Standing:
    """After these answers, each to an attempt that began just now."""
    for status in statuses:
        standing = ended(limits, standing, outcome_of(Answer(status)), now, now, 0.5)
    return standing


def failed(times: int, *, standing: Standing = NEW, limits: ReceiverLimits = LIMITS, now: float = 0.0) -> Standing:
    for _ in range(times):
        standing = ended(limits, standing, HANGS, now, now, 0.5)
    return standing


class TestLimits:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"at_once": 0},
            {"start": 0},
            {"start": 9},
            {"failures": 0},
            {"pause": timedelta(seconds=-1)},
            {"pause": timedelta(hours=1)},
            {"rate": 0},
            {"rate": math.inf},
            {"newcomer_pause": timedelta(seconds=-1)},
            {"remembered": 0},
        ],
        ids=str,
    )
    def test_one_that_makes_no_sense_is_named(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=rf"ReceiverLimits\({next(iter(wrong))}=|longest_pause="):
            ReceiverLimits(**wrong)


class TestSlowStart:
    def test_one_at_a_time_at_first(self) -> None:
        assert [room(LIMITS, NEW, in_flight, 0.0) for in_flight in (0, 1, 2)] == [1, 0, 0]

    def test_as_many_answers_as_were_allowed_double_what_is_allowed(self) -> None:
        widths = [answered(*[200] * count).width for count in range(16)]

        assert widths == [1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8]

    def test_or_as_many_as_one_is_told_to_start_with(self) -> None:
        limits = ReceiverLimits(start=3)

        assert room(limits, limits.new, 0, 0.0) == 3

    @pytest.mark.parametrize("status", [200, 301, 400, 404, 410, 422])
    def test_every_answer_of_one_in_good_health_counts(self, status: int) -> None:
        assert answered(status).width == 2

    def test_a_refusal_of_ours_says_nothing_of_the_receiver(self) -> None:
        assert ended(LIMITS, NEW, Blocked("loopback", ""), 0.0, 0.0, 0.5) == NEW


class TestBreaker:
    @pytest.mark.parametrize(
        "outcome",
        [HANGS, Unreachable(Phase.CONNECT, "refused"), *(outcome_of(Answer(one)) for one in (429, 500, 502, 503, 504))],
        ids=repr,
    )
    def test_failures_in_a_row_pause_it(self, outcome: Outcome) -> None:
        standing = NEW
        for _ in range(4):
            standing = ended(LIMITS, standing, outcome, 10.0, 10.0, 0.5)
        assert room(LIMITS, standing, 0, 10.0) == 1

        standing = ended(LIMITS, standing, outcome, 10.0, 10.0, 0.5)

        assert room(LIMITS, standing, 0, 10.0) == 0
        assert opens_at(LIMITS, standing) == 40.0

    def test_an_answer_between_them_begins_the_count_anew(self) -> None:
        standing = failed(4, standing=answered(200, standing=failed(4)))

        assert room(LIMITS, standing, 0, 0.0) > 0

    def test_after_the_pause_one_may_try_whatever_was_allowed_before(self) -> None:
        standing = failed(5, standing=answered(*[200] * 15))

        assert [room(LIMITS, standing, in_flight, 30.0) for in_flight in (0, 1)] == [1, 0]

    def test_a_try_that_fails_doubles_the_pause_up_to_the_longest(self) -> None:
        standing, now, pauses = failed(4), 0.0, []
        for _ in range(7):
            now = max(now, opens_at(LIMITS, standing)) + 1
            standing = failed(1, standing=standing, now=now)
            pauses.append(opens_at(LIMITS, standing) - now)

        assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]

    def test_what_was_in_flight_when_it_was_paused_lengthens_nothing(self) -> None:
        standing = failed(5, now=10.0)

        for _ in range(3):
            standing = ended(LIMITS, standing, HANGS, 9.0, 12.0, 0.5)

        assert opens_at(LIMITS, standing) == 40.0

    def test_a_try_that_succeeds_starts_it_again_at_one(self) -> None:
        standing = answered(200, standing=failed(6), now=100.0)

        assert (standing.width, standing.failures, standing.pauses) == (2, 0, 0)
        assert failed(5, standing=standing, now=200.0).paused_until == 230.0

    def test_pauses_are_spread_by_chance(self) -> None:
        standing = failed(4)

        ends = [ended(LIMITS, standing, HANGS, 0.0, 0.0, chance).paused_until for chance in (0.0, 0.5, 1.0)]

        assert ends == pytest.approx([24.0, 30.0, 36.0])

    def test_without_a_number_of_failures_nothing_is_paused(self) -> None:
        limits = ReceiverLimits(failures=None)

        assert room(limits, failed(100, limits=limits), 0, 0.0) == 1


class TestRetryAfter:
    @pytest.mark.parametrize("status", [429, 503])
    def test_all_deliveries_of_a_receiver_wait_as_long_as_it_asks(self, status: int) -> None:
        outcome = outcome_of(Answer(status))

        standing = ended(LIMITS, answered(200, 200, 200), outcome, 0.0, 5.0, 0.5, asked=timedelta(seconds=20))

        assert room(LIMITS, standing, 0, 24.9) == 0
        assert room(LIMITS, standing, 0, 25.0) == 1

    def test_but_no_longer_than_the_longest_pause(self) -> None:
        standing = ended(LIMITS, NEW, outcome_of(Answer(503)), 0.0, 0.0, 0.5, asked=timedelta(days=1))

        assert opens_at(LIMITS, standing) == 600.0

    def test_an_attempt_that_was_in_flight_does_not_take_that_back(self) -> None:
        standing = ended(LIMITS, NEW, outcome_of(Answer(503)), 0.0, 0.0, 0.5, asked=timedelta(seconds=20))

        assert opens_at(LIMITS, answered(200, standing=standing, now=1.0)) == 20.0

    def test_it_shortens_no_pause_that_is_longer(self) -> None:
        standing = ended(LIMITS, failed(4), outcome_of(Answer(503)), 0.0, 0.0, 0.5, asked=timedelta(seconds=1))

        assert opens_at(LIMITS, standing) == 30.0

    @pytest.mark.parametrize("status", [301, 404])
    def test_an_answer_of_one_in_good_health_asks_for_nothing(self, status: int) -> None:
        standing = ended(LIMITS, NEW, outcome_of(Answer(status)), 0.0, 0.0, 0.5, asked=timedelta(seconds=20))

        assert room(LIMITS, standing, 0, 0.0) == 2


class TestPace:
    def test_a_newcomer_gets_an_attempt_a_second(self) -> None:
        standing = begun(LIMITS, NEW, 10.0, newcomer=True)

        assert room(LIMITS, standing, 0, 10.9) == 0
        assert room(LIMITS, standing, 0, 11.0) == 1

    def test_with_its_first_2xx_it_is_none_any_more(self) -> None:
        standing = answered(200, standing=begun(LIMITS, NEW, 10.0, newcomer=True), now=10.1)

        assert room(LIMITS, standing, 0, 10.1) == 2

    def test_another_answer_leaves_it_one(self) -> None:
        standing = answered(404, standing=begun(LIMITS, NEW, 10.0, newcomer=True), now=10.1)

        assert room(LIMITS, standing, 0, 10.1) == 0

    def test_a_rate_spaces_what_begins(self) -> None:
        limits = ReceiverLimits(rate=2)
        standing = begun(limits, answered(*[200] * 15), 10.0, newcomer=False)

        assert [room(limits, standing, 0, now) for now in (10.0, 10.49, 10.5, 60.0)] == [0, 0, 1, 1]

    def test_a_high_rate_lets_a_tenth_of_a_second_begin_together(self) -> None:
        limits = ReceiverLimits(rate=50)
        standing = answered(*[200] * 15)
        rooms = []
        for _ in range(6):
            rooms.append(room(limits, standing, 0, 10.0))
            standing = begun(limits, standing, 10.0, newcomer=False)

        assert rooms == [5, 4, 3, 2, 1, 0]
        assert room(limits, standing, 0, 11.0) == 5

    @given(
        st.lists(st.floats(0, 1), min_size=1, max_size=60),
        st.sampled_from([0.5, 1.0, 7.0, 50.0, 200.0]),
    )
    def test_a_rate_is_never_exceeded_by_more_than_its_burst(self, steps: list[float], rate: float) -> None:
        limits = ReceiverLimits(rate=rate)
        standing, now, starts = answered(*[200] * 15), 0.0, 0
        for step in steps:
            now += step
            for _ in range(room(limits, standing, 0, now)):
                standing = begun(limits, standing, now, newcomer=False)
                starts += 1

        assert starts <= now * rate + limits.burst + 1e-6

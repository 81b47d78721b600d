from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.backlog import (
    BACKLOG,
    BacklogLimits,
    Bound,
    Refusal,
    claimable,
    is_newcomer,
    refusal,
    tightest,
)
from callback_middleware.errors import ConfigurationError

HERE = "https://here.example:443"

bounds = st.none() | st.integers(1, 5)


def test_unless_told_otherwise_strangers_have_room_for_20_and_others_for_100_000() -> None:
    assert BACKLOG == BacklogLimits() == BacklogLimits(per_origin=100_000, per_owner=100_000, newcomer=20)


@pytest.mark.parametrize("name", ["per_origin", "per_owner", "newcomer"])
@pytest.mark.parametrize("most", [0, -1])
def test_a_bound_below_1_is_a_configuration_error_that_names_it(name: str, most: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"BacklogLimits\({name}={most}\) must be at least 1, or None"):
        BacklogLimits(**{name: most})


@given(bounds, bounds, bounds, st.booleans(), st.integers(0, 6), st.integers(0, 6))
def test_one_more_is_refused_exactly_where_a_bound_is_reached(  # noqa: PLR0917 - what it depends on
    per_origin: int | None, per_owner: int | None, newcomer: int | None, accepted: bool, live: int, owned: int
) -> None:
    limits = BacklogLimits(per_origin=per_origin, per_owner=per_owner, newcomer=newcomer)
    reached = {
        Bound.PER_ORIGIN: per_origin is not None and live >= per_origin,
        Bound.PER_OWNER: per_owner is not None and owned >= per_owner,
        Bound.NEWCOMER: newcomer is not None and not accepted and live >= newcomer,
    }

    full = refusal(limits, HERE, accepted=accepted, live=live, owned=owned)

    assert (full is not None) == any(reached.values())
    if full is not None:
        assert reached[full.bound]
        assert full == Refusal(full.bound, getattr(limits, full.bound), HERE)


def test_without_limits_nothing_is_refused_and_nobody_is_a_newcomer() -> None:
    assert refusal(None, HERE, accepted=False, live=10**9, owned=10**9) is None
    assert not is_newcomer(None, accepted=False)


@pytest.mark.parametrize(
    ("limits", "accepted", "new"),
    [
        (BacklogLimits(), False, True),
        (BacklogLimits(), True, False),
        (BacklogLimits(newcomer=None), False, False),
    ],
)
def test_a_newcomer_is_who_has_never_accepted_where_that_matters(
    limits: BacklogLimits, accepted: bool, new: bool
) -> None:
    assert is_newcomer(limits, accepted=accepted) is new


@pytest.mark.parametrize(
    ("limits", "accepted", "bound"),
    [
        ({}, False, (Bound.NEWCOMER, 20)),
        ({}, True, (Bound.PER_ORIGIN, 100_000)),
        ({"per_origin": 7}, False, (Bound.PER_ORIGIN, 7)),
        ({"per_origin": 20}, False, (Bound.NEWCOMER, 20)),
        ({"per_origin": None}, False, (Bound.NEWCOMER, 20)),
        ({"per_origin": None}, True, None),
        ({"newcomer": None}, False, (Bound.PER_ORIGIN, 100_000)),
    ],
)
def test_of_two_bounds_of_an_origin_the_tighter_one_holds(
    limits: dict[str, Any], accepted: bool, bound: tuple[Bound, int] | None
) -> None:
    assert tightest(BacklogLimits(**limits), accepted=accepted) == bound


@pytest.mark.parametrize(
    ("bound", "whom"),
    [
        (Bound.NEWCOMER, "for a receiver that has accepted none yet, and earns more with its first 2xx: '{origin}'"),
        (Bound.PER_ORIGIN, "for one receiver: '{origin}'"),
        (Bound.PER_OWNER, "for the subscriptions of one owner"),
    ],
)
def test_a_refusal_says_which_bound_is_reached_and_who_may_raise_it(bound: Bound, whom: str) -> None:
    assert Refusal(bound, 20, HERE).detail == (
        f"as many wait as backlog=BacklogLimits({bound}=20) of the outbox allows, which its operator may raise, "
        + whom.format(origin=HERE)
    )


def test_what_a_stranger_chose_is_escaped_and_comes_last_in_it() -> None:
    detail = Refusal(Bound.NEWCOMER, 20, "https://\x1b[31m" + "x" * 1000).detail

    assert detail.isprintable()
    assert detail.index("BacklogLimits") < detail.index("https://")
    assert len(detail) < 500


@pytest.mark.parametrize(
    ("per_origin", "newcomer", "out", "busy", "most"),
    [
        (8, False, False, 0, 8),
        (8, False, False, 3, 5),
        (8, False, False, 9, 0),
        (8, True, False, 0, 1),
        (8, True, False, 1, 0),
        (8, True, True, 0, 0),
        (8, True, True, 1, 0),
        (0, True, False, 0, 0),
    ],
)
def test_of_a_newcomer_one_may_be_claimed_and_none_while_it_is_out(
    per_origin: int, newcomer: bool, out: bool, busy: int, most: int
) -> None:
    assert claimable(per_origin, newcomer=newcomer, out=out, busy=busy) == most

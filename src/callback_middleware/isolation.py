"""How much one receiver may cost, decided attempt by attempt: a slow start, a breaker, a pace.

Pure: a :class:`Standing` is what a worker knows of one receiver, and every function here takes one and returns the
next. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple, assert_never

from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import Accepted, Blocked, Outcome, Rejected, TimedOut, Unreachable

_OVERLOADED: Final = frozenset({429, *range(500, 600)})
"""Answers of a receiver that cannot do its work now. Any other says of a delivery that it is wrong, in good health."""

_SPREAD: Final = 0.2
"""Pauses are up to this fraction shorter or longer: workers that paused together do not come back together."""

_MOST_DOUBLINGS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverLimits:
    """How much one receiver, which is one origin, may cost a worker. The limits hold for each worker by itself.

    A receiver starts with ``start`` attempts at a time, and is allowed twice as many when as many were answered: 1, 2,
    4, 8.
    After ``failures`` in a row (no answer, 429, 5xx) nothing is sent to it for ``pause``, then one attempt: if that
    fails too, the pause doubles; if it is answered, the receiver starts again at one. Deliveries that wait for that
    are charged no attempt.

    Attributes:
        at_once: Attempts in flight.
        start: Of these, for a receiver that nothing is known of.
        failures: In a row, after which it is left alone; None for never.
        pause: How long at first.
        longest_pause: Of pauses that double, and of a ``Retry-After`` that all its deliveries wait for.
        rate: Attempts begun per second; None for no limit but the others.
        newcomer_pause: Between two attempts, of which there is one at a time, while it has never accepted anything.
        remembered: Receivers that are kept in mind; of more, those that were heard of longest ago start again.

    Raises:
        ConfigurationError: A limit that makes no sense; the message names it.
    """

    at_once: int = 8
    start: int = 1
    failures: int | None = 5
    pause: timedelta = timedelta(seconds=30)
    longest_pause: timedelta = timedelta(minutes=10)
    rate: float | None = None
    newcomer_pause: timedelta = timedelta(seconds=1)
    remembered: int = 16_384

    def __post_init__(self) -> None:
        for name in ("at_once", "remembered"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"ReceiverLimits({name}={getattr(self, name)!r}) must be at least 1")
        if not 1 <= self.start <= self.at_once:
            raise ConfigurationError(f"ReceiverLimits(start={self.start!r}) must be from 1 to at_once={self.at_once!r}")
        if self.failures is not None and self.failures < 1:
            raise ConfigurationError(f"ReceiverLimits(failures={self.failures!r}) must be at least 1, or None")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ConfigurationError(f"ReceiverLimits(rate={self.rate!r}) must be positive, or None")
        for name in ("pause", "newcomer_pause"):
            if getattr(self, name) < timedelta():
                raise ConfigurationError(f"ReceiverLimits({name}={getattr(self, name)!r}) must not be negative")
        if self.longest_pause < self.pause:
            raise ConfigurationError(
                f"ReceiverLimits(longest_pause={self.longest_pause!r}) must not be shorter than pause={self.pause!r}"
            )

    @property
    def new(self) -> Standing:
        """The standing of a receiver that nothing is known of."""
        return Standing(width=self.start)

    @property
    def burst(self) -> int:
        """Attempts that ``rate`` lets begin together: those of a tenth of a second."""
        return 1 if self.rate is None else max(1, min(self.at_once, math.ceil(self.rate / 10)))


class Standing(NamedTuple):
    """What a worker knows of one receiver.

    Attributes:
        width: Attempts in flight that it is allowed now.
        answered: Since it was last allowed more.
        failures: In a row.
        pauses: In a row.
        paused_at: When the last of these began.
        paused_until: Nothing is sent before this.
        paced_until: Nor before this: its pace, as long as it has never accepted.
        used_until: By its rate, the time that the attempts so far have used up.
    """

    width: int = 1
    answered: int = 0
    failures: int = 0
    pauses: int = 0
    paused_at: float = -math.inf
    paused_until: float = -math.inf
    paced_until: float = -math.inf
    used_until: float = -math.inf


def opens_at(limits: ReceiverLimits, standing: Standing) -> float:
    """From when an attempt may begin, as far as time alone says."""
    by_rate = -math.inf if limits.rate is None else standing.used_until - (limits.burst - 1) / limits.rate
    return max(standing.paused_until, standing.paced_until, by_rate)


def room(limits: ReceiverLimits, standing: Standing, in_flight: int, now: float) -> int:
    """How many attempts may begin now."""
    if now < opens_at(limits, standing):
        return 0
    left = standing.width - in_flight
    if limits.rate is not None and standing.used_until > now:
        left = min(left, limits.burst - math.ceil(round((standing.used_until - now) * limits.rate, 6)))
    elif limits.rate is not None:
        left = min(left, limits.burst)
    return max(left, 0)


def begun(limits: ReceiverLimits, standing: Standing, now: float, *, newcomer: bool) -> Standing:
    """After an attempt has begun."""
    if newcomer:
        standing = standing._replace(paced_until=now + limits.newcomer_pause.total_seconds())
    if limits.rate is not None:
        standing = standing._replace(used_until=max(standing.used_until, now) + 1 / limits.rate)
    return standing


def ended(  # noqa: PLR0917 - a transition and what it depends on
    limits: ReceiverLimits,
    standing: Standing,
    outcome: Outcome,
    started: float,
    now: float,
    chance: float,
    *,
    asked: timedelta | None = None,
) -> Standing:
    """After an attempt.

    Args:
        limits: What is allowed.
        standing: Before it ended.
        outcome: What it came to.
        started: When it began.
        now: When it ended.
        chance: From 0 to 1; spreads the pauses.
        asked: What the receiver's ``Retry-After`` says, from now.
    """
    match outcome:
        case Accepted():
            # What it accepted it is no newcomer after.
            return _answered(limits, standing._replace(paced_until=-math.inf))
        case Rejected(answer):
            if answer.status not in _OVERLOADED:
                return _answered(limits, standing)
            failed = _failed(limits, standing, started, now, chance)
            if asked is None:
                return failed
            wait = min(asked, limits.longest_pause).total_seconds()
            # It is told when it wants to hear again; whoever else waits for it waits as long.
            return failed._replace(width=1, answered=0, paused_until=max(failed.paused_until, now + wait))
        case Unreachable() | TimedOut():
            return _failed(limits, standing, started, now, chance)
        case Blocked():
            # It was not asked.
            return standing
        case _:
            assert_never(outcome)


def _answered(limits: ReceiverLimits, standing: Standing) -> Standing:
    answered = standing.answered + 1
    wider = answered >= standing.width
    return standing._replace(
        width=min(standing.width * 2, limits.at_once) if wider else standing.width,
        answered=0 if wider else answered,
        failures=0,
        # A pause that has begun goes on: what was in flight when the receiver asked for it does not take it back.
        pauses=0,
    )


def _failed(limits: ReceiverLimits, standing: Standing, started: float, now: float, chance: float) -> Standing:
    failures = standing.failures + 1
    standing = standing._replace(failures=failures, answered=0)
    # What was in flight when it was paused says nothing new.
    if limits.failures is None or failures < limits.failures or started <= standing.paused_at:
        return standing
    pause = limits.pause.total_seconds() * 2 ** min(standing.pauses, _MOST_DOUBLINGS)
    pause = min(pause, limits.longest_pause.total_seconds()) * (1 - _SPREAD + 2 * _SPREAD * chance)
    return standing._replace(width=1, pauses=standing.pauses + 1, paused_at=now, paused_until=now + pause)

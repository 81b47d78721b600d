"""When a failed attempt is followed by another: data, and the arithmetic on it.

Nothing here reads a clock or throws dice: time and chance are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeGuard

from callback_middleware.errors import ConfigurationError

STANDARD: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""The schedule that the Standard Webhooks specification proposes: at once, and then after each of these."""

LONGEST: Final = timedelta(days=365)
"""No wait, age or ``Retry-After`` is longer, so that no sum of them leaves the calendar."""

_DAY: Final = timedelta(days=1)
_MOST_ATTEMPTS: Final = 1000
_FAILURES: Final = range(300, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is followed by another. The default is the Standard Webhooks schedule: 10 attempts, 3 days.

    Attributes:
        waits: The time before the second attempt, the third, and so on; the last repeats while attempts are left.
        max_attempts: All attempts together, the first included; None for one more than there are ``waits``.
        max_age: No attempt starts later than this after the delivery was first due; None for no limit.
        jitter: Every wait is up to this fraction shorter or longer, so that what failed together does not come
            back together.
        retry_after: The longest ``Retry-After`` of a receiver that is obeyed; a longer one counts as this.
        give_up_on: Statuses that end the delivery at once, beside 410.

    Raises:
        ConfigurationError: A value that makes no sense; the message names it.
    """

    waits: tuple[timedelta, ...] = STANDARD
    max_attempts: int | None = None
    max_age: timedelta | None = None
    jitter: float = 0.2
    retry_after: timedelta = _DAY
    give_up_on: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        _check_waits(self.waits)
        if self.max_attempts is not None:
            _check_attempts(self.max_attempts)
            if not self.waits and self.max_attempts > 1:
                raise ConfigurationError(f"RetryPolicy(max_attempts={self.max_attempts}) needs at least one of waits")
        if self.max_age is not None:
            _check_duration("max_age", self.max_age)
        if not _is_number(self.jitter) or not 0 <= self.jitter < 1:
            raise ConfigurationError(f"RetryPolicy(jitter={self.jitter!r}) must be a fraction from 0 to below 1")
        _check_duration("retry_after", self.retry_after)
        if self.give_up_on != _statuses(self.give_up_on):
            raise ConfigurationError(f"RetryPolicy(give_up_on={self.give_up_on!r}) must be a frozenset")

    @classmethod
    def fixed(cls, *waits: timedelta | float, **others: Any) -> RetryPolicy:
        """Attempts at once and after each of these waits, in seconds or as timedelta; without any, one attempt.

        Args:
            waits: See :class:`RetryPolicy`.
            others: Its other attributes.
        """
        return cls(waits=tuple(_duration("waits", wait) for wait in waits), **others)

    @classmethod
    def exponential(
        cls,
        first: timedelta | float = 5,
        *,
        factor: float = 2,
        longest: timedelta | float = _DAY,
        max_attempts: int = 10,
        **others: Any,
    ) -> RetryPolicy:
        """Waits that grow by a factor until they are ``longest``, and stay there.

        Args:
            first: The wait before the second attempt, in seconds or as timedelta; positive.
            factor: At least 1.
            longest: No wait is longer, in seconds or as timedelta.
            max_attempts: All attempts together.
            others: The other attributes of :class:`RetryPolicy`.
        """
        wait, limit = _duration("first", first), _duration("longest", longest)
        _check_attempts(max_attempts)
        if not wait:
            raise ConfigurationError(f"RetryPolicy.exponential(first={first!r}) must be positive: it is multiplied")
        if not _is_number(factor) or not 1 <= factor < math.inf:
            raise ConfigurationError(f"RetryPolicy.exponential(factor={factor!r}) must be a number of at least 1")
        waits = [min(wait, limit)]
        # The last wait repeats, so the list ends where it stops growing.
        while waits[-1] < limit and len(waits) < max_attempts - 1 and factor > 1:
            waits.append(min(waits[-1] * min(factor, limit / waits[-1]), limit))
        return cls(waits=tuple(waits), max_attempts=max_attempts, **others)

    @property
    def attempts(self) -> int:
        """The most attempts that a run of a delivery gets."""
        return len(self.waits) + 1 if self.max_attempts is None else self.max_attempts

    def wait(
        self,
        attempts: int,
        *,
        chance: float,
        asked: timedelta | None = None,
        left: timedelta | None = None,
    ) -> timedelta | None:
        """How long to wait before the next attempt; None when there is none.

        Args:
            attempts: How many were made, at least 1.
            chance: From 0 to 1: where between the shortest and the longest jitter the wait falls.
            asked: The receiver's ``Retry-After``. The wait is never shorter than this, up to ``retry_after``.
            left: The time until the delivery expires. The wait is never longer.
        """
        if attempts >= self.attempts:
            return None
        scheduled = self.waits[min(attempts, len(self.waits)) - 1]
        least = min(asked, self.retry_after) if asked is not None else timedelta()
        wait = max(
            scheduled * (1 + self.jitter * (2 * chance - 1)),
            # Who was told when to come back does not come earlier, and does not come with all the others.
            least * (1 + self.jitter * chance),
        )
        if left is None or wait <= left:
            return wait
        # Chance must not be what lets a delivery expire.
        wait = max(scheduled, least)
        return wait if wait <= left else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data: durations in seconds. :meth:`from_dict` makes the same policy of it."""
        return {
            "waits": [wait.total_seconds() for wait in self.waits],
            "max_attempts": self.max_attempts,
            "max_age": None if self.max_age is None else self.max_age.total_seconds(),
            "jitter": self.jitter,
            "retry_after": self.retry_after.total_seconds(),
            "give_up_on": sorted(self.give_up_on),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RetryPolicy:
        """The policy that plain data describes: any of the attributes, durations in seconds.

        Raises:
            ConfigurationError: A name that means nothing here, or a value that makes no sense.
        """
        known = [attribute.name for attribute in fields(cls)]
        if unknown := sorted(str(name) for name in data if name not in known):
            raise ConfigurationError(
                f"a retry policy has no {', '.join(map(repr, unknown))}: it knows {', '.join(known)}"
            )
        values = dict(data)
        for name in ("max_age", "retry_after"):
            if values.get(name) is not None:
                values[name] = _duration(name, values[name])
        if "waits" in values:
            values["waits"] = tuple(_duration("waits", wait) for wait in _listed("waits", values["waits"]))
        if "give_up_on" in values:
            values["give_up_on"] = _statuses(values["give_up_on"])
        return cls(**values)


def parse_retry_after(value: str, *, now: datetime) -> timedelta | None:
    """The wait that a ``Retry-After`` header asks for (RFC 9110, 10.2.3): never negative, at most :data:`LONGEST`.

    Returns None for what is neither seconds nor an HTTP date: a receiver's mistake costs it the say.

    Args:
        value: The field's value, as it came.
        now: Aware; what a date is counted from.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        # int() refuses thousands of digits; a dozen of them are longer than any wait already.
        return LONGEST if len(text.lstrip("0")) > len("31536000") else min(timedelta(seconds=int(text)), LONGEST)
    try:
        date = parsedate_to_datetime(text)
        # An HTTP date is in GMT, whatever it says (RFC 9110, 5.6.7); the asctime form does not say.
        aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return min(max(aware - now, timedelta()), LONGEST)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _listed(name: str, value: object) -> Collection[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"RetryPolicy({name}={value!r}) must be a list")
    return value


def _statuses(value: object) -> frozenset[int]:
    for status in (listed := _listed("give_up_on", value)):
        if not isinstance(status, int) or status not in _FAILURES:
            raise ConfigurationError(f"RetryPolicy(give_up_on=…) has {status!r}: a failure's status is from 300 to 599")
    return frozenset(listed)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(name: str, value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not _is_number(value):
        raise ConfigurationError(f"RetryPolicy({name}=…) has {value!r}: a duration is seconds or a timedelta")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"RetryPolicy({name}=…) has {value!r}: no calendar holds that") from None


def _check_duration(name: str, value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta() <= value <= LONGEST:
        raise ConfigurationError(
            f"RetryPolicy({name}=…) has {value!r}: it must be a timedelta from 0 to {LONGEST.days} days"
        )


def _check_waits(value: object) -> None:
    if not isinstance(value, tuple) or len(value) >= _MOST_ATTEMPTS:
        raise ConfigurationError(f"RetryPolicy(waits=…) must be a tuple of fewer than {_MOST_ATTEMPTS} timedeltas")
    for wait in value:
        _check_duration("waits", wait)


def _check_attempts(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_ATTEMPTS:
        raise ConfigurationError(f"RetryPolicy(max_attempts={value!r}) must be from 1 to {_MOST_ATTEMPTS}")

"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class VirtualClock:
    """A :class:`~callback_middleware.ports.Clock` for tests: days of retries pass in one line.

    Args:
        start: Aware; the time at first.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._passed = timedelta()
        self._set_back = timedelta()

    def now(self) -> datetime:
        """The start, and what passed since."""
        return self._start + self._passed - self._set_back

    def monotonic(self) -> float:
        """Seconds that passed since the start; :meth:`set_back` leaves them alone."""
        return self._passed.total_seconds()

    def advance(self, by: timedelta | float) -> None:
        """Let this much time pass, in seconds or as timedelta; never negative."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta():
            raise ValueError(f"time does not pass backwards: {by!r} (see set_back)")
        self._passed += step

    def set_back(self, by: timedelta | float) -> None:
        """Set the wall clock back, as an operator may: no time passes, and :meth:`monotonic` does not notice."""
        self._set_back += by if isinstance(by, timedelta) else timedelta(seconds=by)

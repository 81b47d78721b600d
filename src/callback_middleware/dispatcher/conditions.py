"""How a dispatcher stands: what a probe asks, and whoever watches a fleet of workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from callback_middleware.delivery import Claim, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.ports import Clock, Outbox

SLOW: Final = 5.0
"""Seconds after which an outbox that was asked and has not answered is as good as down."""


class Readiness(StrEnum):
    """Whether a dispatcher is of use."""

    STARTING = "starting"
    """It has claimed nothing yet."""

    READY = "ready"
    """The outbox answered its last claim."""

    FAILING = "failing"
    """The outbox is down, or does not answer. It goes on when that works again."""

    DRAINING = "draining"
    """It was told to stop, and claims no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a dispatcher stood when it was asked.

    Attributes:
        readiness: Whether it is of use.
        since: When that began, as far as anybody noticed.
        in_flight: How many claims it holds: attempts under way, and what is being settled.
        reason: Why it is not ready; empty if it is.
    """

    readiness: Readiness
    since: datetime
    in_flight: int
    reason: str


class AskedOutbox:
    """An outbox as one dispatcher asks it, and what that last heard of it. Of one event loop.

    Args:
        outbox: Asked what a dispatcher asks.
        clock: Says what time it is.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A run begins, and none was under way."""
        self._claimed = self._draining = False
        self._error: Exception | None = None
        self._asked: float | None = None
        self._readiness, self._since = Readiness.STARTING, self._clock.now()

    def leave(self) -> None:
        """No more is claimed."""
        self._draining = True
        self._look()

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        with self._asking():
            claims = await self._outbox.claim(limit, lease, per_origin=per_origin, busy=busy)
        self._claimed, self._error = True, None
        self._look()
        return claims

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        with self._asking():
            return await self._outbox.extend(claims, lease)

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        with self._asking():
            return await self._outbox.settle(settlements)

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's: reaching it is no error
        await self._outbox.wait(timeout)

    def condition(self, in_flight: int) -> Condition:
        """How the dispatcher stands now."""
        reason = self._look()
        return Condition(readiness=self._readiness, since=self._since, in_flight=in_flight, reason=reason)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._asked = self._clock.monotonic()
        try:
            yield
        except Exception as error:
            self._error = error
            self._look()
            raise
        finally:
            self._asked = None

    def _look(self) -> str:
        readiness, reason = self._judge()
        if readiness is not self._readiness:
            self._readiness, self._since = readiness, self._clock.now()
        return reason

    def _judge(self) -> tuple[Readiness, str]:
        if self._draining:
            return Readiness.DRAINING, "it was told to stop"
        error = self._outbox.outage or self._error
        if error is not None:
            return Readiness.FAILING, str(error) or type(error).__name__
        silent = 0.0 if self._asked is None else self._clock.monotonic() - self._asked
        if silent >= SLOW:
            return Readiness.FAILING, f"the outbox has not answered for {silent:.0f} s"
        if not self._claimed:
            return Readiness.STARTING, "it has not claimed yet"
        return Readiness.READY, ""

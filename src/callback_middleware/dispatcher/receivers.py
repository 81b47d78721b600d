"""All receivers that one dispatcher has to do with: how many attempts of each are in flight, and may be."""

from __future__ import annotations

import heapq
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping
from datetime import timedelta

from callback_middleware.destinations import Origin
from callback_middleware.isolation import ReceiverLimits, Standing, begun, ended, opens_at, room
from callback_middleware.outcomes import Outcome

logger = logging.getLogger("callback_middleware")


class Receivers:
    """What is known of receivers, as many as the limits say; those with an attempt in flight are never forgotten.

    Args:
        limits: What each may cost.
    """

    def __init__(self, limits: ReceiverLimits) -> None:
        self.limits = limits
        self._new = limits.new
        self._standings: OrderedDict[Origin, Standing] = OrderedDict()
        self._in_flight: Counter[Origin] = Counter()
        # Of those in flight, kept waiting by time, or recovering. Of others a claim may bring too many: they go back.
        self._busy: dict[Origin, int] = {}
        # When time lets them have room again; in the heap there may be others, which have changed since.
        self._opens: dict[Origin, float] = {}
        self._openings: list[tuple[float, Origin]] = []

    def busy(self, now: float) -> Mapping[Origin, int]:
        """For a claim: ``at_once`` less what may begin now, of every receiver that is in the way of one."""
        while self._openings and self._openings[0][0] <= now:
            opens, origin = heapq.heappop(self._openings)
            if self._opens.get(origin) == opens:
                del self._opens[origin]
                self._note(origin, now)
        return self._busy

    def room(self, origin: Origin, now: float) -> int:
        """How many attempts may begin now."""
        return room(self.limits, self._standing(origin), self._in_flight[origin], now)

    def crowded(self) -> bool:
        """Whether one that has attempts in flight has no room for more: something may wait for them to end."""
        return any(self._busy.get(origin, 0) >= self.limits.at_once for origin in self._in_flight)

    def next_opening(self, now: float) -> float | None:
        """In how many seconds one that time alone keeps waiting has room again; None for never."""
        return max(self._openings[0][0] - now, 0.0) if self._openings else None

    def begin(self, origin: Origin, now: float, *, newcomer: bool = False) -> bool:
        """Something was claimed. Whether its attempt may begin: else there is no room, and it only stays in flight.

        Args:
            origin: Its receiver's.
            now: When.
            newcomer: Its receiver has never accepted anything.
        """
        admitted = self.room(origin, now) > 0
        self._in_flight[origin] += 1
        if admitted:
            self._learn(origin, begun(self.limits, self._standing(origin), now, newcomer=newcomer), now)
        else:
            self._note(origin, now)
        return admitted

    def end(  # noqa: PLR0917 - as the transition behind it
        self, origin: Origin, outcome: Outcome, started: float, now: float, chance: float, asked: timedelta | None
    ) -> None:
        """An attempt has ended, and is still in flight until it is settled."""
        before = self._standing(origin)
        after = ended(self.limits, before, outcome, started, now, chance, asked=asked)
        if after.paused_until > max(before.paused_until, now):
            logger.warning(
                "nothing is sent to %s for %.0f s: %s",
                origin,
                after.paused_until - now,
                f"{after.failures} attempts in a row failed" if asked is None else "its answer asks for that",
            )
        elif before.pauses and not after.pauses:
            logger.info("%s answers again", origin)
        self._learn(origin, after, now)

    def leave(self, origin: Origin, now: float) -> None:
        """An attempt is settled, or was handed back."""
        self._in_flight[origin] -= 1
        if not self._in_flight[origin]:
            del self._in_flight[origin]
        self._note(origin, now)

    def _standing(self, origin: Origin) -> Standing:
        return self._standings.get(origin, self._new)

    def _learn(self, origin: Origin, standing: Standing, now: float) -> None:
        self._standings[origin] = standing
        self._standings.move_to_end(origin)
        if len(self._standings) > self.limits.remembered:
            self._forget(now)
        self._note(origin, now)

    def _forget(self, now: float) -> None:
        for origin in self._standings:
            if origin not in self._in_flight:
                del self._standings[origin]
                self._opens.pop(origin, None)
                self._note(origin, now)
                return

    def _note(self, origin: Origin, now: float) -> None:
        """Write down how much room there is, and when there will be more."""
        standing = self._standing(origin)
        opens = opens_at(self.limits, standing)
        if opens > now and self._opens.get(origin) != opens:
            self._opens[origin] = opens
            heapq.heappush(self._openings, (opens, origin))
            if len(self._openings) > 2 * self.limits.remembered:
                self._openings = [(at, one) for one, at in self._opens.items()]
                heapq.heapify(self._openings)
        if opens > now or standing.pauses or origin in self._in_flight:
            self._busy[origin] = self.limits.at_once - self.room(origin, now)
        else:
            self._busy.pop(origin, None)

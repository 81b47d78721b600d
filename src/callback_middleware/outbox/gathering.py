"""One event loop's puts, gathered: what is put in one burst is stored in one commit.

A commit costs a loaded process as much as a third of a request, whatever is in it. So what gathers is handed over after
the first turn of the loop in which nothing was put: alone on an idle loop that is at once, and on a busy one when the
requests that are under way have put too. While one burst is away, the next ones gather by themselves. Batches grow with
the load, and no timer and no waiting thread is needed for it. All who wait are woken by one call into the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.eventloop import Caller, Once
from callback_middleware.ports import Batch, PutReport

Result: TypeAlias = PutReport | Exception

PATIENCE: Final = 5.0
"""Seconds that a put waits, at most."""

MOST_TURNS: Final = 100
"""Of the loop, that the first put of a burst waits for others."""

MOST_BATCHES: Final = 500
"""In a burst: what is beyond goes over later."""


class Gathering:
    """The batches of one burst, and what became of each.

    Attributes:
        batches: In the order in which they were put.
        over: Happens when those who wait may look at their :meth:`result`.
        results: One for each batch, when they are stored.
        error: What became of all of them, if they are not.
    """

    def __init__(self, over: Once) -> None:
        self.batches: list[Batch] = []
        self.over = over
        self.results: Sequence[Result] = ()
        self.error: BaseException | None = None
        self._begun = time.monotonic()
        self._given_up: OutboxError | None = None
        self._seen = 0
        self._turns = 0

    def age(self, now: float) -> float:
        """Seconds since the first put."""
        return now - self._begun

    def give_up(self, error: OutboxError) -> None:
        """Let nobody wait any longer. What was handed over is stored, or fails, all the same."""
        self._given_up = error
        self.over.set()

    def grows(self) -> bool:
        """Whether the last turn has brought something, and the next one may."""
        count, before = len(self.batches), self._seen
        self._seen = count
        self._turns += 1
        return before < count < MOST_BATCHES and self._turns < MOST_TURNS

    def result(self, number: int) -> PutReport:
        """What became of one batch. Raises what it failed with."""
        result = self._given_up or self.error or self.results[number]
        if isinstance(result, OutboxError):
            # Each who waits gets one of its own: a traceback is not to be shared.
            raise type(result)(*result.args) from result
        if isinstance(result, BaseException):
            raise result
        return result


class Gatherer:
    """Where the tasks of one event loop put.

    Args:
        hand_over: Has a burst stored, and then calls :meth:`welcome`, in the loop. Nothing else is handed over before
            that. It returns at once; what it raises is what became of the burst.
    """

    def __init__(self, hand_over: Callable[[Gathering], object]) -> None:
        self._store = hand_over
        self._caller = Caller()
        self._gathering: Gathering | None = None
        self._away: Gathering | None = None
        self._watching = False

    async def put(self, batch: Batch) -> PutReport:
        """Have a batch stored with all the others of this turn. What is handed over is stored, whoever is cancelled."""
        gathering = self._gathering
        if gathering is None:
            gathering = self._gathering = Gathering(self._caller.once())
            if self._away is None:
                self._caller.soon(self._turn)
            if not self._watching:
                self._watch(PATIENCE)
        batches = gathering.batches
        number = len(batches)
        batches.append(batch)
        await gathering.over.wait()
        return gathering.result(number)

    async def drain(self) -> None:
        """Return when what was put before is stored, or has failed."""
        last = self._gathering or self._away
        if last is not None and not last.over.is_set():
            await last.over.wait()

    def welcome(self, gathering: Gathering) -> None:
        """What was handed over is back: stored, or not. In the loop."""
        gathering.over.set()
        self._away = None
        if self._gathering is not None:
            self._turn()

    def hand_over(self) -> None:
        """Hand over what has gathered."""
        gathering, self._gathering = self._gathering, None
        if gathering is None:
            return
        self._away = gathering
        try:
            self._store(gathering)
        except OutboxError as error:
            gathering.error = error
            self._caller.call(lambda: self.welcome(gathering))

    def _watch(self, seconds: float) -> None:
        """See to it that nobody waits longer than that: one timer for all, where a request of its own costs a tenth."""
        self._watching = True
        self._caller.later(seconds, self._look)

    def _look(self) -> None:
        self._watching = False
        now = time.monotonic()
        if self._gathering is not None and self._gathering.age(now) >= PATIENCE:
            # It was never handed over.
            self._gathering.give_up(OutboxUnavailable(f"the outbox was busy for {PATIENCE:g} s: nothing was stored"))
            self._gathering = None
        if self._away is not None and self._away.age(now) >= PATIENCE:
            self._away.give_up(OutboxUncertain(f"the outbox did not say within {PATIENCE:g} s whether it stored it"))
        waiting = [one.age(now) for one in (self._away, self._gathering) if one is not None and not one.over.is_set()]
        if waiting:
            self._watch(PATIENCE - max(waiting))

    def _turn(self) -> None:
        """A turn of the loop is over: hand over, unless it has brought something."""
        gathering = self._gathering
        if gathering is None:
            return
        if gathering.grows():
            self._caller.soon(self._turn)
        else:
            self.hand_over()

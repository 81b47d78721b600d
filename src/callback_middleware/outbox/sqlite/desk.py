"""One event loop's side of the writer: what is put there in one burst goes over together.

A commit costs a loaded process as much as a third of a request, whatever is in it. So the desk hands over after the
first turn of the loop in which nothing was put: alone on an idle loop that is at once, and on a busy one when the
requests that are under way have put too. While the writer has what was handed over, the next ones gather by
themselves. Batches grow with the load, and no timer and no waiting thread is needed for it. All who wait are woken by
one call into the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain
from callback_middleware.eventloop import Caller, Once
from callback_middleware.outbox.sqlite.jobs import Job, News
from callback_middleware.outbox.sqlite.puts import Result, earliest_due, put_all
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, PutReport

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds that a put waits, at most."""

MOST_TURNS: Final = 100
"""Of the loop, that the first put of a burst waits for others."""

MOST_BATCHES: Final = 500
"""In a burst: what is beyond goes over later."""


class Desk:
    """Where the tasks of one event loop ask the writer.

    Args:
        submit: Hands a job to the writer that there is now.
        news: Told what is due of what was put.
    """

    def __init__(self, submit: Callable[[Job], None], news: News) -> None:
        self._submit = submit
        self._news = news
        self._caller = Caller()
        self._gathering: _Gathering | None = None
        self._away: _Gathering | None = None
        self._watching = False

    async def put(self, batch: Batch) -> PutReport:
        """Have a batch stored with all the others of this turn. What is handed over is stored, whoever is cancelled."""
        gathering = self._gathering
        if gathering is None:
            gathering = self._gathering = _Gathering(self, self._caller.once())
            if self._away is None:
                self._caller.soon(self._turn)
            if not self._watching:
                self._watch(PATIENCE)
        batches = gathering.batches
        number = len(batches)
        batches.append(batch)
        await gathering.over.wait()
        return gathering.result(number)

    async def call(self, work: Callable[[Store], T], *, undo: Callable[[Store, T], None] | None = None) -> T:
        """Have something else done by the writer, after all that was handed over before.

        Args:
            work: What, in the writer's thread.
            undo: Done with the result if nobody waits for it any more.
        """
        call = _Call(self._caller, work)
        self._submit(call)
        try:
            await call.over.wait()
        except BaseException:
            if undo is not None:
                self._submit(_Undo(call, undo))
            raise
        if call.error is not None:
            raise call.error
        return call.result[0]

    async def drain(self) -> None:
        """Return when what was put before is stored, or has failed."""
        last = self._gathering or self._away
        if last is not None:
            await last.over.wait()

    def returned(self, gathering: _Gathering) -> None:
        """The writer is done with what was handed over. In its thread."""
        if not self._caller.call(lambda: self._welcome(gathering)):
            # The loop is over, and nobody of it will come: what has gathered meanwhile goes over from here.
            self._hand_over()

    def tell(self, batches: Sequence[Batch], results: Sequence[Result]) -> None:
        """What was stored may be due for somebody. In the writer's thread."""
        if self._news.followed():
            # What was refused may have a time that cannot be compared.
            stored = (one for one, result in zip(batches, results, strict=True) if not isinstance(result, Exception))
            due = earliest_due(stored)
            if due is not None:
                self._news.tell(due)

    def _welcome(self, gathering: _Gathering) -> None:
        gathering.over.set()
        self._away = None
        if self._gathering is not None:
            self._turn()

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
            self._hand_over()

    def _hand_over(self) -> None:
        gathering, self._gathering = self._gathering, None
        if gathering is None:
            return
        self._away = gathering
        try:
            self._submit(gathering)
        except OutboxError as error:
            gathering.done(error)


class _Gathering:
    """The batches of one turn, and what became of each."""

    def __init__(self, desk: Desk, over: Once) -> None:
        self.batches: list[Batch] = []
        self.over = over
        self._desk = desk
        self._results: Sequence[Result] = ()
        self._error: BaseException | None = None
        self._begun = time.monotonic()
        self._given_up: OutboxError | None = None
        self._seen = 0
        self._turns = 0

    def age(self, now: float) -> float:
        """Seconds since the first put."""
        return now - self._begun

    def give_up(self, error: OutboxError) -> None:
        """Let nobody wait any longer. What the writer has is stored, or fails, all the same."""
        self._given_up = error
        self.over.set()

    def grows(self) -> bool:
        """Whether the last turn has brought something, and the next one may."""
        count, before = len(self.batches), self._seen
        self._seen = count
        self._turns += 1
        return before < count < MOST_BATCHES and self._turns < MOST_TURNS

    def run(self, store: Store) -> None:
        self._results = put_all(store, self.batches)

    def done(self, error: BaseException | None) -> None:
        self._error = error
        self._desk.returned(self)
        if error is None:
            self._desk.tell(self.batches, self._results)

    def result(self, number: int) -> PutReport:
        result = self._given_up or self._error or self._results[number]
        if isinstance(result, OutboxError):
            # Each who waits gets one of its own: a traceback is not to be shared.
            raise type(result)(*result.args) from result
        if isinstance(result, BaseException):
            raise result
        return result


class _Call(Generic[T]):
    """Something that one task waits for."""

    def __init__(self, caller: Caller, work: Callable[[Store], T]) -> None:
        self.over = anyio.Event()
        self.result: list[T] = []
        self.error: BaseException | None = None
        self._caller = caller
        self._work = work

    def run(self, store: Store) -> None:
        self.result.append(self._work(store))

    def done(self, error: BaseException | None) -> None:
        self.error = error
        self._caller.call(self.over.set)


class _Undo(Generic[T]):
    """Takes back what nobody waited for to the end."""

    def __init__(self, call: _Call[T], undo: Callable[[Store, T], None]) -> None:
        self._call = call
        self._undo = undo

    def run(self, store: Store) -> None:
        for result in self._call.result:
            self._undo(store, result)

    def done(self, error: BaseException | None) -> None:
        """Nobody waits. What could not be taken back ends by itself."""

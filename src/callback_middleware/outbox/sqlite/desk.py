"""One event loop's side of the writer: what is put there in one burst goes over together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio

from callback_middleware.eventloop import Caller
from callback_middleware.outbox.gathering import Gatherer, Gathering
from callback_middleware.outbox.sqlite.jobs import Job, News
from callback_middleware.outbox.sqlite.puts import earliest_due, put_all
from callback_middleware.outbox.sqlite.store import Store

T = TypeVar("T")


class Desk(Gatherer):
    """Where the tasks of one event loop ask the writer.

    Args:
        submit: Hands a job to the writer that there is now.
        news: Told what is due of what was put.
    """

    def __init__(self, submit: Callable[[Job], None], news: News) -> None:
        super().__init__(lambda gathering: submit(_Put(self, gathering)))
        self._submit = submit
        self._news = news

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

    def returned(self, gathering: Gathering) -> None:
        """The writer is done with what was handed over. In its thread."""
        if not self._caller.call(partial(self.welcome, gathering)):
            # The loop is over, and nobody of it will come: what has gathered meanwhile goes over from here.
            self.hand_over()

    def tell(self, gathering: Gathering) -> None:
        """What was stored may be due for somebody. In the writer's thread."""
        if self._news.followed():
            # What was refused may have a time that cannot be compared.
            results = zip(gathering.batches, gathering.results, strict=True)
            due = earliest_due(batch for batch, result in results if not isinstance(result, Exception))
            if due is not None:
                self._news.tell(due)


class _Put:
    """Has one burst stored."""

    def __init__(self, desk: Desk, gathering: Gathering) -> None:
        self._desk = desk
        self._gathering = gathering

    def run(self, store: Store) -> None:
        self._gathering.results = put_all(store, self._gathering.batches)

    def done(self, error: BaseException | None) -> None:
        self._gathering.error = error
        self._desk.returned(self._gathering)
        if error is None:
            self._desk.tell(self._gathering)


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

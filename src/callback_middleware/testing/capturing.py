"""Callbacks in an application's own tests: no network, no waiting, and everything that happened to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import anyio

from callback_middleware.delivery import Delivery, Verdict
from callback_middleware.dispatcher import Dispatcher
from callback_middleware.dispatcher.mismatches import AnswerChecks
from callback_middleware.egress import EgressPolicy
from callback_middleware.instrumentation.logs import LoggingObserver
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.mounted import find_middleware
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.outcomes import Answer, Attempt, AttemptRequest, Outcome, outcome_of
from callback_middleware.planning import Skip
from callback_middleware.ports import Batch, PutReport
from callback_middleware.responses import AnswerCheck
from callback_middleware.states import State
from callback_middleware.subscription import Subscription
from callback_middleware.testing.clock import VirtualClock

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""What the virtual clock says when capturing begins."""

_TOO_LONG: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Sent:
    """One callback that was stored to be sent.

    Attributes:
        id: What ``send`` or ``notify`` returned, and the ``webhook-id`` that the receiver would see.
        callback: Its name.
        method: HTTP method, upper case.
        url: The whole destination.
        headers: Names in lower case.
        body: The exact bytes; None for none.
        tags: As they were given.
        due_at: Not sent before this.
    """

    id: UUID
    callback: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    tags: Mapping[str, str]
    due_at: datetime

    @classmethod
    def of(cls, one: Delivery) -> Sent:
        """What a test sees of a delivery."""
        return cls(one.id, one.callback, one.method, one.url, dict(one.headers), one.body, one.tags, one.due_at)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body or b"")


class CapturedCallbacks:
    """What an application's callbacks came to while :func:`capture` was active.

    Attributes:
        sent: Every callback that was stored to be sent, in order; notifications too.
        subscribed: Every subscription that was stored, in order, whatever became of it since.
        skipped: Every callback that was not sent or subscribed, with its reason.
        attempts: Every attempt of :meth:`drain`, in order; ``mismatch`` says how an answer differs from what its
            callback declares.
        clock: Stands still unless it is told to move; :meth:`drain` moves it.
        outbox: What ``await notify(outbox, …)`` takes in the test of a job.
    """

    def __init__(self, answers: AnswerChecks | None = None) -> None:
        self.sent: list[Sent] = []
        self.subscribed: list[Subscription] = []
        self.skipped: list[Skip] = []
        self.attempts: list[Attempt] = []
        self.clock = VirtualClock(START)
        self.outbox: MemoryOutbox = _Noting(self)
        self.observer = _Watcher(self)
        self._checks = answers
        self._answers: list[Outcome] = []
        self._last: Outcome = outcome_of(Answer(200))

    def answer(self, *answers: int | Outcome) -> None:
        """Script what receivers answer from now on: statuses or outcomes, in turn; the last one stays.

        Without a script every receiver answers 200. Of an answer that is only a status, only the status is compared
        with what the callback declares.
        """
        self._answers.extend(outcome_of(Answer(one)) if isinstance(one, int) else one for one in answers)

    def drain(self) -> Mapping[UUID, State]:
        """Deliver everything, retries and delays included, by moving the clock; says where each delivery ended.

        Works in ``def`` and ``async def`` tests: it runs an event loop of its own, in a thread.
        """
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(anyio.run, self._drain).result()

    async def _drain(self) -> Mapping[UUID, State]:
        dispatcher = Dispatcher(
            self.outbox,
            _Scripted(self),
            egress=EgressPolicy(),
            clock=self.clock,
            observer=Observers(LoggingObserver(), self.observer),
            # Whatever is due is attempted: a test asks what its application sends, and not when.
            receivers=ReceiverLimits(failures=None, newcomer_pause=timedelta()),
            answers=self._check,
            chance=lambda: 0.5,
        )
        end = self.clock.now() + _TOO_LONG
        while self.clock.now() < end:
            await dispatcher.deliver_due()
            deliveries = [await self.outbox.get(one.id) for one in self.sent]
            waiting = [one.due_at for one in deliveries if not one.state.terminal]
            if not waiting:
                break
            self.clock.advance(max(min(waiting) - self.clock.now(), timedelta()))
        return {one.id: (await self.outbox.get(one.id)).state for one in self.sent}

    def _check(self, delivery: Delivery) -> AnswerCheck | None:
        check = None if self._checks is None else self._checks(delivery)
        if check is None:
            return None
        # A script that names a status says nothing of a body.
        return lambda status, media_type, body: check(status, media_type, body or None)

    def next_answer(self) -> Outcome:
        if self._answers:
            self._last = self._answers.pop(0)
        return self._last


class _Scripted:
    """A sender that opens nothing."""

    def __init__(self, captured: CapturedCallbacks) -> None:
        self._captured = captured

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:  # noqa: ARG002 - the port's shape
        return self._captured.next_answer()

    async def aclose(self) -> None:
        """Nothing is open."""


class _Noting(MemoryOutbox):
    """Writes down what is stored: only here is it known where a notification goes."""

    def __init__(self, captured: CapturedCallbacks) -> None:
        # Bounds are the operator's, of an outbox that this one stands in for.
        super().__init__(clock=captured.clock, backlog=None)
        self._captured = captured

    async def put(self, batch: Batch) -> PutReport:
        report = await super().put(batch)
        self._captured.subscribed.extend(batch.subscribe)
        self._captured.sent.extend([Sent.of(await self.get(stored)) for stored in report.stored])
        return report


class _Watcher:
    """Writes down what an observer is told."""

    def __init__(self, captured: CapturedCallbacks) -> None:
        self._captured = captured

    def put(self, batch: Batch) -> None: ...

    def skipped(self, skip: Skip) -> None:
        self._captured.skipped.append(skip)

    def lost(self, batch: Batch, error: Exception) -> None: ...

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:  # noqa: ARG002 - the port's shape
        self._captured.attempts.append(attempt)

    def settled(self, delivery: Delivery, verdict: Verdict) -> None: ...


@contextmanager
def capture(app: object) -> Iterator[CapturedCallbacks]:
    """Capture the callbacks of an application instead of sending them.

    ::

        with capture(app) as callbacks:
            client.post("/invoices/?callback_url=https://example.org/events", json=invoice)
        assert callbacks.sent[0].json == {"description": "Payment celebration", "paid": True}

    The middleware keeps its own policies, so a destination that would be refused is refused here too. Outbox,
    sender and clock are replaced until the block ends.

    ``commit_with`` refuses here what it would refuse, and touches no connection, which may be of any kind: what it is
    given counts as sent when the request ends in a success, and is dropped when it does not. Where your transactions
    really commit, a test needs the outbox itself.

    Args:
        app: The application with the middleware added to it, or the middleware itself.

    Raises:
        ConfigurationError: No :class:`CallbackMiddleware` is mounted on it.
    """
    middleware = find_middleware(app)
    captured = CapturedCallbacks(middleware.answers)
    with middleware.with_parts(
        outbox=captured.outbox,
        clock=captured.clock,
        observer=Observers(LoggingObserver(), captured.observer),
        dispatch=False,
        joins=False,
    ):
        yield captured

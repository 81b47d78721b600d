"""The seams of a service, each with the moments at which it may die, and with a journal of what passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import ClassVar, Final

import anyio
import anyio.lowlevel

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.delivery import Claim, Dead, Delivered, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outcomes import Accepted, AttemptRequest, Outcome
from callback_middleware.ports import Batch, Outbox, PutReport, Sender
from crashing.doom import CommitWatch, Doom
from crashing.journal import Journal
from crashing.settings import CROWD, Moment

LEASE: Final = timedelta(seconds=3)
"""A claim's: longer than an attempt, and short enough to wait for when its worker is dead."""

_LOOKS: Final = 10
"""Turns of the event loop after which what was put in the first is committed, or waits for something else."""


class MortalOutbox:
    """An outbox whose process may die in it.

    Args:
        outbox: The one that is tested.
        doom: When to die.
        journal: Told what was settled.
        path: Of the file of ``outbox``; None where it has none, and never commits.
    """

    durable: ClassVar[bool] = True
    patience: ClassVar[float | None]

    def __init__(self, outbox: Outbox, doom: Doom, journal: Journal, *, path: str | None) -> None:
        # A process has one outbox.
        type(self).patience = outbox.patience
        self._outbox = outbox
        self._doom = doom
        self._journal = journal
        self._path = path
        self._crowd: list[Batch] = []
        self._unseen = anyio.Event()

    @property
    def outage(self) -> OutboxUnavailable | None:
        return self._outbox.outage

    async def start(self) -> None:
        await self._outbox.start()

    async def put(self, batch: Batch) -> PutReport:
        self._doom.at(Moment.BEFORE_PUT)
        if self._doom.comes(Moment.COMMITTING):
            await self._die_in_commit(CommitWatch.running, batch)
        if self._doom.comes(Moment.COMMITTED):
            await self._die_in_commit(CommitWatch.committed, batch)
        report = await self._outbox.put(batch)
        self._doom.at(Moment.TOLD)
        return report

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        asked_at = time.monotonic()
        claims = await self._outbox.claim(limit, min(lease, LEASE), per_origin=per_origin, busy=busy)
        if claims:
            self._journal.write("claimed", *(claim.fence.delivery for claim in claims), at=asked_at)
            self._doom.at(Moment.CLAIMED)
        return claims

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        return await self._outbox.extend(claims, lease)

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        self._doom.at(Moment.SETTLING)
        self._journal.write("settling", *(settlement.fence.delivery for settlement in settlements))
        applied = await self._outbox.settle(settlements)
        for settlement in settlements:
            self._note(settlement, applied=settlement.fence in applied)
        self._doom.at(Moment.SETTLED)
        return applied

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the port's
        await self._outbox.wait(timeout)

    async def aclose(self) -> None:
        await self._outbox.aclose()

    async def _die_in_commit(self, sees: Callable[[CommitWatch], bool], batch: Batch) -> None:
        """Put a crowd of batches in one commit, and die in it. Returns if that went by unseen; then nobody was told."""
        self._crowd.append(batch)
        if len(self._crowd) < CROWD:
            await self._unseen.wait()
            return
        crowd, self._crowd = self._crowd, []
        unseen, self._unseen = self._unseen, anyio.Event()
        watch = CommitWatch(self._path or "")
        async with anyio.create_task_group() as tasks:
            for one in crowd:
                tasks.start_soon(self._outbox.put, one)
            for _ in range(_LOOKS):
                # While it looks the event loop stands still, so that nobody is told of what is seen.
                if sees(watch):
                    self._doom.strike()
                await anyio.lowlevel.checkpoint()
        unseen.set()

    def _note(self, settlement: Settlement, *, applied: bool) -> None:
        delivery, attempt = settlement.fence.delivery, settlement.attempt
        self._journal.write("applied" if applied else "late", delivery)
        if applied and isinstance(settlement.verdict, Delivered | Dead):
            self._journal.write("result", delivery, number=0 if attempt is None else attempt.run)
        if attempt is not None:
            self._journal.write("ended", delivery, number=int(isinstance(attempt.outcome, Accepted)))


class MortalSender:
    """A sender whose process may die in it."""

    def __init__(self, sender: Sender, doom: Doom, journal: Journal) -> None:
        self._sender = sender
        self._doom = doom
        self._journal = journal

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self._journal.write("began", dict(request.headers)["webhook-id"])
        outcome = await self._sender.send(request, egress=egress, deadline=deadline)
        if isinstance(outcome, Accepted):
            self._doom.at(Moment.HEARD)
        return outcome

    async def aclose(self) -> None:
        await self._sender.aclose()


class MortalApplication:
    """An application, outside its middleware: counts the requests in flight, and may die when one is answered."""

    def __init__(self, app: ASGIApp, doom: Doom) -> None:
        self.app = app
        self._doom = doom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, self._doom)
        try:
            await self.app(scope, receive, answer.send)
        finally:
            answer.end()


class _Answer:
    """One response, from the request's arrival to its last byte."""

    def __init__(self, send: Send, doom: Doom) -> None:
        self._send = send
        self._doom = doom
        self._left: int | None = None
        self._open = True
        doom.requests += 1

    async def send(self, message: Message) -> None:
        await self._send(message)
        if self._open and self._is_last(message):
            self.end()
            self._doom.at(Moment.ANSWERED)

    def end(self) -> None:
        if self._open:
            self._open = False
            self._doom.requests -= 1

    def _is_last(self, message: Message) -> bool:
        if message["type"] == "http.response.start":
            length = dict(message["headers"]).get(b"content-length")
            self._left = None if length is None else int(length)
            return False
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            return self._left <= 0
        return not message.get("more_body", False)


_behind: ContextVar[list[Batch]] = ContextVar("_behind")


class LateOutbox(MortalOutbox):
    """The mistake that is to be found out: it says at once that it has stored what it will store."""

    async def put(self, batch: Batch) -> PutReport:
        _behind.get().append(batch)
        return PutReport(stored=[delivery.id for delivery in batch.deliveries])

    async def put_late(self, batch: Batch) -> None:
        """Do what was said to be done."""
        await super().put(batch)


class AnswersFirst:
    """The other half of the mistake: the response is complete, and then the put is made."""

    def __init__(self, app: ASGIApp, outbox: LateOutbox) -> None:
        self.app = app
        self._outbox = outbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        batches: list[Batch] = []
        _behind.set(batches)
        await self.app(scope, receive, send)
        for batch in batches:
            await self._outbox.put_late(batch)

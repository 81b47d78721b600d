"""The transactions of its handler's that one request's callbacks were put in.

They are joined at once, and asked about when the response is about to be complete: by then each must have ended, or its
client would own callbacks that may never come to be.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, assert_never, cast

import anyio

from callback_middleware.asgi import Scope
from callback_middleware.capture import Capture, rolled_back
from callback_middleware.errors import ConfigurationError, PlanningError, TransactionOpen
from callback_middleware.eventloop import spawn
from callback_middleware.operations import Operation
from callback_middleware.planning import Asked, Planned, Skip, check_unanswered, plan, reads_request
from callback_middleware.ports import Batch, Fate, Joined, TransactionalOutbox
from callback_middleware.recording import Recording, RequestTap

logger = logging.getLogger("callback_middleware")


class Moment(enum.StrEnum):
    """When it is asked what became of a transaction."""

    COMPLETE = "its response is complete"
    RETURNED = "it has returned"
    RAISED = "it has raised"


_REMEDY: Final = (
    "commit it before the handler returns; a FastAPI dependency that commits after its yield does so after the "
    'response, unless it is declared Depends(…, scope="function") (FastAPI 0.121 or newer)'
)


class _Member(NamedTuple):
    """What was put in one transaction at once."""

    planned: Planned
    batch: Batch
    joined: Joined


class Transactions:
    """Those of one request.

    Safe to join from the threads that ``def`` handlers run in; everybody is told in the event loop.

    Args:
        capture: What all requests share.
        operation: The request's.
        scope: The request's, as its handler has it.
        tap: Gives what is kept of the request's body.
    """

    def __init__(self, capture: Capture, operation: Operation, scope: Scope, tap: Callable[[], RequestTap]) -> None:
        self._capture = capture
        self._operation = operation
        self._scope = scope
        self._tap = tap
        self._skips: deque[Skip] = deque()
        # Added to by any thread; taken one by one, so that none is lost.
        self._joined: deque[_Member] = deque()
        self._open: list[_Member] = []

    async def join(self, connection: object, staged: Sequence[Asked]) -> bool:
        """Put what was staged in the transaction that is open on a connection. False if it is to stay staged.

        Raises:
            ConfigurationError: The outbox cannot, or not on this connection.
            PlanningError: Something cannot be planned before there is a response, or a key is another owner's.
            OutboxUnavailable: The database refused.
        """
        outbox = self._begin(staged)
        if outbox is None:
            return False
        request = None
        if reads_request(self._operation, staged, None):
            request = await self._tap().whole(self._capture.limits.drain_seconds)
        planned, batch = self._plan(staged, request)
        if batch is not None:
            self._joined.append(_Member(planned, batch, await outbox.put_in(connection, batch)))
        self._skips.extend(planned.skips)
        return True

    def join_sync(self, connection: object, staged: Sequence[Asked]) -> bool:
        """As :meth:`join`, in the thread of a handler that blocks."""
        outbox = self._begin(staged)
        if outbox is None:
            return False
        request = None
        if reads_request(self._operation, staged, None):
            request = self._tap().recording
            if not request.ended:
                raise PlanningError(
                    "commit_with_sync needs the request's body, and nobody has read it to its end: read it before, or "
                    "use await commit_with(…) in an async handler"
                )
        planned, batch = self._plan(staged, request)
        if batch is not None:
            self._joined.append(_Member(planned, batch, outbox.put_in_sync(connection, batch)))
        self._skips.extend(planned.skips)
        return True

    async def settle(self, moment: Moment) -> TransactionOpen | None:
        """Ask what became of those of which nobody knows yet, and tell everybody; the error says that one is open.

        It waits no longer for the outbox than a put may.
        """
        while self._skips:
            self._capture.observer.skipped(self._skips.popleft())
        before, self._open = self._open, []
        new: list[_Member] = []
        while self._joined:
            new.append(self._joined.popleft())
        if not before and not new:
            return None
        fates = await self._fates([*before, *new])
        for member, fate in fates:
            self._tell(member, fate)
        if Fate.COMMITTED in [fate for _, fate in fates]:
            spawn(self._outbox().committed)
        if not self._open:
            return None
        error = TransactionOpen(
            f"{self._operation}: {moment}, and the transaction that commit_with put callbacks in is still open: "
            f"{_REMEDY}"
        )
        if any(member in new for member in self._open):
            # Its callbacks are sent as soon as it is committed, whoever was told what.
            logger.log(logging.WARNING if moment is Moment.RAISED else logging.ERROR, "%s", error)
        return error

    def _begin(self, staged: Sequence[Asked]) -> TransactionalOutbox | None:
        """Where to put; None where transactions are not joined."""
        outbox = self._outbox() if self._capture.joins else None
        check_unanswered(staged)
        return outbox

    def _outbox(self) -> TransactionalOutbox:
        outbox = self._capture.outbox
        if not hasattr(outbox, "put_in"):
            raise ConfigurationError(
                f"commit_with: {type(outbox).__name__} cannot store in your transaction; the outbox must be in the "
                "database that your transaction is in: PostgresOutbox, or SQLiteOutbox for your own sqlite3 connection "
                "to the same file"
            )
        return cast("TransactionalOutbox", outbox)

    def _plan(self, staged: Sequence[Asked], request: Recording | None) -> tuple[Planned, Batch | None]:
        capture, operation = self._capture, self._operation
        exchange = capture.exchange(self._scope, operation, request)
        planned = plan(operation, exchange, staged, egress=capture.egress, new_id=capture.new_id, unanswered=True)
        try:
            return planned, capture.batch(planned)
        except OverflowError as error:
            raise PlanningError(f"{operation}: something is to be sent at a time beyond the calendar") from error

    async def _fates(self, members: Sequence[_Member]) -> Sequence[tuple[_Member, Fate]]:
        """What became of each; ``UNKNOWN`` from where the outbox has taken too long."""
        outbox = self._outbox()
        fates = [Fate.UNKNOWN] * len(members)
        with anyio.move_on_after(self._capture.put_timeout, shield=True):
            for number, member in enumerate(members):
                try:
                    fates[number] = await outbox.fate(member.joined.transaction)
                except Exception:
                    logger.exception("%s: asking what became of a transaction failed", self._operation)
        return list(zip(members, fates, strict=True))

    def _tell(self, member: _Member, fate: Fate) -> None:
        capture = self._capture
        match fate:
            case Fate.COMMITTED:
                capture.stored(member.planned, member.batch, member.joined.report)
            case Fate.ROLLED_BACK:
                for skip in rolled_back(member.planned):
                    capture.observer.skipped(skip)
            case Fate.OPEN:
                self._open.append(member)
            case Fate.UNKNOWN:
                logger.warning(
                    "%s: the outbox does not say whether the transaction that commit_with put callbacks in was "
                    "committed; they are sent if it was",
                    self._operation,
                )
                capture.on_put()
            case _:
                assert_never(fate)

"""What the requests of one mounted middleware share, and the last step of each: what was planned is put."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from callback_middleware.asgi import Scope
from callback_middleware.delivery import Delivery
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain, SubscriptionExists
from callback_middleware.exchange import Exchange
from callback_middleware.operations import Operation
from callback_middleware.planning import Planned, Skip, Verb
from callback_middleware.ports import Batch, Clock, Observer, Outbox, PutReport
from callback_middleware.putting import put
from callback_middleware.recording import CaptureLimits, Recording
from callback_middleware.retry import RetryPolicy
from callback_middleware.sources.discovery import Directory
from callback_middleware.staging import Catalogue
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey
from callback_middleware.values import Reason, excerpt

logger = logging.getLogger("callback_middleware")


UNDOCUMENTED: Final = Operation("ANY", "(documents no callback)", ())
"""Stands for an operation that documents nothing, and whose handler stages all the same: it notifies."""


class Answered(NamedTuple):
    """What is known of a response.

    Attributes:
        status: None while there is none.
        headers: As in ``http.response.start``.
        body: What was kept of it; None for nothing.
    """

    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: Recording | None = None


UNANSWERED: Final = Answered()


@dataclass(slots=True)
class _Spell:
    """How much was told of the spell that the outbox is down."""

    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What the requests of one mounted middleware share.

    Attributes:
        directory: Which operation a request belongs to.
        catalogue: Every callback that the application documents.
        outbox: Where deliveries are put.
        egress: Asked about the text of every destination.
        retry: For callbacks that declare none.
        deadline: For callbacks that declare none; bounds one attempt.
        limits: How much is kept of bodies.
        observer: Told what happens; it must not raise.
        clock: Says when a delivery was planned.
        new_id: Makes the ids of deliveries.
        put_timeout: Seconds that a response waits for the outbox.
        respond: Whether a client is told instead of a success that its callbacks are not stored; else the observer is
            told alone.
        on_put: Called after every put: somebody must dispatch.
        joins: Whether ``commit_with`` joins a transaction; where it does not, as in tests, what it is given stays
            staged.
    """

    directory: Directory
    catalogue: Catalogue
    outbox: Outbox
    egress: EgressPolicy
    retry: RetryPolicy
    deadline: timedelta
    limits: CaptureLimits
    observer: Observer
    clock: Clock
    new_id: Callable[[], UUID]
    put_timeout: float
    respond: bool
    on_put: Callable[[], None]
    joins: bool = True
    _spell: _Spell = field(default_factory=_Spell, init=False)

    def refuses(self, scope: Scope, outage: OutboxUnavailable) -> bool:
        """Whether a request must not reach its handler: it documents callbacks, and they could not be stored.

        Decided without I/O; told to the log once for as long as the outbox is down.
        """
        if not self.respond or self.directory.rematch(scope) is None:
            return False
        if not self._spell.told:
            self._spell.told = True
            logger.error(
                "the outbox is down, and requests that document callbacks are answered 503 until it works again (%s)",
                excerpt(str(outage)),
            )
        return True

    def exchange(
        self, scope: Scope, operation: Operation, request: Recording | None, answered: Answered = UNANSWERED
    ) -> Exchange:
        """An exchange as far as it is known; ``request`` is what was kept of its body, None where nobody needs it."""
        response = answered.body
        return Exchange.from_asgi(
            scope,
            path_params=self.directory.path_params(scope, operation),
            request_content=None if request is None else request.content,
            request_truncated=request is not None and request.truncated,
            response_status=answered.status,
            response_headers=answered.headers,
            response_content=None if response is None else response.content,
            response_truncated=response is not None and response.truncated,
        )

    def batch(self, planned: Planned) -> Batch | None:
        """What is to be put of what was planned; None for nothing."""
        if not planned.anything:
            return None
        now, retry, deadline = self.clock.now(), self.retry, self.deadline
        return Batch(
            [Delivery.of(one, now=now, retry=retry, deadline=deadline) for one in planned.plans],
            # Most requests send and do nothing else: what is empty costs no comprehension.
            [Subscription.of(one, now=now, retry=retry, deadline=deadline) for one in planned.subscriptions]
            if planned.subscriptions
            else (),
            [Notification.of(one, now=now) for one in planned.notifications] if planned.notifications else (),
            [SubscriptionKey(one.callback, one.key, one.owner) for one in planned.ends] if planned.ends else (),
        )

    async def store(self, planned: Planned, batch: Batch | None) -> OutboxError | SubscriptionExists | None:
        """Put a batch, and tell the observer of it and of everything that is skipped. The error is a value here."""
        for skip in planned.skips:
            self.observer.skipped(skip)
        if batch is None:
            return None
        try:
            report = await put(self.outbox, batch, seconds=self.put_timeout)
        except Exception as error:  # noqa: BLE001 - an engine that raises what it should not has stored nothing for sure
            self.observer.lost(batch, error)
            if isinstance(error, OutboxError | SubscriptionExists):
                return error
            return OutboxUncertain(f"the outbox raised {error!r}")
        self._spell.told = False
        self.stored(planned, batch, report)
        return None

    def stored(self, planned: Planned, batch: Batch, report: PutReport) -> None:
        """Tell the observer what is in the outbox, and what that left out; and have it sent."""
        if report.duplicates or report.unsubscribed or report.refused:
            for skip in _left_out(planned, report):
                self.observer.skipped(skip)
            batch = _without(batch, frozenset((*report.duplicates, *report.unsubscribed, *report.refused)))
        self.observer.put(batch)
        self.on_put()


def _left_out(planned: Planned, report: PutReport) -> Iterator[Skip]:
    """What the outbox did not take, and why."""
    duplicates, unsubscribed, refused = frozenset(report.duplicates), frozenset(report.unsubscribed), report.refused
    # The dedupe key itself stays out of the detail: it is often the client's own, and a log is no place for it.
    used = "its dedupe key was used in the last 24 hours"
    for plan in planned.plans:
        if plan.id in duplicates:
            yield Skip(plan.operation, plan.callback, Reason.DUPLICATE, used, id=plan.id)
        elif plan.id in refused:
            detail = refused[plan.id].detail
            yield Skip(plan.operation, plan.callback, Reason.BACKLOG_FULL, detail, id=plan.id)
    for one in planned.notifications:
        if one.id in duplicates:
            yield Skip(one.operation, one.callback, Reason.DUPLICATE, used, id=one.id, verb=Verb.NOTIFY)
        elif one.id in unsubscribed:
            detail = f"its owner has no subscription of the key {excerpt(one.key)}"
            yield Skip(one.operation, one.callback, Reason.NOBODY_SUBSCRIBED, detail, id=one.id, verb=Verb.NOTIFY)
        elif one.id in refused:
            detail = refused[one.id].detail
            yield Skip(one.operation, one.callback, Reason.BACKLOG_FULL, detail, id=one.id, verb=Verb.NOTIFY)


def rolled_back(planned: Planned) -> Iterator[Skip]:
    """Everything that was put in a transaction, which was rolled back."""
    why = "the transaction that it was put in was rolled back"
    for plan in planned.plans:
        yield Skip(plan.operation, plan.callback, Reason.STATUS, why, id=plan.id)
    for one in planned.subscriptions:
        yield Skip(one.operation, one.callback, Reason.STATUS, why, verb=Verb.SUBSCRIBE)
    for notification in planned.notifications:
        id_ = notification.id
        yield Skip(notification.operation, notification.callback, Reason.STATUS, why, id=id_, verb=Verb.NOTIFY)
    for end in planned.ends:
        yield Skip(end.operation, end.callback, Reason.STATUS, why, verb=Verb.UNSUBSCRIBE)


def _without(batch: Batch, ids: frozenset[UUID]) -> Batch:
    return batch._replace(
        deliveries=[one for one in batch.deliveries if one.id not in ids],
        notify=[one for one in batch.notify if one.id not in ids],
    )

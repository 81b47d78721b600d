"""What the requests of one mounted middleware share, and the last step of each: plans become deliveries and are put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio

from callback_middleware.delivery import Delivery
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import OutboxError, OutboxUncertain
from callback_middleware.planning import Planned, Skip
from callback_middleware.ports import Batch, Clock, Observer, Outbox, PutReport
from callback_middleware.recording import CaptureLimits
from callback_middleware.retry import RetryPolicy
from callback_middleware.sources.discovery import Directory
from callback_middleware.values import Reason

_UNCERTAIN_PAUSE: Final = 0.05
"""Seconds between two puts of one batch whose first outcome is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What the requests of one mounted middleware share.

    Attributes:
        directory: Which operation a request belongs to.
        outbox: Where deliveries are put.
        egress: Asked about the text of every destination.
        retry: For callbacks that declare none.
        deadline: For callbacks that declare none; bounds one attempt.
        limits: How much is kept of bodies.
        observer: Told what happens; it must not raise.
        clock: Says when a delivery was planned.
        new_id: Makes the ids of deliveries.
        put_timeout: Seconds that a response waits for the outbox.
        respond: Whether a failing outbox turns a success into a 503; else the loss is told to the observer alone.
        on_put: Called after every put: somebody must dispatch.
    """

    directory: Directory
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

    async def store(self, planned: Planned) -> OutboxError | None:
        """Put what was planned, and tell the observer of it and of what was skipped. The error is a value here."""
        for skip in planned.skips:
            self.observer.skipped(skip)
        if not planned.plans:
            return None
        now = self.clock.now()
        deliveries = [Delivery.of(one, now=now, retry=self.retry, deadline=self.deadline) for one in planned.plans]
        try:
            report = await self._put(Batch(deliveries))
        except Exception as error:  # noqa: BLE001 - an engine that raises what it should not has stored nothing for sure
            self.observer.lost(deliveries, error)
            return error if isinstance(error, OutboxError) else OutboxUncertain(f"the outbox raised {error!r}")
        again = frozenset(report.duplicates)
        for delivery in deliveries:
            if delivery.id in again:
                self.observer.skipped(_duplicate(delivery))
        self.observer.put([delivery for delivery in deliveries if delivery.id not in again])
        self.on_put()
        return None

    async def _put(self, batch: Batch) -> PutReport:
        """Put, shielded from the request's cancellation; an unknown outcome is put again: ids make that safe."""
        with anyio.move_on_after(self.put_timeout, shield=True):
            while True:
                try:
                    return await self.outbox.put(batch)
                except OutboxUncertain:
                    await anyio.sleep(_UNCERTAIN_PAUSE)
        raise OutboxUncertain(f"the outbox did not say within {self.put_timeout} s whether it stored the batch")


def _duplicate(delivery: Delivery) -> Skip:
    # The key itself stays out of the detail: it is often the client's own, and a log is no place for it.
    detail = "its dedupe key was used in the last 24 hours"
    return Skip(delivery.operation, delivery.callback, Reason.DUPLICATE, detail, id=delivery.id)

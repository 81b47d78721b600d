"""The seams: what the two halves ask of the world, as Protocols and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Protocol
from uuid import UUID

from callback_middleware.delivery import (
    Attempt,
    AttemptRequest,
    Claim,
    Delivery,
    Fence,
    Origin,
    Outcome,
    Settlement,
    State,
    Verdict,
)
from callback_middleware.egress import EgressPolicy
from callback_middleware.planning import Skip


class Clock(Protocol):
    """The one place that knows the time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never goes back: for durations only."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request staged: stored whole or not at all."""

    deliveries: Sequence[Delivery] = ()


@dataclass(frozen=True, slots=True)
class PutReport:
    """What a put changed.

    Attributes:
        stored: Ids that are new in the outbox.
        duplicates: Ids that were not stored because their dedupe key was used in the last 24 hours.
    """

    stored: Sequence[UUID] = ()
    duplicates: Sequence[UUID] = ()


class Outbox(Protocol):
    """Where deliveries wait. Every engine passes ``callback_middleware.testing.OutboxContract``."""

    durable: ClassVar[bool]
    """Whether what was put survives the process."""

    async def put(self, batch: Batch) -> PutReport:
        """Store a batch whole. A delivery whose id is known changes nothing, whatever its state.

        Raises:
            OutboxUnavailable: Certainly not stored.
            OutboxUncertain: Perhaps stored; put the same batch again.
        """
        ...

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        """At most ``limit`` due deliveries, each under a new fence and leased to the caller.

        Of one origin at most ``per_origin`` less those in ``busy``; origins take turns, across calls too.
        A delivery whose lease ended is due again.
        """
        ...

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        """Lease these claims afresh, from now. Returns the fences that are still owned."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        """Record what became of claims. Each applies only while its fence holds; returns those that applied.

        The attempt of one that does not apply is kept as a late attempt.
        """
        ...

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - ending early is its purpose, and no error
        """Return when something may be due, and after ``timeout`` at the latest. A hint: polling alone is correct."""
        ...

    async def aclose(self) -> None:
        """Give back what the outbox holds open. It may be used again afterwards."""
        ...


class DeliveryLog(Protocol):
    """What operators and tests ask an outbox."""

    async def get(self, delivery: UUID) -> Delivery:
        """One delivery as it stands. Raises :class:`~callback_middleware.errors.DeliveryNotFound`."""
        ...

    async def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        """Its attempts, oldest first, late ones included."""
        ...

    async def counts(self) -> Mapping[State, int]:
        """How many deliveries are in each state."""
        ...


class Sender(Protocol):
    """Makes one HTTP attempt. It never raises for what a receiver does: that is an ``Outcome``."""

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt, bounded as a whole by ``deadline``.

        ``egress`` is asked about the URL and about every address before a socket to it is opened.
        No redirect is followed, no cookie kept, no proxy taken from the environment, no content decoded.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections of the running event loop. It may be used again afterwards."""
        ...


class Signer(Protocol):
    """Signs the exact bytes of an attempt."""

    def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
        """The headers that sign this delivery's body at ``timestamp``."""
        ...


class Observer(Protocol):
    """Told what happens. It must not block; what it raises is logged and goes no further."""

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """These are in the outbox."""
        ...

    def skipped(self, skip: Skip) -> None:
        """A callback is not sent, and why."""
        ...

    def lost(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        """These were to be put, and the outbox failed."""
        ...

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        """One HTTP try ended."""
        ...

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        """The claim on this delivery was settled."""
        ...

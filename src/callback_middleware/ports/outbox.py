"""Where deliveries wait: what the two halves share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol
from uuid import UUID

from callback_middleware.backlog import Refusal
from callback_middleware.delivery import Claim, Delivery, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey


class Batch(NamedTuple):
    """What one request or job staged: stored whole or not at all.

    Attributes:
        deliveries: Stored as they are.
        subscribe: Each is new, or replaces the same owner's of the same key under a higher generation, which the outbox
            counts. One that is not in force any more, because it ended or expired, is nobody's.
        notify: Each becomes :meth:`~callback_middleware.delivery.Delivery.notified` of the subscription that is in
            force after ``subscribe`` and before ``end``. It keeps this destination, whatever becomes of the
            subscription later.
        end: Subscriptions that are over. One that is not there, or is another owner's, is no error.
    """

    deliveries: Sequence[Delivery] = ()
    subscribe: Sequence[Subscription] = ()
    notify: Sequence[Notification] = ()
    end: Sequence[SubscriptionKey] = ()


class PutReport(NamedTuple):
    """What a put changed.

    An id that was known before stands nowhere.

    Attributes:
        stored: Ids that are new in the outbox, of deliveries and of notifications.
        duplicates: Ids that were not stored because their dedupe key was used in the last 24 hours.
        unsubscribed: Ids of notifications that were not stored because their owner has not subscribed their key.
        refused: Ids that were not stored because too many are live, and which bound that is.
    """

    stored: Sequence[UUID] = ()
    duplicates: Sequence[UUID] = ()
    unsubscribed: Sequence[UUID] = ()
    refused: Mapping[UUID, Refusal] = MappingProxyType({})


class Outbox(Protocol):
    """Where deliveries wait. Every engine passes ``callback_middleware.testing.OutboxContract``."""

    durable: ClassVar[bool]
    """Whether what was put survives the process, and a power cut."""

    patience: ClassVar[float | None]
    """Seconds after which ``put`` has ended by itself, whatever happens; None where its caller must see to that."""

    @property
    def outage(self) -> OutboxUnavailable | None:
        """What it fails with while it is known to be down; None while it is not. A flag: no I/O, no waiting."""
        ...

    async def start(self) -> None:
        """Look whether it can be used, when an application or a worker starts, before anything is asked of it.

        It may be called again, on any event loop. An outbox that is merely out of reach is no reason not to start.

        Raises:
            ConfigurationError: What will not mend by itself: a schema that is older than this library, with the command
                that brings it up to date, or one that is newer.
        """
        ...

    async def put(self, batch: Batch) -> PutReport:
        """Store a batch whole. An id that is known changes nothing, whatever its state.

        Cancelling the caller does not undo it: once asked for, it is stored, or fails, by itself.

        What would exceed a bound of the outbox' :class:`~callback_middleware.backlog.BacklogLimits` is refused, and
        uses no dedupe key; the rest of its batch is stored. A dedupe key that was used makes a duplicate all the same.
        What is live, pending or sending, is looked at before a commit and not under a lock, and where there is plenty
        of room once a second: processes that put at the same moment may exceed a bound together.

        Raises:
            OutboxUnavailable: Certainly not stored.
            OutboxUncertain: Perhaps stored; put the same batch again.
            SubscriptionExists: A key of ``subscribe`` is another owner's. Nothing of the batch is stored, no dedupe key
                is used, nothing is replaced or ended. The message names callback and key, and no owner.
        """
        ...

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        """At most ``limit`` due deliveries, each under a new fence and leased to the caller.

        Of one origin at most ``per_origin`` less those in ``busy``; origins take turns, across calls too.
        A delivery whose lease ended is due again.

        An origin that has never accepted a delivery, which is one of whose deliveries none was settled ``Delivered``
        as far as is remembered, is a newcomer: of it at most one is out at a time, whoever claimed it, less those in
        ``busy``, whatever ``per_origin`` says; and the claim says so. In an outbox without bounds nobody is.
        """
        ...

    async def extend(self, claims: Sequence[Claim], lease: timedelta) -> frozenset[Fence]:
        """Lease these claims afresh, from now. Returns the fences that are still owned."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        """Record what became of claims. Each applies only while its fence holds; returns those that applied.

        The attempt of one that does not apply is kept as a late attempt. One that is dead because its receiver is gone
        ends the subscription that it was sent to, unless that was replaced meanwhile.
        """
        ...

    async def wait(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - ending early is its purpose, and no error
        """Return when something may be due, and after ``timeout`` at the latest. A hint: polling alone is correct."""
        ...

    async def aclose(self) -> None:
        """Give back what the outbox holds open. It may be used again afterwards."""
        ...

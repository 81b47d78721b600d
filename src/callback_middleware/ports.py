"""The seams: what the two halves ask of the world, as Protocols and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol
from uuid import UUID

from callback_middleware.backlog import Refusal
from callback_middleware.delivery import Claim, Delivery, Fence, Settlement, Verdict
from callback_middleware.destinations import Origin
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outcomes import Attempt, AttemptRequest, Outcome
from callback_middleware.planning import Skip
from callback_middleware.selection import Page, Selection
from callback_middleware.states import State
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey


class Clock(Protocol):
    """The one place that knows the time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never goes back: for durations only."""
        ...


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


class DeliveryLog(Protocol):
    """What operators and tests ask an outbox."""

    async def get(self, delivery: UUID) -> Delivery:
        """One delivery as it stands. Raises :class:`~callback_middleware.errors.DeliveryNotFound`."""
        ...

    async def attempts(self, delivery: UUID) -> Sequence[Attempt]:
        """Its attempts, those of every run and late ones included, by the time at which they started.

        Of an answer's body an outbox may keep the first kilobyte alone.

        Raises:
            DeliveryNotFound: No delivery has this id.
        """
        ...

    async def counts(self) -> Mapping[State, int]:
        """How many deliveries are in each state."""
        ...

    async def search(self, selection: Selection, *, limit: int = 100, after: UUID | None = None) -> Page:
        """The selected deliveries, newest first.

        Args:
            selection: Which ones.
            limit: At most this many, at least 1.
            after: ``more`` of the page before. What is put or forgotten meanwhile moves nothing to another page.
        """
        ...

    async def cancel(self, delivery: UUID) -> Delivery:
        """Never attempt it again, unless it is replayed. Returns it as it stands.

        Who holds a claim on it holds it no longer. An attempt that is under way may arrive, and is kept as a late
        attempt, whatever it came to.

        Raises:
            DeliveryNotFound: No delivery has this id.
            IllegalTransition: It is delivered, dead or cancelled already.
        """
        ...

    async def replay(self, delivery: UUID) -> Delivery:
        """Begin a new run of a delivery that is delivered, dead or cancelled. Returns it as it stands.

        The new run has the same id, destination and body, and a number that is one higher. It is due now, is charged no
        attempt and suspected of nothing, and expires when its retry policy says, counted from now. Fences go on rising:
        a claim of an earlier run changes nothing in this one. Its dedupe key is not asked, and no bound refuses it.

        Raises:
            DeliveryNotFound: No delivery has this id.
            IllegalTransition: It is still to be delivered.
        """
        ...

    async def replay_all(
        self, selection: Selection, *, dry_run: bool = False, spacing: timedelta = timedelta(milliseconds=100)
    ) -> int:
        """Replay the selected deliveries that are delivered, dead or cancelled. Returns how many.

        Args:
            selection: Which ones; those that are still to be delivered are left out.
            dry_run: Change nothing, and return how many it would be.
            spacing: Those of one origin come due so far apart, the first one now: a receiver that is back is not
                flooded. Each expires as much later as it is due later.
        """
        ...

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """Forget deliveries that ended before this time, attempts included, and subscriptions that were over by then.

        What was replayed is forgotten when its last run ended before. What is pending, sending or in force stays,
        whatever the time says. Dedupe keys stay used for their 24 hours. A forgotten id is an unknown id; the
        generation of a subscription is remembered as long as a delivery that was sent to it.

        An origin that accepted something last before this time, and has nothing that is live, is a newcomer again.

        Returns how many deliveries were forgotten: fewer than ``limit`` when there are no more.
        """
        ...

    async def subscriptions(
        self, *, callback: str | None = None, limit: int = 100, after: SubscriptionKey | None = None
    ) -> Sequence[Subscription]:
        """Those in force, in the order of callback and key, by code point.

        Args:
            callback: Of this callback alone.
            limit: At most this many, at least 1.
            after: The key of the last one of the page before, which may be over by now.
        """
        ...


class Sender(Protocol):
    """Makes one HTTP attempt. It never raises for what a receiver does: that is an ``Outcome``."""

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt, bounded as a whole by ``deadline``.

        ``egress`` is asked about the URL and about every address before a socket to it is opened.
        No redirect is followed, no cookie kept, no proxy taken from the environment, no content decoded.

        Raises:
            AddressBusy: Nothing was sent, because enough attempts are under way to the receiver's address, or as many
                as it wants were made. The delivery goes back with all its attempts, and is due again when the
                exception says.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections of the running event loop. It may be used again afterwards."""
        ...


class Signer(Protocol):
    """Signs the exact bytes of an attempt."""

    def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
        """The headers that sign this delivery's body at ``timestamp``.

        Args:
            delivery: Its ``webhook-id`` is its id as text.
            timestamp: Whole seconds, in UTC: what ``webhook-timestamp`` says.

        ``webhook-id`` and ``webhook-timestamp`` are sent in any case, and are not among what it returns.
        """
        ...


class Observer(Protocol):
    """Told what happens. It must not block; what it raises is logged and goes no further."""

    def put(self, batch: Batch) -> None:
        """This is in the outbox. What the outbox left out is not in it, and is told to :meth:`skipped`.

        Each of ``batch.notify`` is a delivery of that id by now; where it goes, the outbox knows.
        """
        ...

    def skipped(self, skip: Skip) -> None:
        """A callback is not sent (or not subscribed, notified, unsubscribed), and why."""
        ...

    def lost(self, batch: Batch, error: Exception) -> None:
        """This was to be put, and is not, as far as one can know.

        The outbox failed, or with :class:`~callback_middleware.errors.SubscriptionExists` refused a key.
        """
        ...

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        """One HTTP try ended."""
        ...

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        """The claim on this delivery was settled."""
        ...

"""What is asked of an outbox by those who operate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.outcomes import Attempt
from callback_middleware.selection import Page, Selection
from callback_middleware.states import State
from callback_middleware.subscription import Subscription, SubscriptionKey


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

"""Who is told what happens."""

from __future__ import annotations

from typing import Protocol

from callback_middleware.delivery import Delivery, Verdict
from callback_middleware.outcomes import Attempt
from callback_middleware.planning import Skip
from callback_middleware.ports.outbox import Batch


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

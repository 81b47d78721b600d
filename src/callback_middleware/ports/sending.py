"""One HTTP attempt, and its signature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from callback_middleware.delivery import Delivery
from callback_middleware.egress import EgressPolicy
from callback_middleware.outcomes import AttemptRequest, Outcome


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

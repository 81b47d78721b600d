"""One attempt: from a claim to a settlement. What a receiver, a sender or a signer does wrong ends here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from callback_middleware.delivery import Claim, Delivery, Released, Settlement
from callback_middleware.dispatcher.mismatches import Mismatches
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import AddressBusy, Attempt, AttemptRequest, Outcome, Phase, Unreachable
from callback_middleware.planning import depth as depths
from callback_middleware.ports import Clock, Sender, Signer
from callback_middleware.senders.interfaces import refusing_own_addresses
from callback_middleware.verdicts import EXPIRED, expired, verdict

logger = logging.getLogger("callback_middleware")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)

_ID: Final = "webhook-id"
_TIMESTAMP: Final = "webhook-timestamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempter:
    """Makes attempts: the seams that one needs, and nothing of its own.

    Attributes:
        sender: Puts the request on the wire.
        signer: Signs it; None sends it unsigned.
        egress: Asked by the sender about every address; completed with this machine's own.
        clock: Says when it started and how long it took.
        chance: From 0 to 1, anew at every call: spreads the waits between attempts.
        mismatches: Says how answers differ from what is declared of them.
    """

    sender: Sender
    signer: Signer | None
    egress: EgressPolicy
    clock: Clock
    chance: Callable[[], float]
    mismatches: Mismatches = field(default_factory=Mismatches)

    async def attempt(self, claim: Claim) -> Settlement:
        """Attempt a claimed delivery once, unless it has expired or its address is busy.

        A sender or signer that raises anything else fails the attempt.
        """
        delivery = claim.delivery
        started_at, started = self.clock.now(), self.clock.monotonic()
        if expired(delivery, started_at):
            return Settlement(claim.fence, EXPIRED)
        egress = await refusing_own_addresses(self.egress)
        try:
            outcome = await self._outcome(delivery, started_at, egress)
        except AddressBusy as busy:
            return Settlement(claim.fence, Released(busy.after))
        made = Attempt(
            delivery=delivery.id,
            run=delivery.run,
            number=claim.attempt,
            started_at=started_at,
            duration=timedelta(seconds=self.clock.monotonic() - started),
            outcome=outcome,
            mismatch=self.mismatches.find(delivery, outcome),
        )
        decided = verdict(delivery, outcome, egress=egress, now=self.clock.now(), chance=self.chance())
        return Settlement(claim.fence, decided, made)

    async def _outcome(self, delivery: Delivery, now: datetime, egress: EgressPolicy) -> Outcome:
        try:
            headers = headers_of(delivery, now, self.signer)
        except Exception as error:  # noqa: BLE001 - it is logged with its traceback, and is the attempt's outcome
            return _fault("signer", delivery, error)
        request = AttemptRequest(delivery.method, delivery.url, headers, delivery.body)
        try:
            return await self.sender.send(request, egress=egress, deadline=delivery.deadline)
        except AddressBusy:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            return _fault("sender", delivery, error)


def headers_of(delivery: Delivery, now: datetime, signer: Signer | None) -> Sequence[tuple[str, str]]:
    """The headers of an attempt at ``now``: the delivery's own, and those of the Standard Webhooks specification.

    ``webhook-id`` is the same at every attempt; ``webhook-timestamp`` is the attempt's. ``Callback-Depth`` is stored
    with a delivery that a callback's own request caused, and 1 for any other. ``Host`` and ``Content-Length`` are the
    sender's.
    """
    depth = () if any(name == depths.HEADER for name, _ in delivery.headers) else ((depths.HEADER, "1"),)
    # The signer is told the very second that stands in the header: the two cannot disagree, however it rounds.
    seconds = (now - _EPOCH) // _SECOND
    signature = () if signer is None else signer.sign(delivery, _EPOCH + seconds * _SECOND)
    for name, _ in signature:
        if name.lower() in (_ID, _TIMESTAMP):
            raise ConfigurationError(f"the signer returned {name}, which every attempt has already: leave it out")
    return (
        *delivery.headers,
        *depth,
        (_ID, str(delivery.id)),
        (_TIMESTAMP, str(seconds)),
        *signature,
    )


def _fault(part: str, delivery: Delivery, error: Exception) -> Unreachable:
    # Only the type goes on record: what the error says may hold a secret, or the body.
    logger.error("the %s raised for delivery %s; its attempt failed", part, delivery.id, exc_info=error)
    return Unreachable(Phase.SEND, f"the {part} raised {type(error).__name__}")

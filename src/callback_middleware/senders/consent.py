"""Asking a receiver before the first delivery whether it wants any: CloudEvents' abuse protection for web hooks.

HTTP 1.1 Web Hooks for Event Delivery 1.0, section 4: an ``OPTIONS`` request says who asks, and a receiver that expects
to be called says so. A URL that a stranger typed leads to a server that never heard of us, and so never consents.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from callback_middleware.clock import SystemClock
from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.outcomes import (
    Accepted,
    AddressBusy,
    Answer,
    AttemptRequest,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
)
from callback_middleware.ports import Clock, Sender

__all__ = ["ConsentingSender"]

logger = logging.getLogger("callback_middleware")

REQUEST_ORIGIN: Final = "webhook-request-origin"
ALLOWED_ORIGIN: Final = "webhook-allowed-origin"
ALLOWED_RATE: Final = "webhook-allowed-rate"

_GONE, _TOO_MANY, _ERRORS = 410, 429, 500
_MINUTE: Final = 60.0
_MOST_DIGITS: Final = 9


@dataclass(slots=True)
class _Answered:
    """What a receiver said when it was asked.

    Attributes:
        consents: Whether it wants to be called.
        until: When it is asked again.
        interval: Seconds between two deliveries that it wants; 0 for no limit.
        next_at: When the next one may be sent.
    """

    consents: bool
    until: float
    interval: float = 0.0
    next_at: float = 0.0


class ConsentingSender:
    """Sends by another sender, and asks each receiver first: a :class:`~callback_middleware.ports.Sender`.

    ``CallbackMiddleware(sender=ConsentingSender(HttpxSender(), origin="api.example"))``.

    Before the first delivery to an origin, ``OPTIONS`` of the delivery's own URL is sent with
    ``WebHook-Request-Origin``. An answer 2xx with ``WebHook-Allowed-Origin`` of the same name, or ``*``, consents; its
    ``WebHook-Allowed-Rate``, in requests a minute, is kept to. Any other answer refuses: the attempt is
    :class:`~callback_middleware.outcomes.Blocked` and retried on the delivery's schedule. No answer, 410, 429 and 5xx
    are the attempt's own outcome. Answers are kept in this process; each worker asks for itself. Consent by a later
    request of the receiver's (``WebHook-Request-Callback``) is not asked for.

    Args:
        sender: Makes all requests.
        origin: Who asks: the DNS name of this API, as its receivers know it.
        keep: How long consent counts.
        keep_refusal: How long a refusal does.
        remembered: Origins whose answers are kept; of more, those that were asked longest ago are asked again.
        clock: Says what time it is; default the system's.

    Raises:
        ConfigurationError: ``origin`` is no DNS name, or a limit makes no sense.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        origin: str,
        keep: timedelta = timedelta(days=1),
        keep_refusal: timedelta = timedelta(hours=1),
        remembered: int = 16_384,
        clock: Clock | None = None,
    ) -> None:
        if min(keep, keep_refusal) <= timedelta():
            raise ConfigurationError("ConsentingSender: keep and keep_refusal must be positive")
        if remembered < 1:
            raise ConfigurationError(f"ConsentingSender(remembered={remembered!r}) must be at least 1")
        self._sender = sender
        self._origin = _checked(origin)
        self._keep = keep
        self._keep_refusal = keep_refusal
        self._remembered = remembered
        self._clock = clock or SystemClock()
        self._answers: OrderedDict[str, _Answered] = OrderedDict()

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt, and before it a question, both within ``deadline``.

        Raises:
            AddressBusy: The rate that the receiver wants is used up for now; or the sender's own.
        """
        try:
            origin = HttpUrl.of(request.url).authority.origin
        except EgressRefused as refused:
            return Blocked(refused.rule, refused.how_to_allow)
        started = self._clock.monotonic()
        answered = self._answers.get(origin)
        if answered is None or answered.until <= started:
            asked = await self._ask(origin, request, egress, deadline)
            if not isinstance(asked, _Answered):
                return asked
            answered = asked
        if not answered.consents:
            return Blocked(
                "its receiver does not consent to be called",
                f"the receiver must answer OPTIONS with WebHook-Allowed-Origin: {self._origin}",
            )
        now = self._clock.monotonic()
        if answered.next_at > now:
            raise AddressBusy(timedelta(seconds=answered.next_at - now))
        left = deadline - timedelta(seconds=now - started)
        if left <= timedelta():
            return TimedOut(Phase.HEADERS)
        answered.next_at = now + answered.interval
        return await self._sender.send(request, egress=egress, deadline=left)

    async def aclose(self) -> None:
        """Close the other sender's connections."""
        await self._sender.aclose()

    async def _ask(
        self, origin: str, request: AttemptRequest, egress: EgressPolicy, deadline: timedelta
    ) -> _Answered | Outcome:
        question = AttemptRequest("OPTIONS", request.url, [(REQUEST_ORIGIN, self._origin)], None)
        outcome = await self._sender.send(question, egress=egress, deadline=deadline)
        if not isinstance(outcome, Accepted | Rejected):
            return outcome
        answer = outcome.answer
        if answer.status in (_GONE, _TOO_MANY) or answer.status >= _ERRORS:
            # It says nothing of what it wants, or wants to hear nothing at all.
            return outcome
        consents = isinstance(outcome, Accepted) and self._allows(answer)
        if not consents:
            logger.warning("%s does not consent to be called by %s: it is asked again later", origin, self._origin)
        keep = self._keep if consents else self._keep_refusal
        answered = _Answered(
            consents, self._clock.monotonic() + keep.total_seconds(), _interval(answer) if consents else 0.0
        )
        self._answers[origin] = answered
        self._answers.move_to_end(origin)
        if len(self._answers) > self._remembered:
            self._answers.popitem(last=False)
        return answered

    def _allows(self, answer: Answer) -> bool:
        allowed = (answer.header(ALLOWED_ORIGIN) or "").strip().lower()
        return allowed in ("*", self._origin)


def _interval(answer: Answer) -> float:
    """Seconds between two deliveries; 0 where the answer names no rate that could be kept to."""
    text = (answer.header(ALLOWED_RATE) or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or not int(text):
        return 0.0
    return _MINUTE / int(text)


def _checked(origin: str) -> str:
    try:
        authority = HttpUrl.of(f"https://{origin}").authority
    except EgressRefused as refused:
        raise ConfigurationError(f"ConsentingSender(origin={origin!r}) is no DNS name: {refused.rule}") from None
    if authority.address is not None or authority.host != origin.lower():
        raise ConfigurationError(f"ConsentingSender(origin={origin!r}) must be a DNS name alone, as api.example")
    return authority.host

"""The log: what an operator reads at three in the morning.

No body, header, path or query of a destination is in it at any level; what a receiver or a stranger chose is escaped
and cut. Every line names the delivery, so that the rest can be looked up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Verdict
from callback_middleware.outcomes import Attempt
from callback_middleware.planning import Skip
from callback_middleware.ports import Clock
from callback_middleware.values import Reason, excerpt
from callback_middleware.verdicts import describe

_SKIP_LEVELS: Final = {
    # Handlers decide whether to send, and responses whether there is something to tell: neither is a fault.
    Reason.NOT_REQUESTED: logging.DEBUG,
    Reason.STATUS: logging.INFO,
    # A client that repeats its request is what a dedupe key is for.
    Reason.DUPLICATE: logging.INFO,
}


class LoggingObserver:
    """Tells the logger ``callback_middleware``; an :class:`~callback_middleware.ports.Observer`.

    At ``DEBUG`` every put and attempt; at ``INFO`` what was delivered, and a first attempt that failed; at ``WARNING``
    later attempts that failed, and callbacks that could not be planned; at ``ERROR`` what will never be delivered.

    Args:
        logger: Instead of ``callback_middleware``.
        clock: Says when the next attempt is; default the system's.
    """

    def __init__(self, *, logger: logging.Logger | None = None, clock: Clock | None = None) -> None:
        self._logger = logger or logging.getLogger("callback_middleware")
        self._clock: Clock = clock or SystemClock()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        for delivery in deliveries:
            self._logger.debug("%s is stored, and due %s", _name(delivery), _time(delivery.due_at))

    def skipped(self, skip: Skip) -> None:
        self._logger.log(
            _SKIP_LEVELS.get(skip.reason, logging.WARNING),
            "callback %s of %s is not sent: %s%s%s",
            _plain(skip.callback),
            _plain(skip.operation),
            skip.reason,
            f" ({_plain(skip.detail)})" if skip.detail else "",
            f" [{skip.id}]" if skip.id is not None else "",
        )

    def lost(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        # Each on a line of its own: this is all that is left of them, and long lines are cut on their way.
        self._logger.error(
            "CALLBACKS LOST, as far as the outbox says: it did not store %d (%s: %s)",
            len(deliveries),
            type(error).__name__,
            _plain(str(error)),
        )
        for delivery in deliveries:
            self._logger.error("lost: %s, from %s", _name(delivery), _plain(delivery.operation))

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        self._logger.debug(
            "attempt %d of %s took %.3f s: %s",
            attempt.number,
            _name(delivery),
            attempt.duration.total_seconds(),
            _plain(describe(attempt.outcome)),
        )

    def settled(self, delivery: Delivery, verdict: Verdict) -> None:
        """Tell what a claim came to; ``delivery`` is as it was claimed."""
        number = delivery.attempts + 1
        match verdict:
            case Delivered():
                self._logger.info("%s is delivered, at attempt %d", _name(delivery), number)
            case Retry(after, reason):
                self._logger.log(
                    logging.INFO if number == 1 else logging.WARNING,
                    "attempt %d of %d of %s failed: %s; the next is at %s, in %s",
                    *(number, delivery.retry.attempts, _name(delivery), _plain(reason)),
                    *(_time(self._clock.now() + after), _rounded(after)),
                )
            case Dead(reason):
                self._logger.error("%s is dead and will not be sent: %s", _name(delivery), _plain(reason))
            case Released(after):
                self._logger.debug("%s is handed back unattempted, due in %s", _name(delivery), _rounded(after))
            case _:
                assert_never(verdict)


def _name(delivery: Delivery) -> str:
    return f"delivery {delivery.id} ({_plain(delivery.callback)} to {_plain(delivery.origin)})"


def _plain(text: str) -> str:
    """Escaped and cut, without the quotes: it stands in a sentence."""
    quoted = excerpt(text)
    return quoted[1:].removesuffix(quoted[0])


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))

"""The log: what an operator reads at three in the morning.

No body, header, path or query of a destination is in it at any level; what a receiver or a stranger chose is escaped
and cut. Every line names the delivery, so that the rest can be looked up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Verdict
from callback_middleware.errors import PlanningError
from callback_middleware.outcomes import Attempt
from callback_middleware.planning import Skip, Verb
from callback_middleware.ports import Batch, Clock
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey
from callback_middleware.values import Reason, excerpt
from callback_middleware.verdicts import describe

_DONE: Final = {
    Verb.SEND: "sent",
    Verb.SUBSCRIBE: "subscribed",
    Verb.NOTIFY: "notified",
    Verb.UNSUBSCRIBE: "unsubscribed",
}

_SKIP_LEVELS: Final = {
    # Handlers decide whether to send, and responses whether there is something to tell: neither is a fault.
    Reason.NOT_REQUESTED: logging.DEBUG,
    Reason.STATUS: logging.INFO,
    # A client that repeats its request is what a dedupe key is for.
    Reason.DUPLICATE: logging.INFO,
    # Handlers notify whatever became of something, and not every client asked to hear of it.
    Reason.NOBODY_SUBSCRIBED: logging.INFO,
}


class LoggingObserver:
    """Tells the logger ``callback_middleware``; an :class:`~callback_middleware.ports.Observer`.

    At ``DEBUG`` every put and attempt; at ``INFO`` what was delivered, an answer that is not the declared one, and a
    first attempt that failed; at ``WARNING`` later attempts that failed, and callbacks that could not be planned, or
    were not stored because of another's key or a full backlog; at ``ERROR`` what will never be delivered.

    Args:
        logger: Instead of ``callback_middleware``.
        clock: Says when the next attempt is; default the system's.
    """

    def __init__(self, *, logger: logging.Logger | None = None, clock: Clock | None = None) -> None:
        self._logger = logger or logging.getLogger("callback_middleware")
        self._clock: Clock = clock or SystemClock()

    def put(self, batch: Batch) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        for delivery in batch.deliveries:
            self._logger.debug("%s is stored, and due %s", _name(delivery), _time(delivery.due_at))
        for subscription in batch.subscribe:
            until = "it is ended" if subscription.expires_at is None else _time(subscription.expires_at)
            self._logger.debug("%s is stored, until %s", _subscription(subscription), until)
        for notification in batch.notify:
            self._logger.debug("%s is stored, and due %s", _notification(notification), _time(notification.due_at))
        for key in batch.end:
            self._logger.debug("%s is over", _key(key))

    def skipped(self, skip: Skip) -> None:
        self._logger.log(
            _SKIP_LEVELS.get(skip.reason, logging.WARNING),
            "callback %s of %s is not %s: %s%s%s",
            *(_plain(skip.callback), _plain(skip.operation), _DONE[skip.verb], skip.reason),
            f" ({_plain(skip.detail)})" if skip.detail else "",
            f" [{skip.id}]" if skip.id is not None else "",
        )

    def lost(self, batch: Batch, error: Exception) -> None:
        """Tell what was not stored, each on a line of its own: it is all that is left of it, and long lines are cut."""
        items = list(_items(batch))
        if isinstance(error, PlanningError):
            # A client chose another's key, and was told so. Nobody has to get up for that.
            level, word = logging.WARNING, "not stored"
            self._logger.warning("what a request staged is not stored (%d): %s", len(items), _plain(str(error)))
        else:
            level, word = logging.ERROR, "lost"
            self._logger.error(
                "CALLBACKS LOST, as far as the outbox says: it did not store %d (%s: %s)",
                *(len(items), type(error).__name__, _plain(str(error))),
            )
        for item in items:
            self._logger.log(level, "%s: %s", word, item)

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        if attempt.mismatch:
            self._logger.info(
                "attempt %d of %s is accepted, though not as its callback declares: %s",
                *(attempt.number, _name(delivery), _plain(attempt.mismatch)),
            )
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


def _subscription(subscription: Subscription) -> str:
    return f"{_key(subscription.key)} to {_plain(subscription.origin)}"


def _notification(notification: Notification) -> str:
    return f"delivery {notification.id} (to the {_key(notification.key)})"


def _key(key: SubscriptionKey) -> str:
    # Its owner stays out: who has subscribed what is nobody's business who reads a log.
    return f"subscription of the key {excerpt(key.key)} of callback {_plain(key.callback)}"


def _items(batch: Batch) -> Iterator[str]:
    for delivery in batch.deliveries:
        yield f"{_name(delivery)}, from {_plain(delivery.operation)}"
    for subscription in batch.subscribe:
        yield f"{_subscription(subscription)}, from {_plain(subscription.operation)}"
    for notification in batch.notify:
        yield _notification(notification)
    for key in batch.end:
        yield f"end of the {_key(key)}"


def _plain(text: str) -> str:
    """Escaped and cut, without the quotes: it stands in a sentence."""
    quoted = excerpt(text)
    return quoted[1:].removesuffix(quoted[0])


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))

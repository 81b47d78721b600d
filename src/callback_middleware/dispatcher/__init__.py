"""The second half: claim → send → settle, until it is told to stop."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE
from callback_middleware.dispatcher.attempts import Attempter
from callback_middleware.dispatcher.conditions import AskedOutbox, Condition
from callback_middleware.dispatcher.mismatches import AnswerChecks, Mismatches
from callback_middleware.dispatcher.receivers import Receivers
from callback_middleware.dispatcher.rounds import Limits, Round
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.ports import Clock, Observer, Outbox, Sender, Signer

logger = logging.getLogger("callback_middleware")

GRACE: Final = min(DEADLINE, timedelta(seconds=20))
"""How long attempts in flight may go on once a dispatcher is stopping, unless it is told otherwise."""


class Dispatcher:
    """Delivers what is due in an outbox. Several, in one process or in many, may share an outbox.

    Nothing that a receiver, the sender, the signer or the observer does stops it; while the outbox fails it waits and
    tries again. It belongs to one event loop at a time.

    Args:
        outbox: Where deliveries wait.
        sender: Makes the HTTP attempts. It stays its owner's to close.
        signer: Signs them; without one they go unsigned, and the log says so once.
        egress: Where they may go; default ``https`` to global addresses.
        clock: Says what time it is; default the system's.
        observer: Told of attempts and settlements.
        concurrency: Attempts in flight at once.
        receivers: How much one receiver may cost: attempts at once, failures in a row, a rate.
        grace: How long attempts in flight may go on once it is stopping; the rest is handed back.
        answers: Knows what callbacks declare of their receivers' answers: what differs is noted on the attempt.
        chance: From 0 to 1, anew at every call: spreads the waits between attempts.

    Raises:
        ConfigurationError: A limit that makes no sense.
    """

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        *,
        signer: Signer | None = None,
        egress: EgressPolicy | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        concurrency: int = 64,
        receivers: ReceiverLimits | None = None,
        grace: timedelta = GRACE,
        answers: AnswerChecks | None = None,
        chance: Callable[[], float] = random.random,  # noqa: TID251 - the edge where chance comes in
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency!r} must be at least 1")
        if grace < timedelta():
            raise ConfigurationError(f"grace={grace!r} must not be negative")
        self._limits = Limits(concurrency=concurrency, grace=grace)
        self._receivers = Receivers(receivers or ReceiverLimits())
        clock = clock or SystemClock()
        self._outbox = AskedOutbox(outbox, clock)
        self._attempter = Attempter(
            sender=sender,
            signer=signer,
            egress=egress or EgressPolicy(),
            clock=clock,
            chance=chance,
            mismatches=Mismatches(answers),
        )
        self._observer = Observers() if observer is None else Observers(observer)
        self._signed = signer is not None
        self._running = False
        self._rounds: set[Round] = set()

    @property
    def condition(self) -> Condition:
        """Whether it is of use, and how much it has in flight. No I/O; on the event loop that it runs on."""
        return self._outbox.condition(sum(one.in_flight for one in self._rounds))

    async def run(self) -> None:
        """Deliver what is due, and wait for more, until :meth:`stop` or cancellation.

        When it returns everything that it claimed is settled or handed back; after a cancellation as far as that
        is possible within seconds. What is not, is due again when its lease ends.

        Raises:
            RuntimeError: It runs already.
        """
        if self._running:
            raise RuntimeError("this dispatcher runs already: one run at a time")
        self._running = True
        try:
            with self._new_round() as new:
                await new.run()
        finally:
            self._running = False

    def stop(self) -> None:
        """Claim no more: :meth:`run` and :meth:`deliver_due` return when what is in flight has ended.

        After ``grace`` at the latest. On the event loop that they are running on.
        """
        if self._rounds:
            self._outbox.leave()
        for one in self._rounds:
            one.stop()

    async def drain(self) -> None:
        """:meth:`stop`, and wait until everything is over; at once if nothing runs. On the same event loop."""
        rounds = tuple(self._rounds)
        self.stop()
        for one in rounds:
            await one.over.wait()

    async def deliver_due(self) -> int:
        """Attempt everything that is due now or comes due meanwhile, and return how many attempts were made.

        It waits for attempts, never for time to pass. It may be called beside :meth:`run`, with limits of its own.

        Raises:
            OutboxError: The outbox failed; what is claimed is due again when its lease ends.
        """
        with self._new_round() as new:
            return await new.run_once()

    @contextmanager
    def _new_round(self) -> Iterator[Round]:
        if not self._signed:
            self._signed = True
            logger.warning("callbacks are sent unsigned: a receiver cannot tell them from anybody's (signer=None)")
        if not self._rounds:
            self._outbox.begin()
        new = Round(self._outbox, self._attempter, self._observer, self._limits, self._receivers)
        self._rounds.add(new)
        try:
            yield new
        finally:
            self._rounds.discard(new)

"""One run of a dispatcher: the loop, and all that it changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import anyio

from callback_middleware.delivery import DEADLINE, Claim, Fence, Released, Settlement
from callback_middleware.dispatcher.attempts import Attempter
from callback_middleware.dispatcher.conditions import AskedOutbox
from callback_middleware.dispatcher.patience import Patience
from callback_middleware.dispatcher.receivers import Receivers
from callback_middleware.dispatcher.tasks import Tasks
from callback_middleware.eventloop import cancellation_requested
from callback_middleware.outcomes import Outcome
from callback_middleware.ports import Observer
from callback_middleware.verdicts import asked_wait

logger = logging.getLogger("callback_middleware")

POLL: Final = timedelta(seconds=30)
"""How long an outbox is trusted to tell what is due; then it is asked."""

MARGIN: Final = timedelta(seconds=15)
"""What a lease has beyond the attempt's deadline: time to settle."""

_HAND_BACK_SECONDS: Final = 5.0

_OPENINGS: Final = 0.02
"""Seconds between two claims that are made because a receiver's pause is over: many end together."""

_UNSETTLED: Final = "attempting delivery %s failed in the dispatcher itself; it is due again when its lease ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a dispatcher does at once, and for how long.

    Attributes:
        concurrency: Attempts in flight at once.
        grace: How long attempts in flight may go on once it is stopping.
        lease: How long a claim is leased, if its attempt may not take longer.
    """

    concurrency: int
    grace: timedelta
    lease: timedelta = DEADLINE + MARGIN


class Round:
    """One run of a dispatcher, and all that it changes.

    One task pumps: it alone settles and claims, so what ended together is settled together, and the outbox is never
    asked twice at once. One listens to the outbox. Each attempt is a task, and only tells the pump that it ended.
    """

    def __init__(
        self, outbox: AskedOutbox, attempter: Attempter, observer: Observer, limits: Limits, receivers: Receivers
    ) -> None:
        self._outbox = outbox
        self._attempter = attempter
        self._observer = observer
        self._limits = limits
        self._receivers = receivers
        self._flights: dict[Fence, Claim] = {}
        self._tasks = Tasks(self._fail)
        self._fatal: BaseException | None = None
        self._ended: list[tuple[Claim, Settlement | None]] = []
        self._made = 0
        # It waits for time to pass.
        self._listening = False
        self._news = anyio.Event()
        self._stopping = anyio.Event()
        # Something may be due that was not claimed: nobody asked yet, the outbox says so, or a slot was missing.
        self._hungry = True
        self._asked = anyio.Event()
        self._pump_patience = Patience()
        self._listener_patience = Patience()
        self.over = anyio.Event()

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Pump until :meth:`stop`, and then for as long as something is in flight and ``grace`` lasts."""
        try:
            self._listening = True
            self._tasks.begin(self._listen)
            self._news.set()
            while not self._stopping.is_set():
                await self._turn()
            await self._finish()
        finally:
            await self._tasks.end(_HAND_BACK_SECONDS)
            await self._hand_back()
            self.over.set()

    async def run_once(self) -> int:
        """Pump until nothing is due and nothing in flight, or :meth:`stop`. Returns the number of attempts."""
        try:
            await self._claim()
            while self._flights and not self._stopping.is_set():
                await self._next_news()
                await self._settle()
                if not self._stopping.is_set():
                    await self._claim()
            await self._finish()
        finally:
            await self._tasks.end(_HAND_BACK_SECONDS)
            await self._hand_back()
            self.over.set()
        return self._made

    async def _finish(self) -> None:
        """Let what is in flight end, for as long as ``grace`` lasts."""
        with anyio.move_on_after(self._limits.grace.total_seconds()):
            while self._flights:
                await self._turn()

    async def _listen(self) -> None:
        while True:
            try:
                await self._outbox.wait(POLL)
            except Exception as error:  # noqa: BLE001 - whatever an outbox raises, deliveries must go on
                await anyio.sleep(self._listener_patience.failed(error))
            else:
                self._listener_patience.worked()
            self._asked = anyio.Event()
            self._hungry = True
            self._news.set()
            # Nobody asks while no slot is free; an outbox that has something due may return from `wait` at once.
            await self._asked.wait()

    async def _turn(self) -> None:
        await self._next_news()
        try:
            await self._settle()
            if self._hungry and not self._stopping.is_set():
                await self._claim()
        except Exception as error:  # noqa: BLE001 - whatever an outbox raises, deliveries must go on
            pause = self._pump_patience.failed(error)
            # Stopping cuts the pause short, once.
            with anyio.move_on_after(pause):
                await (anyio.sleep_forever() if self._stopping.is_set() else self._stopping.wait())
            self._hungry = True
            self._news.set()
        else:
            self._pump_patience.worked()

    async def _next_news(self) -> None:
        opening = self._receivers.next_opening(self._now()) if self._listening else None
        if opening is None:
            await self._news.wait()
        else:
            # Nobody tells when a receiver's pause is over.
            with anyio.move_on_after(max(opening, _OPENINGS)) as scope:
                await self._news.wait()
            self._hungry |= scope.cancelled_caught
        self._news = anyio.Event()
        if self._fatal is not None:
            raise self._fatal

    async def _claim(self) -> None:
        """Claim and start until nothing more is due, or no slot is free."""
        limits, receivers = self._limits, self._receivers
        while (free := limits.concurrency - len(self._flights)) > 0:
            asked_at = self._now()
            # Before the outbox answers: what becomes due meanwhile may not be in its answer.
            self._hungry = False
            claims = await self._outbox.claim(
                free, limits.lease, per_origin=receivers.limits.at_once, busy=receivers.busy(asked_at)
            )
            self._asked.set()
            if not claims:
                break
            self._flights.update((claim.fence, claim) for claim in claims)
            for claim in await self._secure(self._admit(claims), asked_at):
                self._tasks.begin(partial(self._attempt, claim))
        self._hungry |= free <= 0 or receivers.crowded()

    def _admit(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Those whose receivers have room. Of one that was not in the way of the claim there may be too many."""
        now, admitted = self._now(), []
        for claim in claims:
            if self._receivers.begin(claim.delivery.origin, now, newcomer=claim.newcomer):
                admitted.append(claim)
            else:
                self._ended.append((claim, Settlement(claim.fence, Released())))
                self._news.set()
        return admitted

    async def _secure(self, claims: Sequence[Claim], asked_at: float) -> Sequence[Claim]:
        """Extend the leases that an attempt may outlive. The claims that may be attempted.

        A lease is trusted by our own monotonic clock alone, from before it was asked for.
        """
        left = self._limits.lease - timedelta(seconds=self._now() - asked_at)
        short = [claim for claim in claims if claim.delivery.deadline + MARGIN / 2 > left]
        if not short:
            return claims
        lost = {claim.fence for claim in short}
        try:
            lost -= await self._outbox.extend(short, max(claim.delivery.deadline for claim in short) + MARGIN)
        except BaseException:
            self._ended.extend((claim, Settlement(claim.fence, Released())) for claim in claims)
            raise
        self._ended.extend((claim, None) for claim in short if claim.fence in lost)
        self._news.set()
        return [claim for claim in claims if claim.fence not in lost]

    def _fail(self, error: BaseException) -> None:
        """What ends a program ends this round first, which raises it."""
        self._fatal = error
        self._news.set()

    def _now(self) -> float:
        return self._attempter.clock.monotonic()

    async def _attempt(self, claim: Claim) -> None:
        settlement, started = None, self._now()
        try:
            settlement = await self._attempter.attempt(claim)
        except anyio.get_cancelled_exc_class():
            if cancellation_requested():
                raise
            # Nobody cancelled: a sender let the cancellation of something of its own escape.
            logger.exception(_UNSETTLED, claim.delivery.id)
        except Exception:
            logger.exception(_UNSETTLED, claim.delivery.id)
        if settlement is not None and settlement.attempt is not None:
            self._made += 1
            self._learn(claim, settlement.attempt.outcome, started)
            self._observer.attempted(claim.delivery, settlement.attempt)
        self._ended.append((claim, settlement))
        self._news.set()

    def _learn(self, claim: Claim, outcome: Outcome, started: float) -> None:
        """What an attempt says of its receiver."""
        attempter = self._attempter
        asked = asked_wait(outcome, now=attempter.clock.now())
        self._receivers.end(claim.delivery.origin, outcome, started, self._now(), attempter.chance(), asked)

    async def _settle(self) -> None:
        """Settle what ended, in one call. If that fails it is settled next time."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        try:
            await self._settle_these(ended)
        except BaseException:
            self._ended[:0] = ended
            raise
        now = self._now()
        for claim, _ in ended:
            del self._flights[claim.fence]
            self._receivers.leave(claim.delivery.origin, now)

    async def _settle_these(self, ended: Sequence[tuple[Claim, Settlement | None]]) -> None:
        settlements = [settlement for _, settlement in ended if settlement is not None]
        if not settlements:
            return
        applied = await self._outbox.settle(settlements)
        for claim, settlement in ended:
            if settlement is not None and claim.fence in applied:
                self._observer.settled(claim.delivery, settlement.verdict)

    async def _hand_back(self) -> None:
        """Settle what ended and release the rest, due now: a last try, which cancellation does not cut short."""
        settlements = {claim.fence: settlement for claim, settlement in self._ended}
        ended = [
            (claim, settlements.get(fence) or Settlement(fence, Released())) for fence, claim in self._flights.items()
        ]
        if not ended:
            return
        with anyio.move_on_after(_HAND_BACK_SECONDS, shield=True) as scope:
            try:
                await self._settle_these(ended)
            except Exception:
                logger.exception("%d claims could not be handed back: due again when their leases end", len(ended))
        if scope.cancelled_caught:
            logger.error("%d claims could not be handed back in time: due again when their leases end", len(ended))
        now = self._now()
        for claim, _ in ended:
            self._receivers.leave(claim.delivery.origin, now)

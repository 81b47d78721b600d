"""What the tests of an outbox start from."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import anyio
import pytest

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import DEADLINE, Claim, Dead, Delivered, Delivery, Fence, Settlement, Verdict
from callback_middleware.destinations import Origin
from callback_middleware.identifiers import uuid7
from callback_middleware.outcomes import Accepted, Answer, Attempt, Rejected
from callback_middleware.ports import Batch, DeliveryLog, Outbox, PutReport
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey
from callback_middleware.testing.clock import VirtualClock

LEASE: Final = timedelta(seconds=30)
"""What the tests claim for."""

MOMENT: Final = timedelta(milliseconds=1)

HERE: Final = "https://here.example:443"
THERE: Final = "https://there.example:443"
ELSEWHERE: Final = "https://elsewhere.example:443"

KEY: Final = SubscriptionKey("invoice_notification", "invoice 7", "alice")
"""What the tests subscribe."""

DELIVERED: Final = Delivered()


def bounded(**limits: int | None) -> pytest.MarkDecorator:
    """Have the outbox of a test made with these bounds."""
    return pytest.mark.parametrize("backlog", [BacklogLimits(**limits)], ids=["bounded"])


class Engine(Outbox, DeliveryLog, Protocol):
    """Both ports of one engine."""


class OutboxSetting:
    """Fixtures, and short words for what the tests do. An engine overrides ``outbox``, and ``let_pass`` if it must."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    def backlog(self) -> BacklogLimits | None:
        """What the outbox is bounded by: nothing, where bounds are not what a test is about."""
        return None

    @pytest.fixture
    def outbox(self, clock: VirtualClock, backlog: BacklogLimits | None) -> Engine:
        """An empty outbox that reads ``clock`` and is bounded by ``backlog``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'outbox' that gives an empty outbox")

    async def let_pass(self, outbox: Engine, clock: VirtualClock, time: timedelta) -> None:  # noqa: ARG002 - for those who override it
        """Let time pass: it does nowhere else. An engine with a clock of its own overrides this."""
        clock.advance(time)

    _numbers = itertools.count(1)

    def delivery(self, clock: VirtualClock, *, due_in: timedelta = timedelta(), **attributes: Any) -> Delivery:
        """A delivery to ``HERE``, due now, with the attributes that a test is about."""
        now = clock.now()
        plain = Delivery(
            id=uuid7(now, next(self._numbers).to_bytes(10, "big")),
            operation="POST /invoices/",
            callback="invoice_notification",
            method="POST",
            url="https://here.example/events?for=1",
            origin=HERE,
            headers=(("content-type", "application/json"),),
            body=b'{"paid":true}',
            created_at=now,
            due_at=now + due_in,
            retry=RetryPolicy.fixed(60, 600),
            deadline=DEADLINE,
            tags={"tenant": "7"},
        )
        return replace(plain, **attributes)

    def subscription(
        self, clock: VirtualClock, key: SubscriptionKey = KEY, *, expires_in: timedelta | None = None, **attributes: Any
    ) -> Subscription:
        """A subscription of ``KEY`` to ``HERE`` that does not expire, with the attributes that a test is about."""
        now = clock.now()
        plain = Subscription(
            key=key,
            operation="POST /invoices/",
            method="POST",
            url="https://here.example/events?for=7",
            origin=HERE,
            headers=(("x-invoice", "7"),),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            retry=RetryPolicy.fixed(60, 600, max_age=timedelta(days=1)),
            deadline=DEADLINE,
            tags={"tenant": "7"},
        )
        return replace(plain, **attributes)

    def notification(
        self, clock: VirtualClock, key: SubscriptionKey = KEY, *, due_in: timedelta = timedelta(), **attributes: Any
    ) -> Notification:
        """A notification for ``KEY``, due now, with the attributes that a test is about."""
        now = clock.now()
        plain = Notification(
            id=uuid7(now, next(self._numbers).to_bytes(10, "big")),
            key=key,
            body=b'{"paid":true}',
            headers=(("content-type", "application/json"),),
            created_at=now,
            due_at=now + due_in,
            tags={"invoice": "7"},
        )
        return replace(plain, **attributes)

    async def put(self, outbox: Engine, *deliveries: Delivery) -> None:
        await outbox.put(Batch(deliveries))

    async def subscribe(self, outbox: Engine, *subscriptions: Subscription) -> None:
        await outbox.put(Batch(subscribe=subscriptions))

    async def notify(self, outbox: Engine, *notifications: Notification) -> PutReport:
        return await outbox.put(Batch(notify=notifications))

    async def unsubscribe(self, outbox: Engine, *keys: SubscriptionKey) -> None:
        await outbox.put(Batch(end=keys))

    async def claim(
        self,
        outbox: Engine,
        limit: int = 100,
        *,
        lease: timedelta = LEASE,
        per_origin: int = 100,
        busy: Mapping[Origin, int] | None = None,
    ) -> Sequence[Claim]:
        return await outbox.claim(limit, lease, per_origin=per_origin, busy=busy or {})

    async def claim_one(self, outbox: Engine) -> Claim:
        """Claim, where exactly one delivery is due."""
        (claim,) = await self.claim(outbox)
        return claim

    async def settle(
        self, outbox: Engine, claim: Claim, verdict: Verdict, attempt: Attempt | None = None
    ) -> frozenset[Fence]:
        return await outbox.settle([Settlement(claim.fence, verdict, attempt)])

    async def deliver(self, outbox: Engine, claim: Claim, at: datetime) -> None:
        await self.settle(outbox, claim, DELIVERED, self.attempt(claim, at))

    async def settle_all(self, outbox: Engine, clock: VirtualClock, verdict: Verdict = DELIVERED) -> None:
        """Claim everything that is due, and settle it after one attempt each."""
        claims = await self.claim(outbox, 1000, per_origin=1000)
        await outbox.settle([Settlement(claim.fence, verdict, self.attempt(claim, clock.now())) for claim in claims])

    async def put_and_end(
        self, outbox: Engine, clock: VirtualClock, *deliveries: Delivery, verdict: Verdict = DELIVERED
    ) -> None:
        """Put these, where nothing else is due, and settle them after one attempt each."""
        await self.put(outbox, *deliveries)
        await self.settle_all(outbox, clock, verdict)

    async def in_state(self, outbox: Engine, clock: VirtualClock, state: State, **attributes: Any) -> Delivery:
        """One delivery, put where nothing is due, as it stands when it has come to this state."""
        delivery = self.delivery(clock, **attributes)
        await self.put(outbox, delivery)
        if state is State.CANCELLED:
            return await outbox.cancel(delivery.id)
        if state is not State.PENDING:
            claim = await self.claim_one(outbox)
            if state is not State.SENDING:
                verdict = DELIVERED if state is State.DELIVERED else Dead("told so")
                await self.settle(outbox, claim, verdict, self.attempt(claim, clock.now(), 410))
        return await outbox.get(delivery.id)

    async def claim_meanwhile(self, outbox: Engine, act: Callable[[], Awaitable[object]]) -> Claim:
        """Wait for something to claim while ``act`` makes one delivery due. A wait that sleeps through it fails."""
        claims: list[Claim] = []

        async def work() -> None:
            while not claims:
                claims.extend(await self.claim(outbox))
                if not claims:
                    await outbox.wait(timedelta(hours=1))

        # For whoever waits for the first time, or was told of something before: those waits may end at once.
        for _ in range(2):
            await outbox.wait(MOMENT)
        # Less than LEASE: what is leased would end the wait too.
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                await act()
        (claim,) = claims
        return claim

    def attempt(self, claim: Claim, at: datetime, status: int = 200) -> Attempt:
        """An attempt for a claim, as a worker reports it."""
        answer = Answer(status, (("content-type", "text/plain"),), b"said")
        return Attempt(
            delivery=claim.delivery.id,
            run=claim.delivery.run,
            number=claim.attempt,
            started_at=at,
            duration=timedelta(milliseconds=20),
            outcome=Accepted(answer) if status < 300 else Rejected(answer),  # noqa: PLR2004 - RFC 9110, 15.3
        )


def ids(claims: Sequence[Claim]) -> set[UUID]:
    return {claim.delivery.id for claim in claims}


def origins(claims: Sequence[Claim]) -> list[Origin]:
    return [claim.delivery.origin for claim in claims]

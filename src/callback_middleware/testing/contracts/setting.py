"""What the tests of an outbox start from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import pytest

from callback_middleware.delivery import DEADLINE, Claim, Delivered, Delivery, Fence, Settlement, Verdict
from callback_middleware.destinations import Origin
from callback_middleware.identifiers import uuid7
from callback_middleware.outcomes import Accepted, Answer, Attempt, Rejected
from callback_middleware.ports import Batch, DeliveryLog, Outbox
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing.clock import VirtualClock

LEASE: Final = timedelta(seconds=30)
"""What the tests claim for."""

MOMENT: Final = timedelta(milliseconds=1)

HERE: Final = "https://here.example:443"
THERE: Final = "https://there.example:443"
ELSEWHERE: Final = "https://elsewhere.example:443"


class Engine(Outbox, DeliveryLog, Protocol):
    """Both ports of one engine."""


class OutboxSetting:
    """Fixtures, and short words for what the tests do. An engine overrides ``outbox``, and ``let_pass`` if it must."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    def outbox(self, clock: VirtualClock) -> Engine:
        """An empty outbox that reads ``clock``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'outbox' that gives an empty outbox")

    async def let_pass(self, outbox: Engine, clock: VirtualClock, time: timedelta) -> None:  # noqa: ARG002 - for those who override it
        """Let time pass for the outbox. An engine with a clock of its own overrides this."""
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

    async def put(self, outbox: Engine, *deliveries: Delivery) -> None:
        await outbox.put(Batch(deliveries))

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
        await self.settle(outbox, claim, Delivered(), self.attempt(claim, at))

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


def ids(claims: Sequence[Claim]) -> set[object]:
    return {claim.delivery.id for claim in claims}


def origins(claims: Sequence[Claim]) -> list[Origin]:
    return [claim.delivery.origin for claim in claims]

"""What the tests of the outbox in memory start from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from callback_middleware.delivery import DEADLINE, Delivered, Delivery, Settlement
from callback_middleware.identifiers import uuid7
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Subscription, SubscriptionKey
from callback_middleware.testing import VirtualClock

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)

CLOCK = VirtualClock()
HERE = "https://here.example:443"
THERE = "https://there.example:443"
START = CLOCK.now()

SUBSCRIPTION = Subscription(
    key=SubscriptionKey("event", "7", None),
    operation="POST /",
    method="POST",
    url="https://here.example/",
    origin=HERE,
    created_at=START,
    retry=RetryPolicy(),
    deadline=DEADLINE,
)


def delivery(number: int, **attributes: Any) -> Delivery:
    now = attributes.pop("now", CLOCK.now())
    plain = Delivery(
        id=uuid7(now, number.to_bytes(10, "big")),
        operation="POST /",
        callback="event",
        method="POST",
        url="https://here.example/",
        origin=HERE,
        created_at=now,
        due_at=now,
        retry=RetryPolicy(),
        deadline=DEADLINE,
    )
    return replace(plain, **attributes)


async def deliver_all(outbox: MemoryOutbox) -> None:
    while claims := await outbox.claim(100, LEASE, per_origin=100, busy={}):
        await outbox.settle([Settlement(claim.fence, Delivered()) for claim in claims])

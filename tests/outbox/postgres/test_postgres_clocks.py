"""Only the database's clock counts: whoever's own is wrong puts and attempts as if it were right."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from postgres_setting import set_clock

from callback_middleware import Delivery, RetryPolicy
from callback_middleware.destinations import Origin
from callback_middleware.identifiers import uuid7
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.verdicts import expired
from postgres_server import DatabaseServer

RIGHT = VirtualClock()
AGE = timedelta(hours=1)
OFF = [timedelta(hours=-2), timedelta(hours=2), timedelta(days=-3), timedelta(days=3)]


@pytest.fixture
def anyio_backend() -> str:
    """The driver is bound to it."""
    return "asyncio"


@pytest.fixture(params=OFF, ids=str)
def wrong(request: pytest.FixtureRequest) -> VirtualClock:
    return VirtualClock(RIGHT.now() + request.param)


@pytest.fixture
async def outbox(migrated: str, postgres_server: DatabaseServer, wrong: VirtualClock) -> AsyncIterator[PostgresOutbox]:
    """Of a process whose clock is wrong."""
    set_clock(postgres_server, migrated, RIGHT)
    outbox = PostgresOutbox(migrated, clock=wrong, backlog=None)
    yield outbox
    await outbox.aclose()


@pytest.fixture
async def other(migrated: str, outbox: PostgresOutbox) -> AsyncIterator[PostgresOutbox]:
    """Of a process whose clock is right."""
    other = PostgresOutbox(migrated, clock=RIGHT, backlog=None)
    yield other
    await other.aclose()


def delivery(clock: VirtualClock) -> Delivery:
    now = clock.now()
    return Delivery(
        id=uuid7(now, os.urandom(10)),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url="https://ext.example/events",
        origin=Origin("https://ext.example"),
        created_at=now,
        due_at=now,
        expires_at=now + AGE,
        retry=RetryPolicy.fixed(1, max_age=AGE),
        deadline=timedelta(seconds=5),
    )


async def claimed(outbox: PostgresOutbox) -> Delivery:
    (claim,) = await outbox.claim(1, timedelta(seconds=30), per_origin=1, busy={})
    return claim.delivery


async def test_what_a_wrong_clock_put_expires_in_its_time(
    outbox: PostgresOutbox, other: PostgresOutbox, wrong: VirtualClock
) -> None:
    await outbox.put(Batch([delivery(wrong)]))

    found = await claimed(other)
    assert (found.created_at, found.expires_at) == (RIGHT.now(), RIGHT.now() + AGE)


async def test_whose_clock_is_wrong_takes_nothing_for_expired_that_is_not(
    outbox: PostgresOutbox, other: PostgresOutbox, wrong: VirtualClock
) -> None:
    await other.put(Batch([delivery(RIGHT)]))

    found = await claimed(outbox)
    assert not expired(found, wrong.now() + AGE)
    assert expired(found, wrong.now() + AGE + timedelta(seconds=1))

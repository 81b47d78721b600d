from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.outbox.dedupe import REMEMBERED_FOR, RecentKeys
from callback_middleware.retry import RetryPolicy

START = datetime(2030, 1, 1, tzinfo=UTC)
DELIVERY = Delivery(
    id=UUID(int=1),
    operation="POST /",
    callback="event",
    method="POST",
    url="https://a.example/",
    origin="https://a.example:443",
    created_at=START,
    due_at=START,
    retry=RetryPolicy(),
    deadline=DEADLINE,
    dedupe="key",
)


def test_a_key_is_admitted_once_in_a_while() -> None:
    keys = RecentKeys()

    assert keys.admit(DELIVERY, START)
    assert not keys.admit(DELIVERY, START + REMEMBERED_FOR - timedelta.resolution)
    assert keys.admit(DELIVERY, START + REMEMBERED_FOR)


def test_a_refused_key_is_not_remembered_longer_for_it() -> None:
    keys = RecentKeys()
    keys.admit(DELIVERY, START)
    keys.admit(DELIVERY, START + REMEMBERED_FOR / 2)

    assert keys.admit(DELIVERY, START + REMEMBERED_FOR)


def test_old_keys_are_forgotten() -> None:
    keys = RecentKeys()
    for number in range(100):
        keys.admit(replace(DELIVERY, dedupe=str(number)), START)

    keys.admit(DELIVERY, START + REMEMBERED_FOR)

    assert len(keys._keys) == len(keys._ends) == 1


def test_no_key_is_always_admitted() -> None:
    keys = RecentKeys()

    assert all(keys.admit(replace(DELIVERY, dedupe=None), START) for _ in range(3))

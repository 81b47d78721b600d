"""Outboxes that do everything at once on PostgreSQL lose nothing, however long: ``make soak``.

The rounds are those of ``tests/outbox/postgres/test_postgres_concurrency.py``, longer and more of them; ``CRASH_SEED``
says which seed is the first.
"""

from __future__ import annotations

import pytest

from contending.rounds import contend
from crashing.seeds import seeds
from postgres_server import DatabaseServer


@pytest.mark.parametrize("seed", seeds(8))
def test_whoever_contends_nothing_is_lost_and_no_rule_is_broken(
    postgres: str, postgres_server: DatabaseServer, seed: int
) -> None:
    assert not contend(postgres_server, postgres, seed=seed, operations=600)

"""Several outboxes do everything at once on one database, and nothing that was promised is broken by it."""

from __future__ import annotations

import pytest

from contending.rounds import contend
from postgres_server import DatabaseServer


@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_contends_nothing_is_lost_and_no_rule_is_broken(
    postgres: str, postgres_server: DatabaseServer, seed: int
) -> None:
    assert not contend(postgres_server, postgres, seed=seed, operations=60)

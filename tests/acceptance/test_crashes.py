"""Nothing acknowledged is lost: real processes die under load, and a client that read the last byte is the recorder.

``CRASH_SEED`` has a round that failed run again; ``make soak`` runs many more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from crashing.clients import SHAPES
from crashing.rounds import (
    DELIVERY_PATH,
    REQUEST_PATH,
    web_is_killed,
    web_kills_itself,
    worker_is_killed,
    worker_stalls_before_settling,
    worker_stalls_in_attempts,
)
from crashing.seeds import seeds
from crashing.settings import Moment
from crashing.stores import InMemory

SEEDS = seeds(4, first=1)


@pytest.fixture
def anyio_backend() -> str:
    """What is tested runs in other processes: the loop on which they are watched changes nothing about it."""
    return "asyncio"


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_when_the_service_is_killed_at_random(seed: int, tmp_path: Path) -> None:
    account = await web_is_killed(tmp_path, seed, kills=2, requests=120, answers=bool(seed % 3))
    account.assert_kept(kills=2)
    assert set(account.shapes) == set(SHAPES)


async def test_nothing_is_lost_wherever_on_the_request_path_it_dies(tmp_path: Path) -> None:
    account = await web_kills_itself(tmp_path, SEEDS[0], REQUEST_PATH)
    account.assert_kept(kills=len(REQUEST_PATH))
    assert account.evidence.duplicates == 0


async def test_nothing_is_lost_wherever_on_the_delivery_path_it_dies(tmp_path: Path) -> None:
    account = await web_kills_itself(tmp_path, SEEDS[0], DELIVERY_PATH)
    account.assert_kept(kills=len(DELIVERY_PATH))


async def test_nothing_is_lost_when_a_worker_is_killed_in_the_middle_of_attempts(tmp_path: Path) -> None:
    account = await worker_is_killed(tmp_path, SEEDS[0], kills=1, loop="asyncio")
    account.assert_kept(kills=1)
    assert account.evidence.duplicates > 0


async def test_a_worker_that_stalls_in_the_middle_of_attempts_changes_no_result(tmp_path: Path) -> None:
    account = await worker_stalls_in_attempts(tmp_path, SEEDS[0], loop="asyncio")
    account.assert_kept(kills=1)
    assert account.evidence.duplicates > 0


async def test_a_worker_that_stalls_before_it_settles_changes_no_result(tmp_path: Path) -> None:
    account = await worker_stalls_before_settling(tmp_path, SEEDS[0], loop="trio")
    account.assert_kept(kills=1)
    assert account.evidence.outlived


async def test_an_outbox_in_memory_is_found_to_lose(tmp_path: Path) -> None:
    """A control: where nothing is lost although it must be, nothing above shows anything."""
    account = await web_is_killed(tmp_path, SEEDS[0], kills=2, requests=120, store=InMemory(), answers=False)
    assert account.faults.never_received


async def test_a_put_behind_the_last_byte_is_found_to_lose(tmp_path: Path) -> None:
    """The other control."""
    account = await web_kills_itself(tmp_path, SEEDS[0], [Moment.BEFORE_PUT] * 2, answers_first=True, crowd=0)
    assert account.faults.missing
    assert account.faults.never_received == account.faults.missing

"""Nothing acknowledged is lost, however often: ``make soak``.

The rounds are those of ``tests/acceptance/test_crashes.py``, and more of them. Each prints its seed; ``CRASH_SEED``
says which one is the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
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
from crashing.world import Account

ROUNDS = seeds(24)
REPEATS = seeds(3)
LOOPS = ("asyncio", "trio")


@pytest.fixture
def anyio_backend() -> str:
    """What is tested runs in other processes: the loop on which they are watched changes nothing about it."""
    return "asyncio"


async def test_nothing_is_lost_in_more_than_20_rounds_and_10_000_acknowledged_requests(tmp_path: Path) -> None:
    shapes: Counter[str] = Counter()
    for seed in ROUNDS:
        directory = tmp_path / str(seed)
        directory.mkdir()
        # Where receivers hang, a process is killed with everything due that it has acknowledged.
        account = await web_is_killed(directory, seed, kills=3, requests=150, answers=bool(seed % 3))
        account.assert_kept(kills=3)
        shapes += account.shapes
    assert set(shapes) == set(SHAPES)
    assert shapes.total() >= 10_000


@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("moment", REQUEST_PATH + DELIVERY_PATH)
async def test_nothing_is_lost_at_any_moment(moment: Moment, seed: int, tmp_path: Path) -> None:
    account = await web_kills_itself(tmp_path, seed, [moment] * 3)
    account.assert_kept(kills=3)


@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("loop", LOOPS)
async def test_nothing_is_lost_when_workers_are_killed(loop: str, seed: int, tmp_path: Path) -> None:
    account = await worker_is_killed(tmp_path, seed, kills=3, loop=loop)
    account.assert_kept(kills=3)


@pytest.mark.parametrize("stalls", [worker_stalls_in_attempts, worker_stalls_before_settling])
@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_worker_that_stalls_changes_no_result(
    loop: str, seed: int, stalls: Callable[..., Awaitable[Account]], tmp_path: Path
) -> None:
    account = await stalls(tmp_path, seed, loop=loop)
    account.assert_kept(kills=1)


@pytest.mark.parametrize("seed", REPEATS)
async def test_both_controls_are_found_to_lose(seed: int, tmp_path: Path) -> None:
    for name in ("memory", "behind"):
        (tmp_path / name).mkdir()
    memory = await web_is_killed(tmp_path / "memory", seed, kills=3, requests=150, store=InMemory(), answers=False)
    behind = await web_kills_itself(tmp_path / "behind", seed, [Moment.BEFORE_PUT] * 3, answers_first=True, crowd=0)
    assert memory.faults.never_received
    assert behind.faults.missing
    assert behind.faults.never_received == behind.faults.missing

"""A fleet on PostgreSQL loses nothing that it has acknowledged, however often something befalls it: ``make soak``.

The rounds are those of ``tests/fleet/test_faults.py``, more of them, and longer. Each prints its seed; ``CRASH_SEED``
says which one is the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from crashing.mortality import LEASE
from crashing.rounds import (
    DELIVERY_PATH,
    web_is_killed,
    web_kills_itself,
    worker_is_killed,
    worker_stalls_before_settling,
    worker_stalls_in_attempts,
)
from crashing.seeds import seeds
from crashing.settings import Moment
from crashing.stores import InDatabase
from crashing.world import Account
from fleet.connections import (
    answers_are_lost,
    database_restarts,
    web_is_cut_off,
    web_is_killed_in_its_put,
    worker_is_cut_off,
)
from fleet.rounds import clocks_are_wrong, fleet_is_killed, web_stalls_in_attempts, worker_stalls_between_packets
from fleet.scenes import PUT, terminating
from postgres_server import PostgresServer, private_postgres

REPEATS = seeds(2)

MARGIN = 2.0
"""Seconds after the end of a lease in which another worker has taken over."""

TWO_MINUTES = 120.0

LONG = timedelta(seconds=40)
"""For which somebody is cut off: longer than anybody waits for the database's answer."""


@pytest.fixture
def anyio_backend() -> str:
    """The driver is bound to asyncio, and what is tested runs in other processes."""
    return "asyncio"


@pytest.fixture
def store(postgres: str) -> InDatabase:
    return InDatabase(postgres)


@pytest.fixture(scope="module")
def crashing_server() -> Iterator[PostgresServer]:
    """One that a test may crash, and that syncs what it commits."""
    with private_postgres(fsync=True) as server:
        yield server


@pytest.mark.parametrize("seed", REPEATS)
async def test_nothing_is_lost_when_processes_are_killed(seed: int, store: InDatabase, tmp_path: Path) -> None:
    account = await fleet_is_killed(tmp_path, seed, store=store, kills=4)
    account.assert_kept(kills=8)


@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("answers", [False, True])
async def test_nothing_is_lost_when_those_are_killed_that_send_what_they_put(
    answers: bool, seed: int, store: InDatabase, tmp_path: Path
) -> None:
    account = await web_is_killed(tmp_path, seed, kills=3, requests=150, answers=answers, store=store)
    account.assert_kept(kills=3)


@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("moment", [Moment.BEFORE_PUT, Moment.TOLD, Moment.ANSWERED, *DELIVERY_PATH])
async def test_nothing_is_lost_at_any_moment(moment: Moment, seed: int, store: InDatabase, tmp_path: Path) -> None:
    account = await web_kills_itself(tmp_path, seed, [moment] * 3, store=store)
    account.assert_kept(kills=3)


@pytest.mark.parametrize("seed", REPEATS)
@pytest.mark.parametrize("committed", [False, True], ids=["on its way", "committed"])
async def test_nothing_is_lost_when_nobody_was_told_of_a_put(
    committed: bool, seed: int, postgres: str, tmp_path: Path
) -> None:
    account = await web_is_killed_in_its_put(tmp_path, seed, url=postgres, statement=PUT, committed=committed, kills=4)
    account.assert_kept(kills=4)
    assert account.evidence.duplicates == 0


@pytest.mark.parametrize("seed", REPEATS)
async def test_nothing_is_lost_when_workers_are_killed(seed: int, store: InDatabase, tmp_path: Path) -> None:
    account = await worker_is_killed(tmp_path, seed, kills=3, loop="asyncio", store=store)
    account.assert_kept(kills=3)


@pytest.mark.parametrize(
    "stalls",
    [
        partial(worker_stalls_in_attempts, loop="asyncio"),
        partial(worker_stalls_before_settling, loop="asyncio"),
        web_stalls_in_attempts,
    ],
    ids=["a worker in attempts", "a worker before it settles", "a web process in attempts"],
)
@pytest.mark.parametrize("seed", REPEATS)
async def test_a_process_that_stalls_changes_no_result(
    seed: int, stalls: Callable[..., Awaitable[Account]], store: InDatabase, tmp_path: Path
) -> None:
    account = await stalls(tmp_path, seed, store=store)
    account.assert_kept(kills=1)


@pytest.mark.parametrize("seed", REPEATS)
async def test_no_delivery_waits_while_a_worker_stalls_between_packets_again_and_again(
    seed: int, postgres: str, tmp_path: Path
) -> None:
    chance, stalls = Random(seed), list[float]()  # noqa: S311 - it is to be the same chance again
    while sum(stalls) < TWO_MINUTES:
        stalls.append(chance.uniform(0.1, 4 * LEASE.total_seconds()))
    account = await worker_stalls_between_packets(tmp_path, seed, url=postgres, stalls=stalls)
    account.assert_kept(kills=0)
    assert account.longest_wait <= LEASE.total_seconds() + MARGIN, account


async def test_no_delivery_waits_while_a_worker_stalls_between_packets_for_two_minutes(
    postgres: str, tmp_path: Path
) -> None:
    account = await worker_stalls_between_packets(tmp_path, REPEATS[0], url=postgres, stalls=[TWO_MINUTES])
    account.assert_kept(kills=0)
    assert account.longest_wait <= LEASE.total_seconds() + MARGIN, account


@pytest.mark.parametrize("seed", REPEATS)
async def test_clocks_that_are_wrong_change_nothing(seed: int, store: InDatabase, tmp_path: Path) -> None:
    account = await clocks_are_wrong(tmp_path, seed, store=store)
    account.assert_kept(kills=1)


@pytest.mark.parametrize("seed", REPEATS)
async def test_nothing_is_lost_when_the_database_crashes(
    seed: int, crashing_server: PostgresServer, tmp_path: Path
) -> None:
    account = await database_restarts(tmp_path, seed, server=crashing_server, restarts=5)
    account.assert_kept(kills=5)


@pytest.mark.parametrize("statement", [PUT, ".claim(", ".settle("])
@pytest.mark.parametrize("terminated", [False, True], ids=["the network", "pg_terminate_backend"])
@pytest.mark.parametrize("seed", REPEATS)
async def test_what_was_done_when_its_answer_was_lost_is_done_once(
    seed: int, terminated: bool, statement: str, postgres: str, tmp_path: Path
) -> None:
    ends = partial(terminating, postgres) if terminated else None
    account = await answers_are_lost(tmp_path, seed, url=postgres, statement=statement, times=4, ends=ends)
    account.assert_kept(kills=4)
    assert account.evidence.duplicates == 0


@pytest.mark.parametrize("cut_off", [worker_is_cut_off, web_is_cut_off])
@pytest.mark.parametrize("lasts", [timedelta(), LONG], ids=str)
@pytest.mark.parametrize("forget", [False, True], ids=["healed", "forgotten"])
async def test_who_is_cut_off_recovers(
    forget: bool, lasts: timedelta, cut_off: Callable[..., Awaitable[Account]], postgres: str, tmp_path: Path
) -> None:
    account = await cut_off(tmp_path, REPEATS[0], url=postgres, lasts=lasts, forget=forget)
    account.assert_kept(kills=1)

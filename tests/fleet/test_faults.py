"""A fleet on PostgreSQL loses nothing that it has acknowledged, whatever befalls its processes and its database.

Web processes and workers are real, and under load; a client that read the last byte is the recorder. ``CRASH_SEED`` has
a round that failed run again; ``make soak`` runs many more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from crashing.mortality import LEASE
from crashing.rounds import (
    web_is_killed,
    web_kills_itself,
    worker_is_killed,
    worker_stalls_before_settling,
    worker_stalls_in_attempts,
)
from crashing.seeds import seeds
from crashing.settings import Moment
from crashing.stores import InDatabase
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

(SEED,) = seeds(1, first=1)

MARGIN = 2.0
"""Seconds after the end of a lease in which another worker has taken over."""

TIMEOUT = 5.0
"""Seconds for which a response waits for the outbox."""


forgotten = pytest.mark.parametrize("forget", [False, True], ids=["healed", "forgotten"])


@pytest.fixture
def store(postgres: str) -> InDatabase:
    return InDatabase(postgres)


@pytest.fixture(scope="module")
def crashing_server() -> Iterator[PostgresServer]:
    """One that a test may crash, and that syncs what it commits."""
    with private_postgres(fsync=True) as server:
        yield server


async def test_nothing_is_lost_when_web_processes_are_killed_at_random(store: InDatabase, tmp_path: Path) -> None:
    account = await web_is_killed(tmp_path, SEED, kills=2, requests=120, store=store)
    account.assert_kept(kills=2)


@pytest.mark.parametrize(
    "moments", [(Moment.BEFORE_PUT, Moment.TOLD, Moment.ANSWERED), (Moment.CLAIMED, Moment.SETTLED)]
)
async def test_nothing_is_lost_wherever_a_web_process_dies(
    moments: tuple[Moment, ...], store: InDatabase, tmp_path: Path
) -> None:
    account = await web_kills_itself(tmp_path, SEED, moments, store=store)
    account.assert_kept(kills=len(moments))


@pytest.mark.parametrize("committed", [False, True], ids=["on its way", "committed"])
async def test_nothing_is_lost_when_a_web_process_dies_and_was_not_told_of_its_put(
    committed: bool, postgres: str, tmp_path: Path
) -> None:
    account = await web_is_killed_in_its_put(tmp_path, SEED, url=postgres, statement=PUT, committed=committed, kills=2)
    account.assert_kept(kills=2)
    assert account.evidence.duplicates == 0


async def test_nothing_is_lost_when_one_of_two_of_each_is_killed(store: InDatabase, tmp_path: Path) -> None:
    account = await fleet_is_killed(tmp_path, SEED, store=store, kills=1)
    account.assert_kept(kills=2)


async def test_nothing_is_lost_when_a_worker_is_killed_in_the_middle_of_attempts(
    store: InDatabase, tmp_path: Path
) -> None:
    account = await worker_is_killed(tmp_path, SEED, kills=1, loop="asyncio", store=store)
    account.assert_kept(kills=1)
    assert account.evidence.duplicates > 0


async def test_a_worker_that_stalls_in_the_middle_of_attempts_changes_no_result(
    store: InDatabase, tmp_path: Path
) -> None:
    account = await worker_stalls_in_attempts(tmp_path, SEED, loop="asyncio", store=store)
    account.assert_kept(kills=1)
    assert account.evidence.duplicates > 0


async def test_a_worker_that_stalls_before_it_settles_changes_no_result(store: InDatabase, tmp_path: Path) -> None:
    account = await worker_stalls_before_settling(tmp_path, SEED, loop="asyncio", store=store)
    account.assert_kept(kills=1)
    assert account.evidence.outlived


async def test_a_web_process_that_stalls_in_the_middle_of_attempts_changes_no_result(
    store: InDatabase, tmp_path: Path
) -> None:
    account = await web_stalls_in_attempts(tmp_path, SEED, store=store)
    account.assert_kept(kills=1)
    assert account.evidence.duplicates > 0


async def test_a_worker_that_stalls_between_two_packets_keeps_nothing_from_another(
    postgres: str, tmp_path: Path
) -> None:
    account = await worker_stalls_between_packets(tmp_path, SEED, url=postgres, stalls=[4.0])
    account.assert_kept(kills=0)
    assert account.longest_wait <= LEASE.total_seconds() + MARGIN, account


async def test_clocks_that_are_wrong_by_hours_and_days_change_nothing(store: InDatabase, tmp_path: Path) -> None:
    account = await clocks_are_wrong(tmp_path, SEED, store=store)
    account.assert_kept(kills=1)
    assert account.answers.keys() == {200}


async def test_nothing_is_lost_when_the_database_crashes(crashing_server: PostgresServer, tmp_path: Path) -> None:
    account = await database_restarts(tmp_path, SEED, server=crashing_server, restarts=1)
    account.assert_kept(kills=1)


@pytest.mark.parametrize("terminated", [False, True], ids=["the network", "pg_terminate_backend"])
async def test_what_was_committed_when_its_answer_was_lost_is_put_again_and_sent_once(
    terminated: bool, postgres: str, tmp_path: Path
) -> None:
    ends = partial(terminating, postgres) if terminated else None
    account = await answers_are_lost(tmp_path, SEED, url=postgres, statement=PUT, times=3, ends=ends)
    account.assert_kept(kills=3)
    assert account.evidence.duplicates == 0


@pytest.mark.parametrize("statement", [".claim(", ".settle("])
async def test_a_worker_goes_on_where_the_answer_to_what_it_claims_or_settles_is_lost(
    statement: str, postgres: str, tmp_path: Path
) -> None:
    account = await answers_are_lost(tmp_path, SEED, url=postgres, statement=statement, times=2)
    account.assert_kept(kills=2)
    assert account.evidence.duplicates == 0


@forgotten
async def test_another_takes_over_from_a_worker_that_is_cut_off_and_that_recovers(
    forget: bool, postgres: str, tmp_path: Path
) -> None:
    account = await worker_is_cut_off(tmp_path, SEED, url=postgres, forget=forget)
    account.assert_kept(kills=1)
    assert account.evidence.outlived


@forgotten
async def test_a_web_process_that_is_cut_off_refuses_and_recovers(forget: bool, postgres: str, tmp_path: Path) -> None:
    account = await web_is_cut_off(tmp_path, SEED, url=postgres, forget=forget)
    account.assert_kept(kills=1)
    assert account.answers[503]
    assert account.slowest <= TIMEOUT + MARGIN, account

"""What is lost or broken after a power cut is seen by whoever judges."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Delivery
from callback_middleware.states import State
from power_load import Load
from power_verdict import Verdict, broken_promises, everything, judge, torn_batches

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def promises(path: Path) -> list[str]:
    """What an outbox in this file has promised."""
    outbox, made = SQLiteOutbox(path, backlog=None), list[str]()

    async def work() -> None:
        await Load(outbox, made.append, seed=1).run(puts=40)
        await outbox.aclose()

    anyio.run(work)
    return made


@pytest.fixture
def deliveries(path: Path, promises: list[str]) -> list[Delivery]:
    return list(anyio.run(everything, SQLiteOutbox(path)))


def test_an_outbox_that_keeps_everything_is_found_in_order(path: Path, promises: list[str]) -> None:
    assert len(promises) > 40, "the worker settled nothing"
    assert judge(path, promises) == Verdict()


def test_a_batch_that_is_not_there_is_lost(path: Path, promises: list[str]) -> None:
    assert judge(path, [*promises, "put 1-99"]) == Verdict(lost=("put 1-99",))


def test_a_settlement_that_is_not_there_is_lost(promises: list[str], deliveries: list[Delivery]) -> None:
    promise = next(promise for promise in promises if promise.startswith("delivered"))

    as_before = [replace(one, state=State.SENDING) if str(one.id) in promise else one for one in deliveries]

    assert broken_promises(promises, deliveries) == ()
    assert broken_promises(promises, as_before) == (promise,)


def test_a_part_of_a_batch_is_broken(deliveries: list[Delivery]) -> None:
    whole = next(one for one in deliveries if one.tags["of"] == "3")

    assert torn_batches(deliveries) == ()
    assert torn_batches([one for one in deliveries if one is not whole]) == (
        f"2 of the 3 deliveries of batch {whole.tags['batch']}",
    )


def test_a_file_that_is_unsound_is_broken(path: Path, promises: list[str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    middle = len(content) // PAGE // 2 * PAGE
    content[middle : middle + PAGE] = bytes(PAGE)
    path.write_bytes(content)

    assert judge(path, promises).broken

"""What the tests of the SQLite outbox start from, and a look at its file past it."""

from __future__ import annotations

import sqlite3
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio.lowlevel
import anyio.to_thread
import pytest

from callback_middleware import SQLiteOutbox
from callback_middleware.backlog import BacklogLimits
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.outbox.sqlite.writer import Writer
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting


class SQLiteSetting(OutboxSetting):
    """The contract's fixtures and short words, on a file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where the outbox is; there is no file yet."""
        return tmp_path / "callbacks.db"

    @pytest.fixture
    async def outbox(
        self, path: Path, clock: VirtualClock, backlog: BacklogLimits | None
    ) -> AsyncIterator[SQLiteOutbox]:
        outbox = SQLiteOutbox(path, clock=clock, backlog=backlog)
        yield outbox
        await outbox.aclose()

    @pytest.fixture
    def store(self, path: Path, clock: VirtualClock, backlog: BacklogLimits | None) -> Iterator[Store]:
        """The open file, in the test's own thread."""
        with closing(Store(path, Ground.of(clock), backlog)) as store:
            yield store


class WriterTurns:
    """Hears of every turn of a writer's thread. A loop that spins to look for what it does would keep it waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turned = threading.Condition()
        turn = Writer._turn

        def turn_and_tell(writer: Writer) -> None:
            turn(writer)
            with self._turned:
                self._turned.notify_all()

        monkeypatch.setattr(Writer, "_turn", turn_and_tell)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what a turn of the thread makes true."""
        await anyio.to_thread.run_sync(self._until, true)

    def _until(self, true: Callable[[], object]) -> None:
        with self._turned:
            if self._turned.wait_for(true, timeout=30):
                return
        frames = sys._current_frames()
        stacks = [traceback.format_stack(frames[each.ident]) for each in threading.enumerate() if each.ident in frames]
        pytest.fail("the writer's thread never made it true; all threads:\n" + "\n".join(map("".join, stacks)))


class HoldUp:
    """A job that keeps the writer's thread from when it has ``begun`` until it is ``over``."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def run(self, store: Store) -> None:
        self.begun.set()
        self.over.wait()

    def done(self, error: BaseException | None) -> None:
        """Nobody waits for it."""


@contextmanager
def held_up(outbox: SQLiteOutbox) -> Iterator[HoldUp]:
    """The writer's thread does nothing else."""
    hold_up = HoldUp()
    outbox._session.submit(hold_up)
    try:
        yield hold_up
    finally:
        hold_up.over.set()


async def turns(number: int) -> None:
    """Let the event loop turn so many times."""
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


SETTING: Final = OutboxSetting()
"""Makes deliveries and attempts where there is no test: in another process."""


def ask(path: Path, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """What a connection of its own reads."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, parameters).fetchall()


def tell(path: Path, *statements: str) -> None:
    """Have a connection of its own write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def stored(path: Path) -> int:
    """How many deliveries are in the file."""
    ((count,),) = ask(path, "SELECT count(*) FROM delivery")
    return int(count)

"""A process that forks while it uses an outbox: real forks, in processes of their own that may come to harm."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlite_setting import SETTING, ask, held_up, stored

from callback_middleware import SQLiteOutbox
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outbox.sqlite import session
from callback_middleware.outbox.sqlite.file import open_reader
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE

CLOCK = VirtualClock()


def put(outbox: SQLiteOutbox, count: int = 1) -> None:
    async def run() -> None:
        with anyio.fail_after(60):
            for _ in range(count):
                await SETTING.put(outbox, SETTING.delivery(CLOCK))

    anyio.run(run)


def claim(outbox: SQLiteOutbox) -> int:
    return len(anyio.run(lambda: outbox.claim(1000, LEASE, per_origin=1000, busy={})))


def fork(child: Callable[[], None]) -> int:
    """Run a function in a forked child, which ends with 0 if it returns. The child's process id."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        # Or its deliveries would have its parent's ids.
        type(SETTING)._numbers = itertools.count(os.getpid() * 1_000_000)
        child()
        status = 0
    except BaseException:  # noqa: BLE001 - it is told, and the child must not go on as a test
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def joined(*children: int) -> None:
    assert [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children] == [0] * len(children)


class Signal:
    """One process tells another that it is so far."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def give(self) -> None:
        os.write(self._write, b".")

    def take(self) -> None:
        assert os.read(self._read, 1) == b"."


SCENES: dict[str, Callable[[Path], None]] = {}


def scene(function: Callable[[Path], None]) -> Callable[[Path], None]:
    SCENES[function.__name__] = function
    return function


@scene
def parent_and_child_both_put(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    child = fork(lambda: put(outbox, 20))
    put(outbox, 20)
    joined(child)
    put(outbox)
    assert stored(path) == 42
    assert claim(outbox) == 42


@scene
def what_the_child_puts_outlives_its_parents_closing(path: Path) -> None:
    """Whoever closes last removes the log: not while somebody else writes it."""
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    opened, closed = Signal(), Signal()

    def child() -> None:
        put(outbox)
        opened.give()
        closed.take()
        put(outbox, 3)

    number = fork(child)
    opened.take()
    anyio.run(outbox.aclose)
    assert stored(path) == 2
    closed.give()
    joined(number)
    assert stored(path) == 5


@scene
def what_the_parent_puts_outlives_its_childs_end(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)

    def child() -> None:
        put(outbox)
        anyio.run(outbox.aclose)

    joined(fork(child))
    # A third one opens the file, and is the last to close it if nobody else has a lock on it.
    assert stored(path) == 2
    put(outbox, 3)
    assert stored(path) == 5


@scene
def a_child_that_never_asks_disturbs_nobody(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    joined(fork(lambda: None))
    put(outbox)
    assert stored(path) == 2


@scene
def preforked_servers_share_an_outbox_that_nobody_used_before(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    joined(*(fork(lambda: put(outbox, 10)) for _ in range(4)))
    put(outbox)
    assert stored(path) == 41


@scene
def preforked_servers_share_an_outbox_that_their_master_uses(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    children = []
    for _ in range(4):
        put(outbox)
        children.append(fork(lambda: put(outbox, 10)))
    joined(*children)
    assert stored(path) == 44


@scene
def a_child_may_fork_too(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)

    def child() -> None:
        put(outbox)
        joined(fork(lambda: put(outbox)))
        put(outbox)

    joined(fork(child))
    assert stored(path) == 4


@scene
def forks_in_the_middle_of_everything_lose_nothing(path: Path) -> None:
    """Threads of the parent put, claim and ask without a pause while it forks and forks."""
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    stop = threading.Event()
    counted = [0, 0]

    def putting() -> None:
        while not stop.is_set():
            put(outbox, 10)
            counted[0] += 10

    def asking() -> None:
        while not stop.is_set():
            anyio.run(outbox.counts)
            counted[1] += 1

    threads = [threading.Thread(target=one) for one in (putting, asking)]
    for thread in threads:
        thread.start()
    children = [fork(lambda: put(outbox, 5)) for _ in range(12)]
    joined(*children)
    stop.set()
    for thread in threads:
        thread.join()
    assert min(counted) > 0
    assert stored(path) == 1 + counted[0] + 12 * 5
    anyio.run(outbox.aclose)
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


@scene
def two_threads_may_fork_at_the_same_time(path: Path) -> None:
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    raised: list[BaseException] = []

    def forking() -> None:
        try:
            for _ in range(5):
                joined(fork(lambda: put(outbox)))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            raised.append(error)

    threads = [threading.Thread(target=forking) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert stored(path) == 11


@scene
def no_file_is_open_while_a_process_forks(path: Path) -> None:
    """Also not one of an outbox that is being closed, or asked."""
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)
    asked, answered = threading.Event(), threading.Event()

    def question(*_: Any) -> None:
        asked.set()
        answered.wait()

    asker = threading.Thread(target=outbox._session.reader.ask, args=(question,))
    asker.start()
    asked.wait()
    # What is registered last is done first: the question ends when the fork has begun.
    os.register_at_fork(before=answered.set)

    def child() -> None:
        links = [one.readlink().name for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        assert not [link for link in links if link.startswith(path.name)]
        put(outbox)

    joined(fork(child))
    asker.join()
    put(outbox)
    assert stored(path) == 3


@scene
def a_fork_that_could_not_wait_is_told_to_the_child_and_harms_no_parent(path: Path) -> None:
    vars(session)["LONGEST_REST"] = 0.1
    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    other = SQLiteOutbox(path.with_name("other.db"), clock=CLOCK, backlog=None)
    put(outbox)

    def child() -> None:
        for _ in range(2):
            with pytest.raises(OutboxUnavailable, match="forked while its parent had been busy"):
                put(outbox)
        assert outbox.outage is not None

    with held_up(outbox) as hold_up:
        hold_up.begun.wait()
        number = fork(child)
    joined(number)
    put(outbox)
    put(other)
    assert (stored(path), stored(path.with_name("other.db"))) == (2, 1)


@scene
def the_childs_own_workers_may_be_forked_by_multiprocessing(path: Path) -> None:
    import multiprocessing

    outbox = SQLiteOutbox(path, clock=CLOCK, backlog=None)
    put(outbox)

    def child(number: int) -> None:
        type(SETTING)._numbers = itertools.count(number * 1_000_000)
        put(outbox, 5)

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=child, args=(number,)) for number in range(1, 5)]
    for one in children:
        one.start()
    put(outbox, 5)
    for one in children:
        one.join()
    assert [one.exitcode for one in children] == [0] * 4
    with closing(open_reader(path)) as reader:
        assert reader.execute("SELECT count(*) FROM delivery").fetchone() == (26,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", SCENES)
def test_scene(name: str, tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {Path(__file__).stem} as it; "

    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", f"{program} it.SCENES[{name!r}](it.Path({str(tmp_path / 'callbacks.db')!r}))"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr

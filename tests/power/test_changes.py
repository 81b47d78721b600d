"""What is recorded of a process adds up to its files, and a sync never vouches for what came after it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from changes import Change, Created, Entry, Renamed, Synced, Truncated, Unlinked, Written, run_recorded
from disk import Disk

from preloading import compile_library

EVERYTHING = """
import os, sys, threading

os.chdir(sys.argv[1])
numbers = os.open("numbers", os.O_RDWR | os.O_CREAT)
os.write(numbers, b"0123456789")
os.pwrite(numbers, b"five", 5)
os.fsync(numbers)
os.ftruncate(numbers, 7)
os.ftruncate(numbers, 9)
os.fdatasync(numbers)

for line in ("one\\n", "two\\n"):
    with open("lines", "a") as lines:
        lines.write(line)
with open("rewritten", "w") as rewritten:
    rewritten.write("before")
with open(os.path.abspath("rewritten"), "w") as rewritten:
    rewritten.write("after")

os.rename("rewritten", "renamed")
with open("passing", "w"):
    pass
os.unlink("passing")
folder = os.open(".", os.O_RDONLY)
os.fsync(folder)

with open("../elsewhere", "w") as elsewhere:
    elsewhere.write("not recorded")
"""

MANY_AT_ONCE = """
import os, sys, threading

file = os.open(sys.argv[1] + "/file", os.O_RDWR | os.O_CREAT)
acknowledged = os.open(sys.argv[1] + "/acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def work(number):
    for turn in range(50):
        os.pwrite(file, bytes([number]) * 700, 700 * (8 * turn + number))
        os.pwrite(file, bytes([turn]) * 100, 50 * number)
        os.fdatasync(file)
        os.write(acknowledged, b"%d %d\\n" % (number, turn))

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

WRITES_DURING_A_SYNC = """
import os, sys, threading

begun, begins = os.pipe()
ending, end = os.pipe()
os.dup2(begins, 100)
os.dup2(ending, 101)

file = os.open(sys.argv[1] + "/file", os.O_RDWR | os.O_CREAT)
os.write(file, b"before")
thread = threading.Thread(target=os.fsync, args=(file,))
thread.start()
os.read(begun, 1)
os.write(file, b"meanwhile")
os.write(end, b".")
thread.join()
os.write(file, b"after")
"""

SLOW_SYNC = """
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int descriptor) {
  char byte = '.';
  if (write(100, &byte, 1) != 1 || read(101, &byte, 1) != 1) return -1;
  return (int)syscall(SYS_fsync, descriptor);
}
"""
"""Takes as long as :data:`WRITES_DURING_A_SYNC` wants."""


def record(recorder: Path, tmp_path: Path, script: str, *beneath: Path) -> tuple[Path, Sequence[Entry]]:
    """Run a script on an empty directory."""
    directory = tmp_path / "watched"
    directory.mkdir()
    command = [sys.executable, "-c", script, str(directory)]
    entries = run_recorded(command, recorder=recorder, directory=directory, record=tmp_path / "record", beneath=beneath)
    return directory, entries


def test_everything_that_happens_is_recorded_as_it_is(recorder: Path, tmp_path: Path) -> None:
    directory, entries = record(recorder, tmp_path, EVERYTHING)
    created = {entry.change.name: entry.change.inode for entry in entries if isinstance(entry.change, Created)}
    numbers, lines, rewritten = created["numbers"], created["lines"], created["rewritten"]
    synced = [entry.position for entry in entries if isinstance(entry.change, Synced)]

    expected: list[Change] = [
        Created("numbers", numbers),
        Written(numbers, 0, b"0123456789"),
        Written(numbers, 5, b"five"),
        Synced(numbers, synced[0]),
        Truncated(numbers, 7),
        Truncated(numbers, 9),
        Synced(numbers, synced[1]),
        Created("lines", lines),
        Written(lines, 0, b"one\n"),
        Written(lines, 4, b"two\n"),
        Created("rewritten", rewritten),
        Written(rewritten, 0, b"before"),
        Truncated(rewritten, 0),
        Written(rewritten, 0, b"after"),
        Renamed("rewritten", "renamed"),
        Created("passing", created["passing"]),
        Unlinked("passing"),
        Synced(directory.stat().st_ino, synced[2]),
    ]

    assert [entry.change for entry in entries] == expected
    assert adds_up(directory, entries)


def test_what_many_threads_do_is_recorded_in_its_order(recorder: Path, tmp_path: Path) -> None:
    directory, entries = record(recorder, tmp_path, MANY_AT_ONCE)

    assert adds_up(directory, entries)
    assert all(entry.change.until <= entry.position for entry in entries if isinstance(entry.change, Synced))


def test_whoever_was_told_of_a_sync_stands_after_it(recorder: Path, tmp_path: Path) -> None:
    """With what a thread wrote before its sync, whatever the others did meanwhile."""
    _, entries = record(recorder, tmp_path, MANY_AT_ONCE)
    file, acknowledged = (entry.change.inode for entry in entries if isinstance(entry.change, Created))
    vouched, written, told = 0, dict[int, int](), 0
    for entry in entries:
        match entry.change:
            case Written(inode, offset, data) if inode == file and len(data) == 700:
                written[offset] = entry.position
            case Synced(inode, until) if inode == file:
                vouched = max(vouched, until)
            case Written(inode, _, line) if inode == acknowledged:
                number, turn = map(int, line.split())
                assert written[700 * (8 * turn + number)] < vouched
                told += 1
    assert told == 8 * 50


def test_a_sync_vouches_for_nothing_that_came_after_it_began(recorder: Path, tmp_path: Path) -> None:
    slow_sync = tmp_path / "slow_sync.c"
    slow_sync.write_text(SLOW_SYNC)

    _, entries = record(recorder, tmp_path, WRITES_DURING_A_SYNC, compile_library(slow_sync, into=tmp_path))

    _, before, meanwhile, synced, _ = entries
    assert isinstance(synced.change, Synced)
    assert before.position < synced.change.until <= meanwhile.position
    # It vouches for anything only when it has returned.
    assert meanwhile.position < synced.position


def adds_up(directory: Path, entries: Sequence[Entry]) -> bool:
    """Whether the record says what the files hold."""
    disk = Disk(directory.stat().st_ino, {})
    for entry in entries:
        disk.apply(entry)
    return disk.seen() == Disk.found(directory).seen()

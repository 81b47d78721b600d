"""A power cut at any moment takes back nothing that an SQLite outbox has promised."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from changes import Entry, run_recorded
from disk import Disk

import power_load
from power_verdict import Verdict, judge

CUTS = 40
"""Of one run, at random moments: most of them in the middle of a commit, some in the middle of a checkpoint."""

SMALL_LOG = ("--setting", "wal_autocheckpoint=100")
"""Pages, so that a short run has many checkpoints."""


@dataclass(frozen=True)
class Cut:
    """The power fails.

    Attributes:
        files: What the disk has then.
        promises: What had been promised until then.
        unsynced: The files of which something was not durable.
    """

    files: Mapping[str, bytes]
    promises: Sequence[str]
    unsynced: frozenset[str]


@dataclass(frozen=True)
class Bench:
    """Where processes work, and lose their power.

    Attributes:
        recorder: The library that records what they do.
        home: A folder of its own.
        backend: The event loop that they run on.
    """

    recorder: Path
    home: Path
    backend: str

    def run(self, seed: int, files: Mapping[str, bytes], *options: str) -> Iterator[Cut]:
        """A load on an outbox, or on what is left of one, from its beginning to its end; and cuts of it, in order."""
        directory = self.home / f"{seed}"
        directory.mkdir()
        _write(directory, files)
        disk = Disk.found(directory)
        entries = run_recorded(
            [
                *(sys.executable, power_load.__file__, str(directory / "outbox.db"), str(directory / "acknowledged")),
                *("--seed", str(seed), "--puts", "150", "--lives", "2", "--backend", self.backend, *options),
            ],
            recorder=self.recorder,
            directory=directory,
            record=self.home / f"{seed}.record",
        )
        yield from _cuts(disk, entries, Random(seed))  # noqa: S311 - chance that repeats
        # Otherwise a call was not seen, and the cuts were cuts of something else.
        assert _without_shared_memory(disk) == _without_shared_memory(Disk.found(directory))

    def judge(self, cut: Cut, promises: Sequence[str] = ()) -> Verdict:
        """What is wrong after a cut."""
        with TemporaryDirectory(dir=self.home) as directory:
            _write(Path(directory), cut.files)
            return judge(Path(directory) / "outbox.db", [*promises, *cut.promises], backend=self.backend)


@pytest.fixture
def bench(recorder: Path, tmp_path: Path, anyio_backend: str) -> Bench:
    return Bench(recorder, tmp_path, anyio_backend)


@pytest.mark.parametrize("seed", [10, 20])
def test_nothing_that_was_promised_is_lost(bench: Bench, seed: int) -> None:
    logs = checkpoints = 0
    for cut in bench.run(seed, {}, *SMALL_LOG):
        assert bench.judge(cut) == Verdict(), f"after {len(cut.promises)} promises, {cut.unsynced} at stake"
        logs += "outbox.db-wal" in cut.unsynced
        checkpoints += "outbox.db" in cut.unsynced
    assert logs, "no cut came during a commit: this run shows nothing"
    assert checkpoints, "no cut came during a checkpoint: this run shows nothing"


def test_what_is_left_after_a_cut_survives_the_next(bench: Bench) -> None:
    *_, first = bench.run(30, {}, *SMALL_LOG)
    left = {name: content for name, content in first.files.items() if name != "acknowledged"}
    for cut in bench.run(40, left, *SMALL_LOG):
        assert bench.judge(cut, first.promises) == Verdict()


def test_without_a_sync_for_every_commit_this_would_be_seen(bench: Bench) -> None:
    """The control: what is measured here is what the syncs are for."""
    runs = [bench.run(seed, {}, "--setting", "synchronous=NORMAL") for seed in (50, 60, 70, 80, 90)]

    losing = [any(bench.judge(cut).lost for cut in run) for run in runs]

    assert sum(losing) >= 3, "a disk that forgets loses nothing here: the other tests show nothing"


def _cuts(disk: Disk, entries: Sequence[Entry], chance: Random) -> Iterator[Cut]:
    moments = frozenset(chance.sample(range(len(entries)), CUTS))
    for number, entry in enumerate(entries):
        disk.apply(entry)
        if number in moments:
            promises = disk.seen().get("acknowledged", b"").decode().splitlines()
            yield Cut(disk.after_cut(chance), promises, disk.unsynced())


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)


def _without_shared_memory(disk: Disk) -> Mapping[str, bytes]:
    """It is written through a mapping, which nobody sees, and made anew after a cut."""
    return {name: content for name, content in disk.seen().items() if not name.endswith("-shm")}

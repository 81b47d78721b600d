"""A power cut under the file system of an SQLite outbox takes back nothing that was promised.

Beneath the file system there is a real block device, so this sees what a recorder of a process's calls cannot: what the
file system itself makes of writes, syncs and names, and its own recovery.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import power_image
import pytest

from lacking import lacking
from power_verdict import Verdict

TESTS = Path(__file__).parent.parent


def cut(home: Path, seed: int, *settings: str) -> Verdict:
    """The power fails after a number of promises that the seed decides."""
    after = Random(seed).randrange(1, 3000)  # noqa: S311 - chance that repeats
    home.mkdir()
    command = ["unshare", "--mount", sys.executable, power_image.__file__, "--home", str(home)]
    options = ["--after", str(after), "--seed", str(seed), *(f"--setting={setting}" for setting in settings)]
    modules = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(  # noqa: S603 - a script of ours
        [*command, *options], env=os.environ | {"PYTHONPATH": modules}, capture_output=True, text=True, check=False
    )
    if ended.returncode == power_image.CANNOT_MOUNT or "unshare failed" in ended.stderr:
        lacking(f"a file system of its own must be mounted: run it as root, with loop devices ({ended.stderr.strip()})")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    return Verdict(tuple(found["lost"]), tuple(found["broken"]))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_was_promised_is_lost(tmp_path: Path, seed: int) -> None:
    assert cut(tmp_path / "home", seed) == Verdict()


def test_without_a_sync_for_every_commit_this_would_be_seen(tmp_path: Path) -> None:
    """The control: a run without it shows nothing."""
    verdicts = [cut(tmp_path / f"{seed}", seed, "synchronous=NORMAL") for seed in range(5)]

    assert sum(bool(verdict.lost) for verdict in verdicts) >= 3, verdicts

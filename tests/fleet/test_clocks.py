"""A process whose clock is wrong: as an operator who types the wrong date has it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.clocks import wrong_by

TELLS = """
import time
from datetime import UTC, datetime
print(time.time(), time.time_ns() / 1e9, datetime.now(UTC).timestamp(), time.mktime(time.localtime()), time.monotonic())
"""


@pytest.mark.parametrize("offset", [timedelta(hours=-2), timedelta(days=3)])
def test_every_clock_is_wrong_but_those_that_never_go_back(offset: timedelta, tmp_path: Path) -> None:
    before, since = datetime.now(UTC), time.monotonic()  # noqa: TID251 - it is the right one that is needed
    told = subprocess.run(  # noqa: S603 - an interpreter of ours
        [sys.executable, "-c", TELLS], env=os.environ | wrong_by(offset, into=tmp_path), capture_output=True, check=True
    )
    *walls, monotonic = map(float, told.stdout.split())

    assert all(0 <= wall + 1 - (before + offset).timestamp() < 120 for wall in walls), walls
    assert 0 <= monotonic - since < 120

"""What the tests of a power cut share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from changes import SOURCE, compile_library

from lacking import lacking


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records what a process does to its files."""
    if sys.platform != "linux":
        lacking("a process's writes are recorded with LD_PRELOAD and /proc, which Linux has: run it there")
    if shutil.which("cc") is None:
        lacking("a process's writes are recorded in C, and there is no compiler: apt-get install gcc libc6-dev")
    return compile_library(SOURCE, into=tmp_path_factory.mktemp("recorder"))

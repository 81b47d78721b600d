"""What the tests of a power cut share."""

from __future__ import annotations

from pathlib import Path

import pytest
from changes import SOURCE

from preloading import preloadable


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records what a process does to its files."""
    into = tmp_path_factory.mktemp("recorder")
    return preloadable(SOURCE, into=into, purpose="a process's writes are recorded")

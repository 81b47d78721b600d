"""What the tests of a fleet's faults share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The driver is bound to asyncio, and what is tested runs in other processes."""
    return "asyncio"

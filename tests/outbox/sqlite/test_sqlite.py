from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callback_middleware import SQLiteOutbox
from callback_middleware.backlog import BacklogLimits
from callback_middleware.testing import OutboxContract, VirtualClock


class TestContract(OutboxContract):
    @pytest.fixture
    async def outbox(
        self, clock: VirtualClock, tmp_path: Path, backlog: BacklogLimits | None
    ) -> AsyncIterator[SQLiteOutbox]:
        outbox = SQLiteOutbox(tmp_path / "callbacks.db", clock=clock, backlog=backlog)
        yield outbox
        await outbox.aclose()

from __future__ import annotations

import pytest

from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.testing import OutboxContract, VirtualClock


class TestContract(OutboxContract):
    @pytest.fixture
    def outbox(self, clock: VirtualClock) -> MemoryOutbox:
        return MemoryOutbox(clock=clock)

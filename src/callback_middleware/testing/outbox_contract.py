"""The contract of every outbox, as tests.

::

    class TestMyOutbox(OutboxContract):
        @pytest.fixture
        def outbox(self, clock):
            return MyOutbox(clock=clock)

They ask nothing but the two ports, :class:`~callback_middleware.ports.Outbox` and
:class:`~callback_middleware.ports.DeliveryLog`, and run on asyncio (and wherever else the fixture ``anyio_backend``
says). An engine with a clock of its own overrides ``let_pass`` too.
"""
# ruff: noqa: E402 - what is rewritten must be registered before it is imported

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("callback_middleware.testing.contracts")

from callback_middleware.testing.contracts.claiming import ClaimContract, ExtendContract, SuspectContract
from callback_middleware.testing.contracts.putting import PutContract
from callback_middleware.testing.contracts.settling import SettleContract


class OutboxContract(PutContract, ClaimContract, ExtendContract, SuspectContract, SettleContract):
    """Every promise of an outbox and its log is one test. Override the fixture ``outbox``."""

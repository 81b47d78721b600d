"""The contract of every outbox, as tests.

::

    class TestMyOutbox(OutboxContract):
        @pytest.fixture
        def outbox(self, clock, backlog):
            return MyOutbox(clock=clock, backlog=backlog)

They ask nothing but the two ports, :class:`~callback_middleware.ports.Outbox` and
:class:`~callback_middleware.ports.DeliveryLog`, and run on asyncio (and wherever else the fixture ``anyio_backend``
says). An engine with a clock of its own, a database's, lets it stand still at what ``clock`` says when the outbox is
made, and moves it along where it overrides ``let_pass``::

        async def let_pass(self, outbox, clock, time):
            clock.advance(time)
            await outbox.set_clock(clock.now())
"""
# ruff: noqa: E402 - what is rewritten must be registered before it is imported

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("callback_middleware.testing.contracts")

from callback_middleware.testing.contracts.batching import BatchContract
from callback_middleware.testing.contracts.bounding import BacklogContract
from callback_middleware.testing.contracts.cancelling import CancelContract
from callback_middleware.testing.contracts.claiming import ClaimContract, ExtendContract, SuspectContract
from callback_middleware.testing.contracts.keeping import KeepContract
from callback_middleware.testing.contracts.notifying import GoneContract, NotifyContract
from callback_middleware.testing.contracts.putting import PutContract
from callback_middleware.testing.contracts.replaying import ReplayContract
from callback_middleware.testing.contracts.searching import SearchContract
from callback_middleware.testing.contracts.settling import SettleContract
from callback_middleware.testing.contracts.starting import StartContract
from callback_middleware.testing.contracts.subscribing import EndContract, SubscribeContract, SubscriptionsContract
from callback_middleware.testing.contracts.sweeping import PruneContract, ReplayAllContract
from callback_middleware.testing.contracts.welcoming import NewcomerContract


class OutboxContract(
    StartContract,
    PutContract,
    BatchContract,
    KeepContract,
    BacklogContract,
    NewcomerContract,
    ClaimContract,
    ExtendContract,
    SuspectContract,
    SettleContract,
    SubscribeContract,
    EndContract,
    SubscriptionsContract,
    NotifyContract,
    GoneContract,
    CancelContract,
    ReplayContract,
    ReplayAllContract,
    PruneContract,
    SearchContract,
):
    """Every promise of an outbox and its log is one test. Override the fixture ``outbox``."""

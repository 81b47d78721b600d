"""Two processes on one file, whatever they do, against a model of what the ports promise."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Claim, Delivery, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.sqlite import changes, claims
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.pruning import prune
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.reading import read_counts, read_delivery
from callback_middleware.outbox.sqlite.rows import instant, time_at
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, PutReport
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from outbox_model import BOUNDS, ORIGINS, Claimed, Processes

KEYS = {origin_key(origin): origin for origin in ORIGINS}


class TwoStores:
    """Two open files on one path: an ``Engine`` of the model."""

    blur = timedelta()

    def __init__(self, clock: VirtualClock, limits: BacklogLimits | None) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="model")
        self.path = Path(self.folder.name) / "callbacks.db"
        self.clock = clock
        self.limits = limits
        self.seen: set[UUID] = set()
        self.stores = [self.opened(), self.opened()]

    def opened(self) -> Store:
        return Store(self.path, Ground.of(self.clock), self.limits)

    def put(self, process: int, batch: Batch) -> PutReport:
        (report,) = put_all(self.stores[process], [batch])
        assert isinstance(report, PutReport)
        self.seen.update(report.stored)
        return report

    def claim(self, process: int, limit: int, lease: timedelta, per_origin: int, busy: Mapping[Origin, int]) -> Claimed:
        claimed = claims.claim(self.stores[process], limit, lease, per_origin, busy)
        return Claimed(claimed.claims, claimed.killers)

    def unclaim(self, process: int, claimed: Claimed) -> None:
        claims.unclaim(self.stores[process], claimed.claims)

    def settle(self, process: int, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        return settle(self.stores[process], settlements).applied

    def extend(self, process: int, claim: Claim, lease: timedelta) -> frozenset[Fence]:
        return claims.extend(self.stores[process], [claim], lease)

    def cancel(self, process: int, delivery: UUID) -> Delivery:
        return changes.cancel(self.stores[process], delivery)

    def replay(self, process: int, delivery: UUID) -> Delivery:
        return changes.replay(self.stores[process], delivery)

    def prune(self, process: int, before: datetime) -> int:
        return prune(self.stores[process], instant(before)).forgotten

    def counts(self, process: int) -> Mapping[State, int]:
        return read_counts(self.stores[process].connection)

    def deliveries(self, process: int, known: Collection[UUID]) -> Mapping[UUID, Delivery]:
        store = self.stores[process]
        for one in self.seen - set(known):
            with pytest.raises(DeliveryNotFound):
                read_delivery(store.connection, one, store.policy)
        return {one: read_delivery(store.connection, one, store.policy) for one in known}

    def queued(self) -> Mapping[UUID, tuple[int, int]]:
        rows = self.stores[0].fetch("SELECT id, fence, claims FROM queue JOIN delivery USING (seq)")
        return {UUID(bytes=one): (fence, count) for one, fence, count in rows}

    def tried(self) -> Mapping[UUID, Collection[int]]:
        tried: dict[UUID, list[int]] = {}
        for one, fence in self.stores[0].fetch(
            "SELECT id, fence FROM attempt JOIN delivery ON attempt.delivery = delivery.seq"
        ):
            tried.setdefault(UUID(bytes=one), []).append(fence)
        return tried

    def live(self) -> Mapping[Origin, int]:
        return {KEYS[key]: live for key, live in self.stores[0].fetch("SELECT origin_key, live FROM origin") if live}

    def accepted(self) -> Mapping[Origin, datetime]:
        rows = self.stores[0].fetch("SELECT origin_key, accepted_at FROM origin")
        return {KEYS[key]: time_at(at) for key, at in rows if at}

    def let_pass(self, time: timedelta) -> None:
        """The files are told the time by the clock of the model."""

    def die(self, process: int) -> None:
        self.stores[process].close()
        self.stores[process] = self.opened()

    def close(self) -> None:
        for one in self.stores:
            one.close()
        self.folder.cleanup()


@pytest.mark.parametrize("limits", [None, BOUNDS], ids=["unbounded", "bounded"])
def test_two_processes_do_as_the_ports_promise(limits: BacklogLimits | None) -> None:
    def machine() -> Processes:
        clock = VirtualClock()
        return Processes(TwoStores(clock, limits), clock, limits)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type] # any factory will do
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
    )

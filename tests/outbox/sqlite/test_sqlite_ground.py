from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlite_setting import SQLiteSetting, ask

from callback_middleware import SQLiteOutbox
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim
from callback_middleware.outbox.sqlite import ground
from callback_middleware.outbox.sqlite.claims import claim, extend
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE, MOMENT, ids

HOURS = timedelta(hours=2)
MINUTE = timedelta(minutes=1)


@dataclass
class Machine:
    """A wall clock that anybody may set, the time since boot that nobody can, and which boot it is."""

    wall: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    up: timedelta = timedelta(hours=5)
    boot: str = "first"

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        raise AssertionError("leases of several processes have no monotonic clock in common")

    def passes(self, time: timedelta, *, drift: timedelta = timedelta()) -> None:
        self.up += time
        self.wall += time + drift

    def starts_again(self, boot: str, after: timedelta = MINUTE) -> None:
        self.wall += after
        self.up = timedelta(seconds=30)
        self.boot = boot

    def seconds_up(self) -> float:
        return self.up.total_seconds()

    @property
    def ground(self) -> Ground:
        return Ground(self, lambda: self.boot, self.seconds_up)


class TestGround(SQLiteSetting):
    @pytest.fixture
    def machine(self) -> Machine:
        return Machine()

    @pytest.fixture
    def store(self, path: Path, machine: Machine) -> Any:
        with closing(Store(path, machine.ground)) as store:
            yield store

    def put_one(self, store: Store, machine: Machine, **attributes: Any) -> None:
        delivery = self.delivery(VirtualClock(machine.wall), **attributes)
        put_all(store, [Batch([delivery])])

    def claims(self, store: Store) -> list[Claim]:
        return list(claim(store, 10, LEASE, 10, {}).claims)

    def test_a_lease_lasts_as_long_when_the_wall_clock_is_set_back(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine)
        (first,) = self.claims(store)

        machine.wall -= HOURS
        machine.passes(LEASE - MOMENT)
        early = self.claims(store)
        machine.passes(MOMENT)
        late = self.claims(store)

        assert (len(early), len(late)) == (0, 1)
        assert late[0].fence.number > first.fence.number

    def test_a_lease_lasts_as_long_when_the_wall_clock_is_set_forward(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine)
        self.claims(store)

        machine.wall += HOURS
        at_once = self.claims(store)
        machine.passes(LEASE - MOMENT)
        early = self.claims(store)
        machine.passes(MOMENT)
        late = self.claims(store)

        assert (len(at_once), len(early), len(late)) == (0, 0, 1)

    def test_another_process_sees_the_lease_that_was_moved(self, store: Store, machine: Machine, path: Path) -> None:
        self.put_one(store, machine)
        self.claims(store)
        machine.wall -= HOURS

        with closing(Store(path, machine.ground)) as another:
            assert self.claims(another) == []
            machine.passes(LEASE)
            assert len(self.claims(another)) == 1

    def test_whoever_looks_first_moves_a_lease_and_only_once(self, store: Store, machine: Machine, path: Path) -> None:
        self.put_one(store, machine)
        self.claims(store)
        machine.wall -= HOURS

        with closing(Store(path, machine.ground)) as another:
            for one in (store, another, store, another):
                assert self.claims(one) == []
            machine.passes(LEASE)
            assert [len(self.claims(one)) for one in (another, store)] == [1, 0]

    def test_an_extension_is_counted_from_the_clock_as_it_was_set(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine)
        claims = self.claims(store)
        machine.wall -= HOURS

        owned = extend(store, claims, LEASE)
        machine.passes(LEASE - MOMENT)
        early = self.claims(store)
        machine.passes(MOMENT)

        assert owned == {claims[0].fence}
        assert (len(early), len(self.claims(store))) == (0, 1)

    def test_a_clock_that_drifts_moves_no_lease(self, store: Store, machine: Machine) -> None:
        """A clock that is slewed differs by less than a second when somebody looks; its own time is good enough."""
        self.put_one(store, machine)
        self.claims(store)
        before = ask(store.path, "SELECT due_at FROM queue")

        machine.passes(MINUTE / 4, drift=timedelta(milliseconds=900))

        assert self.claims(store) == []
        assert ask(store.path, "SELECT due_at FROM queue") == before

    def test_what_is_scheduled_stays_at_its_time(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine, due_in=HOURS)
        self.put_one(store, machine)
        self.claims(store)

        machine.wall += HOURS

        assert len(self.claims(store)) == 1

    def test_a_new_boot_ends_the_leases_of_the_one_before(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine)
        (first,) = self.claims(store)

        machine.starts_again("second", after=MOMENT)
        (second,) = self.claims(store)
        again = self.claims(store)

        assert second.fence.number > first.fence.number
        assert again == []

    def test_a_new_boot_with_another_wall_clock_ends_leases_too(self, store: Store, machine: Machine) -> None:
        self.put_one(store, machine)
        self.claims(store)

        machine.starts_again("second", after=-HOURS)

        assert len(self.claims(store)) == 1

    def test_a_process_that_does_not_know_the_boot_ends_nobodys_leases(
        self, store: Store, machine: Machine, path: Path
    ) -> None:
        self.put_one(store, machine)
        self.claims(store)

        with closing(Store(path, replace(machine.ground, boot=str))) as sandboxed:
            assert self.claims(sandboxed) == []
            machine.passes(LEASE - MOMENT)
            assert self.claims(store) == []
            machine.passes(MOMENT)
            assert len(self.claims(sandboxed)) == 1

    def test_a_process_that_does_not_know_the_time_since_boot_believes_the_wall_clock(
        self, store: Store, machine: Machine, path: Path
    ) -> None:
        self.put_one(store, machine)
        self.claims(store)

        with closing(Store(path, replace(machine.ground, since_boot=None))) as another:
            assert self.claims(another) == []
            machine.passes(LEASE - MOMENT)
            assert self.claims(store) == self.claims(another) == []
            machine.passes(MOMENT)
            assert len(self.claims(another)) == 1

    def test_a_probe_of_a_new_file_moves_no_lease(self, store: Store, machine: Machine) -> None:
        """What sees whether writing works makes the row of the clock, and knows no time."""
        store.run("INSERT INTO clock (id, boot, ahead) VALUES (1, '', 0)")
        self.put_one(store, machine)
        self.claims(store)

        machine.passes(LEASE - MOMENT)
        early = self.claims(store)
        machine.passes(MOMENT)

        assert (len(early), len(self.claims(store))) == (0, 1)

    async def test_a_set_back_clock_is_followed_through_the_outbox(
        self, outbox: SQLiteOutbox, path: Path, clock: VirtualClock
    ) -> None:
        another = SQLiteOutbox(path, clock=clock)
        await self.put(outbox, self.delivery(clock))
        first = await self.claim(outbox)
        clock.set_back(HOURS)
        clock.advance(LEASE - MOMENT)
        early = await self.claim(another)
        clock.advance(MOMENT)
        late = await self.claim(another)
        await another.aclose()

        assert (len(early), ids(late)) == (0, ids(first))


def test_the_machines_own_ground_knows_boot_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Ground.of(SystemClock())

    now = machines.now()

    assert abs(now - time.time_ns() // 1000) < 60_000_000
    assert machines.knows(machines.boot(), machines.ahead(now), now)


def test_a_clock_of_another_kind_is_its_own_ground() -> None:
    clock = VirtualClock()
    its = Ground.of(clock)
    ahead = its.ahead(its.now())

    clock.advance(HOURS)
    assert its.knows("", ahead, its.now())
    clock.set_back(HOURS)
    assert not its.knows("", ahead, its.now())
    assert its.moved(ahead, its.now()) == -HOURS // timedelta(microseconds=1)


def test_where_the_kernel_has_no_name_for_a_boot_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "_BOOT_ID", Path("/nowhere/boot_id"))
    ground.boot_id.cache_clear()
    try:
        assert ground.boot_id() == ""
    finally:
        ground.boot_id.cache_clear()


async def test_an_outbox_is_made_without_a_look_at_the_disk(tmp_path: Path) -> None:
    """Within an event loop, where a blocking call fails the test."""
    ground.boot_id.cache_clear()

    SQLiteOutbox(tmp_path / "callbacks.db")

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlite_setting import SQLiteSetting

from callback_middleware.backlog import Bound
from callback_middleware.errors import SubscriptionExists
from callback_middleware.outbox.gathering import Result
from callback_middleware.outbox.plenty import A_WHILE, PLENTY
from callback_middleware.outbox.sqlite.claims import claim
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import MOST_ROWS, put_all
from callback_middleware.outbox.sqlite.room import refusals
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, PutReport
from callback_middleware.subscription import SubscriptionKey, SubscriptionVersion
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, KEY, LEASE, THERE, bounded

OF_BOB = KEY._replace(owner="bob")


@contextmanager
def told(store: Store) -> Iterator[list[str]]:
    """What the file is told meanwhile: the first word of each statement."""
    executed: list[str] = []

    class Counting(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            executed.append(statement.split(maxsplit=1)[0])
            return super().execute(statement, *parameters)

    before = store.connection
    with closing(Counting(store.path, isolation_level=None)) as connection:
        store.connection = connection
        yield executed
        store.connection = before


def counted(result: Result) -> tuple[int, int, int]:
    """How many were stored, duplicates, and refused."""
    assert isinstance(result, PutReport)
    return len(result.stored), len(result.duplicates), len(result.refused)


class TestRoom(SQLiteSetting):
    def batch(self, clock: VirtualClock, *origins: str, **attributes: Any) -> Batch:
        return Batch([self.delivery(clock, origin=origin, **attributes) for origin in origins])

    @bounded()
    def test_where_there_is_room_it_is_one_look_before_the_one_statement(
        self, store: Store, clock: VirtualClock
    ) -> None:
        put_all(store, [self.batch(clock, HERE)])

        with told(store) as executed:
            put_all(store, [self.batch(clock, f"https://{number % 7}.example:443") for number in range(20)])

        assert executed == ["SELECT", "INSERT"]

    @bounded(newcomer=None, per_origin=PLENTY + 2)
    def test_who_has_plenty_is_not_looked_at_again_for_a_while(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, THERE)])

        with told(store) as executed:
            put_all(store, [self.batch(clock, HERE, HERE)])
            put_all(store, [self.batch(clock, HERE), self.batch(clock, HERE, THERE)])
            assert store.plenty._until <= time.monotonic() + A_WHILE
            store.plenty._until = 0.0
            put_all(store, [self.batch(clock, HERE)])

        assert executed == ["SELECT", "INSERT", "INSERT", "SELECT", "INSERT"]

    @bounded(newcomer=None, per_origin=PLENTY + 2)
    def test_who_had_plenty_is_refused_at_the_bound_and_not_before(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, HERE, HERE)])

        results = [put_all(store, [self.batch(clock, *[HERE] * count)])[0] for count in (PLENTY - 1, 1, 1)]

        assert [counted(result) for result in results] == [(PLENTY - 1, 0, 0), (1, 0, 0), (0, 0, 1)]

    @bounded(newcomer=None, per_origin=PLENTY + 2)
    def test_what_is_put_in_other_ways_takes_of_the_same_room(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, HERE, HERE)])
        put_all(store, [self.batch(clock, HERE, dedupe="key")])

        (result,) = put_all(store, [self.batch(clock, *[HERE] * PLENTY)])

        assert counted(result) == (PLENTY - 1, 0, 1)

    @bounded(newcomer=2)
    def test_where_there_is_none_it_is_one_more_and_no_transaction(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, HERE)])

        with told(store) as executed:
            results = put_all(store, [self.batch(clock, HERE, THERE) for _ in range(3)])

        assert executed == ["SELECT", "SELECT", "INSERT"]
        assert [counted(result) for result in results] == [(2, 0, 0), (1, 0, 1), (0, 0, 2)]

    @bounded(newcomer=1)
    def test_where_nothing_finds_room_nothing_is_written(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, HERE)])

        with told(store) as executed:
            results = put_all(store, [self.batch(clock, HERE), self.batch(clock, HERE)])

        assert executed == ["SELECT", "SELECT"]
        assert [counted(result) for result in results] == [(0, 0, 1)] * 2

    def test_without_bounds_nobody_looks(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [self.batch(clock, HERE)])

        with told(store) as executed:
            put_all(store, [self.batch(clock, HERE)])

        assert executed == ["INSERT"]

    @bounded(newcomer=3)
    @pytest.mark.parametrize("count", [MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 2 * MOST_ROWS + 1])
    def test_of_however_many_each_is_judged_by_its_own_origin(
        self, store: Store, clock: VirtualClock, count: int
    ) -> None:
        batch = self.batch(clock, *(f"https://{number}.example:443" for number in range(count)), *[HERE] * 5)

        (result,) = put_all(store, [batch])

        assert isinstance(result, PutReport)
        assert list(result.stored) == [one.id for one in batch.deliveries[:-2]]
        assert list(result.refused) == [one.id for one in batch.deliveries[-2:]]

    @bounded(newcomer=MOST_ROWS)
    def test_known_ids_are_known_however_many_there_are(self, store: Store, clock: VirtualClock) -> None:
        batch, new = self.batch(clock, *[HERE] * MOST_ROWS), self.batch(clock, HERE)
        put_all(store, [batch])

        results = put_all(store, [new, batch])

        assert [counted(result) for result in results] == [(0, 0, 1), (0, 0, 0)]

    @bounded(newcomer=1)
    def test_an_id_that_two_batches_name_takes_room_once_and_is_refused_in_both(
        self, store: Store, clock: VirtualClock
    ) -> None:
        first, second = self.delivery(clock), self.delivery(clock)

        results = put_all(store, [Batch([first]), Batch([first, second]), Batch([second])])

        assert [counted(result) for result in results] == [(1, 0, 0), (0, 0, 1), (0, 0, 1)]

    @bounded(newcomer=2)
    def test_special_batches_share_the_room_of_one_commit(self, store: Store, clock: VirtualClock) -> None:
        batches = [self.batch(clock, HERE), self.batch(clock, HERE, HERE, dedupe="key"), self.batch(clock, HERE)]

        results = put_all(store, batches)

        assert [counted(result) for result in results] == [(1, 0, 0), (1, 1, 0), (0, 0, 1)]

    @bounded(newcomer=1)
    def test_a_batch_that_is_undone_leaves_its_room_to_the_next(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch(subscribe=[self.subscription(clock, OF_BOB)])])
        wrong = self.batch(clock, HERE)._replace(subscribe=[self.subscription(clock)])

        results = put_all(store, [wrong, self.batch(clock, HERE)])

        assert isinstance(results[0], SubscriptionExists)
        assert counted(results[1]) == (1, 0, 0)

    @bounded(per_owner=1)
    def test_a_delivery_that_names_a_subscription_counts_for_its_owner(self, store: Store, clock: VirtualClock) -> None:
        version = SubscriptionVersion(SubscriptionKey("event", "7", "alice"), 1)

        (result,) = put_all(store, [self.batch(clock, HERE, THERE, subscription=version)])

        assert isinstance(result, PutReport)
        assert [one.bound for one in result.refused.values()] == [Bound.PER_OWNER]

    @bounded(newcomer=2)
    def test_processes_count_together(self, store: Store, clock: VirtualClock, path: Path) -> None:
        put_all(store, [self.batch(clock, HERE)])

        with closing(Store(path, Ground.of(clock), store.limits)) as another:
            results = put_all(another, [self.batch(clock, HERE, HERE)])

        assert counted(results[0]) == (1, 0, 1)

    @bounded(newcomer=2)
    def test_each_process_refuses_by_its_own_limits(self, store: Store, clock: VirtualClock, path: Path) -> None:
        with closing(Store(path, Ground.of(clock))) as another:
            put_all(another, [self.batch(clock, *[HERE] * 5)])

        assert counted(put_all(store, [self.batch(clock, HERE)])[0]) == (0, 0, 1)
        assert claim(store, 8, LEASE, 8, {}).claims[0].newcomer

    @bounded(newcomer=5, per_origin=3)
    def test_a_look_changes_nothing(self, store: Store, clock: VirtualClock) -> None:
        deliveries = self.batch(clock, *[HERE] * 4).deliveries

        looks = [refusals(store, deliveries) for _ in range(2)]

        assert looks[0] == looks[1]
        assert list(looks[0]) == [deliveries[3].id]

    def test_an_owner_with_nothing_live_has_no_row(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch(subscribe=[self.subscription(clock)], notify=[self.notification(clock)] * 1)])
        before = store.fetch("SELECT owner, live FROM owner")

        store.run("DELETE FROM queue")

        assert (before, store.fetch("SELECT owner, live FROM owner")) == ([("alice", 1)], [])

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlite_setting import SQLiteSetting, ask

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Dead, Delivered, Delivery, Settlement
from callback_middleware.outbox.sqlite import changes, claims
from callback_middleware.outbox.sqlite.pruning import AT_ONCE, prune
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, LEASE

DAY = timedelta(days=1)


class TestPruning(SQLiteSetting):
    def ended(self, store: Store, clock: VirtualClock, count: int = 1, **attributes: Any) -> list[Delivery]:
        """Deliveries that end now, where nothing else is due."""
        made = [self.delivery(clock, **attributes) for _ in range(count)]
        put_all(store, [Batch(made)])
        self.end_all(store, clock)
        return made

    def end_all(self, store: Store, clock: VirtualClock) -> None:
        while claimed := claims.claim(store, 1000, LEASE, 1000, {}).claims:
            settle(store, [Settlement(one.fence, Delivered(), self.attempt(one, clock.now())) for one in claimed])

    def before(self, clock: VirtualClock, by: timedelta = timedelta()) -> int:
        return instant(clock.now() - by)

    def left(self, store: Store) -> list[UUID]:
        return [UUID(bytes=row[0]) for row in store.fetch("SELECT id FROM delivery ORDER BY seq")]

    def test_what_ended_before_is_forgotten_with_all_that_belongs_to_it(
        self, store: Store, clock: VirtualClock
    ) -> None:
        self.ended(store, clock, 3)
        clock.advance(DAY)
        (young,) = self.ended(store, clock)

        pruned = prune(store, self.before(clock))

        assert pruned == (3, False)
        assert self.left(store) == [young.id]
        for table in ("result", "attempt"):
            assert ask(store.path, f"SELECT count(*) FROM {table}") == [(1,)]  # noqa: S608 - names of ours

    def test_what_ended_at_that_very_time_is_kept(self, store: Store, clock: VirtualClock) -> None:
        self.ended(store, clock)

        assert prune(store, self.before(clock)).forgotten == 0
        clock.advance(timedelta(microseconds=1))
        assert prune(store, self.before(clock)).forgotten == 1

    def test_one_call_forgets_no_more_than_a_put_can_wait_for(self, store: Store, clock: VirtualClock) -> None:
        self.ended(store, clock, 2 * AT_ONCE + 1)
        clock.advance(DAY)

        calls = [prune(store, self.before(clock), 10**9) for _ in range(4)]

        assert calls == [(AT_ONCE, True), (AT_ONCE, True), (1, False), (0, False)]

    async def test_operators_forget_as_many_as_they_say(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(2 * AT_ONCE)))
        await self.settle_all(outbox, clock)
        clock.advance(DAY)

        counts = [await outbox.prune(clock.now(), limit=limit) for limit in (7, AT_ONCE + 1, 10**6)]

        assert counts == [7, AT_ONCE + 1, AT_ONCE - 8]

    def test_what_was_replayed_is_kept_as_long_as_its_last_run(self, store: Store, clock: VirtualClock) -> None:
        (delivery,) = self.ended(store, clock)
        clock.advance(DAY)
        changes.replay(store, delivery.id)
        assert prune(store, self.before(clock)).forgotten == 0
        assert self.left(store) == [delivery.id]
        self.end_all(store, clock)
        assert prune(store, self.before(clock)).forgotten == 0
        clock.advance(DAY)

        assert prune(store, self.before(clock)).forgotten == 1
        assert ask(store.path, "SELECT count(*) FROM attempt") == [(0,)]

    def test_results_of_replayed_ones_are_no_reason_to_stop(self, store: Store, clock: VirtualClock) -> None:
        """They are nothing to forget, and there may be something behind them."""
        replayed = self.ended(store, clock, AT_ONCE)
        self.ended(store, clock, 3)
        clock.advance(DAY)
        for one in replayed:
            changes.replay(store, one.id)

        assert [prune(store, self.before(clock)) for _ in range(3)] == [(0, True), (3, False), (0, False)]

    def test_results_of_a_clock_that_was_ahead_keep_nothing_for_years(self, store: Store, clock: VirtualClock) -> None:
        """They stand first, and say that they ended in ten years."""
        ahead = timedelta(days=3650)
        clock.advance(ahead)
        self.ended(store, clock)
        clock.set_back(ahead)
        clock.advance(1)
        self.ended(store, clock, 3)
        clock.advance(DAY)

        first = prune(store, self.before(clock, by=DAY / 2))
        clock.advance(DAY)
        second = prune(store, self.before(clock, by=DAY / 2))

        assert (first.forgotten, second.forgotten) == (0, 4)

    def test_what_is_still_to_be_done_is_never_forgotten(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock), self.delivery(clock, due_in=DAY)])])
        claims.claim(store, 1, LEASE, 1, {})
        clock.advance(100 * DAY)

        assert prune(store, self.before(clock)) == (0, False)
        assert len(self.left(store)) == 2

    def test_dedupe_keys_stay_as_long_as_they_are_used_and_no_longer(self, store: Store, clock: VirtualClock) -> None:
        def keys() -> int:
            return int(ask(store.path, "SELECT count(*) FROM dedupe")[0][0])

        for number in range(AT_ONCE + 2):
            put_all(store, [Batch([self.delivery(clock, dedupe=str(number))])])
        self.end_all(store, clock)
        clock.advance(DAY - timedelta(microseconds=1))

        prune(store, self.before(clock))
        used = keys()
        clock.advance(timedelta(microseconds=1))
        first, second = prune(store, None), prune(store, None)

        assert used == AT_ONCE + 2
        assert (first, second, keys()) == ((0, True), (0, False), 0)

    def test_subscriptions_that_are_over_are_forgotten_and_those_in_force_are_not(
        self, store: Store, clock: VirtualClock
    ) -> None:
        named = {name: KEY._replace(key=name) for name in ("ended", "expired", "expires", "in force")}
        put_all(
            store,
            [
                Batch(
                    subscribe=[
                        self.subscription(clock, named["ended"]),
                        self.subscription(clock, named["expired"], expires_in=timedelta(hours=1)),
                        self.subscription(clock, named["expires"], expires_in=2 * DAY),
                        self.subscription(clock, named["in force"]),
                    ],
                    end=[named["ended"]],
                )
            ],
        )
        clock.advance(DAY)

        # Whatever time an operator says: what is in force is not over.
        prune(store, instant(clock.now() + 100 * DAY))

        assert ask(store.path, "SELECT key FROM subscription ORDER BY key") == [("expires",), ("in force",)]

    def test_a_subscription_is_remembered_as_long_as_what_was_sent_to_it(
        self, store: Store, clock: VirtualClock
    ) -> None:
        put_all(store, [Batch(subscribe=[self.subscription(clock)], notify=[self.notification(clock)], end=[KEY])])
        clock.advance(DAY)

        def remembered() -> list[Any]:
            prune(store, self.before(clock))
            return ask(store.path, "SELECT generation FROM subscription")

        assert remembered() == [(1,)]
        self.end_all(store, clock)
        assert remembered() == [(1,)]
        clock.advance(DAY)
        assert remembered() == []

    def test_a_late_result_of_what_is_forgotten_is_nobodys(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock)])])
        (claim,) = claims.claim(store, 1, LEASE, 1, {}).claims
        changes.cancel(store, claim.delivery.id)
        clock.advance(DAY)
        prune(store, self.before(clock))

        settled = settle(store, [Settlement(claim.fence, Dead("late"), self.attempt(claim, clock.now()))])

        assert settled.applied == frozenset()
        assert ask(store.path, "SELECT count(*) FROM attempt") == [(0,)]

    def test_the_file_shrinks_when_much_was_forgotten(self, store: Store, clock: VirtualClock, path: Path) -> None:
        def size() -> int:
            store.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
            return path.stat().st_size

        self.ended(store, clock, 3 * AT_ONCE, body=b"x" * 3000)
        grown = size()
        clock.advance(DAY)

        while prune(store, self.before(clock)).more:
            pass
        for _ in range(10):
            prune(store, self.before(clock))

        assert size() < grown / 10

    def test_two_that_forget_together_forget_nothing_that_came_after(
        self, store: Store, clock: VirtualClock, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Numbers of rows are used again: whoever looks before it has the lock may take a new one for an old."""
        self.ended(store, clock, 3)
        clock.advance(DAY)
        looked: list[bool] = []
        fetch = store.fetch

        def watched(statement: str, *parameters: Any) -> list[Any]:
            if "FROM result" in statement:
                looked.append(store.connection.in_transaction)
            return fetch(statement, *parameters)

        monkeypatch.setattr(store, "fetch", watched)
        prune(store, self.before(clock))

        assert looked
        assert all(looked)

    @pytest.mark.parametrize(
        ("time", "forgotten"), [(datetime.min.replace(tzinfo=UTC), 0), (datetime.max.replace(tzinfo=UTC), 1)]
    )
    async def test_any_time_that_there_is_may_be_said(
        self, outbox: SQLiteOutbox, clock: VirtualClock, time: datetime, forgotten: int
    ) -> None:
        await self.put_and_end(outbox, clock, self.delivery(clock))

        assert await outbox.prune(time) == forgotten

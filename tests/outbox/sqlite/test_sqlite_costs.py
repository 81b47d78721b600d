"""What a statement costs must not depend on what is in the file and is none of its business.

Counted in instructions of SQLite's virtual machine, which are the same on every machine and in every run.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from sqlite_setting import SQLiteSetting

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Dead, Delivered, Delivery, Retry, Settlement, Verdict
from callback_middleware.outbox.sqlite import changes, claims, reading
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.pruning import prune
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.reading import read_counts, read_delivery
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, LEASE

FEW: Final = 30
MANY: Final = 6000
MORE: Final = 2.0
"""How many times as much it may cost beside 200 times as many: the indexes are a level or two deeper."""

LIMITS: Final = BacklogLimits(per_origin=10**9, newcomer=10**9)
"""Looked at, and not reached."""

ONE_AFTER_THE_OTHER = re.compile(r"SCAN (?!turn|clock|CONSTANT|\d)")
THROUGH_A_PARTIAL_INDEX = re.compile(r"SCAN queue USING (COVERING )?INDEX queue_(ready|parked|suspect)$")


class Explaining(sqlite3.Connection):
    """Asks of everything that it is told how SQLite would go about it."""

    plans: dict[str, list[str]]

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}:
            self.explain(statement, *parameters)
        return super().execute(statement, *parameters)

    def executemany(self, statement: str, parameters: Iterable[Any]) -> sqlite3.Cursor:
        rows = list(parameters)
        for row in rows[:1]:
            self.explain(statement, row)
        return super().executemany(statement, rows)

    def explain(self, statement: str, *parameters: Any) -> None:
        plan = super().execute(f"EXPLAIN QUERY PLAN {statement}", *parameters).fetchall()
        self.plans[statement] = [row[3] for row in plan]


class TestCosts(SQLiteSetting):
    def put(self, store: Store, deliveries: Iterable[Delivery]) -> None:  # type: ignore[override]
        put_all(store, [Batch(list(deliveries))])

    def claim(self, store: Store, limit: int = 8, **busy: Any) -> claims.Claimed:  # type: ignore[override]
        return claims.claim(store, limit, LEASE, 8, busy)

    def cost(self, store: Store, act: Callable[[], object]) -> int:
        """Instructions, to the nearest ten."""
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        store.connection.set_progress_handler(count, 10)
        act()
        store.connection.set_progress_handler(None, 0)
        return counted

    def fill(self, store: Store, clock: VirtualClock, kind: str, count: int) -> None:
        if kind == "parked":
            self.put(store, (self.delivery(clock, due_in=timedelta(days=1)) for _ in range(count)))
        elif kind == "due of one origin":
            self.put(store, (self.delivery(clock) for _ in range(count)))
        elif kind == "due of many origins":
            self.put(store, (self.delivery(clock, origin=f"https://{one}.example:443") for one in range(count)))
        elif kind == "delivered":
            self.put(store, (self.delivery(clock) for _ in range(count)))
            while claimed := claims.claim(store, 1000, LEASE, 1000, {}).claims:
                settle(store, [Settlement(one.fence, Delivered(), self.attempt(one, clock.now())) for one in claimed])
        elif kind == "subscribed":
            keys = [SubscriptionKey("invoice_notification", str(number), None) for number in range(count)]
            put_all(store, [Batch(subscribe=[self.subscription(clock, key) for key in keys])])
        elif kind == "keys":
            self.put(store, (self.delivery(clock, dedupe=str(one), due_in=timedelta(days=1)) for one in range(count)))

    kinds = pytest.mark.parametrize(
        "kind", ["parked", "due of one origin", "due of many origins", "delivered", "subscribed", "keys"]
    )

    @pytest.fixture
    def backlog(self) -> BacklogLimits:
        return LIMITS

    def costs(self, tmp_path: Path, clock: VirtualClock, kind: str, act: Callable[[Store], object]) -> list[int]:
        """Of the same, beside few and beside many."""
        costs = []
        for count in (FEW, MANY):
            with closing(Store(tmp_path / f"{count}.db", Ground.of(clock), LIMITS)) as store:
                self.fill(store, clock, kind, count)
                # What has come due is taken in by the first claims.
                self.claim(store, 1)
                costs.append(self.cost(store, lambda: act(store)))
        return costs

    @kinds
    def test_a_put_costs_what_is_put(self, tmp_path: Path, clock: VirtualClock, kind: str) -> None:
        def act(store: Store) -> None:
            self.put(store, [self.delivery(clock) for _ in range(10)])
            put_all(store, [Batch([self.delivery(clock, dedupe="another")], notify=[self.notification(clock)])])

        few, many = self.costs(tmp_path, clock, kind, act)

        assert many <= few * MORE

    @kinds
    def test_a_claim_costs_what_is_claimed(self, tmp_path: Path, clock: VirtualClock, kind: str) -> None:
        def act(store: Store) -> None:
            for _ in range(3):
                self.claim(store)
            store.next_due = claims._next_due(store)

        few, many = self.costs(tmp_path, clock, kind, act)

        assert many <= few * MORE

    def test_a_claim_costs_nothing_for_what_is_due_of_an_origin_that_hangs(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        def act(store: Store) -> None:
            for _ in range(3):
                assert claims.claim(store, 8, LEASE, 8, {HERE: 8}).claims == ()

        few, many = self.costs(tmp_path, clock, "due of one origin", act)

        assert many <= few * MORE

    @kinds
    def test_a_settlement_costs_what_is_settled(self, tmp_path: Path, clock: VirtualClock, kind: str) -> None:
        costs = []
        for count in (FEW, MANY):
            with closing(Store(tmp_path / f"{count}.db", Ground.of(clock), LIMITS)) as store:
                self.fill(store, clock, kind, count)
                self.put(store, [self.delivery(clock, origin="https://mine.example:443")])
                (one, *_) = self.claim(store, 1, **{HERE: 8}).claims
                attempt = self.attempt(one, clock.now())
                again = Settlement(one.fence, Retry(timedelta(1)), attempt)
                ending = [Settlement(one.fence, Delivered(), attempt)]
                costs.append(
                    self.cost(store, lambda: claims.extend(store, [one], LEASE))  # noqa: B023 - called at once
                    + self.cost(store, lambda: settle(store, [again]))  # noqa: B023
                    + self.cost(store, lambda: settle(store, ending))  # noqa: B023
                )

        assert costs[1] <= costs[0] * MORE

    @kinds
    def test_one_delivery_is_read_for_the_cost_of_one(self, tmp_path: Path, clock: VirtualClock, kind: str) -> None:
        def act(store: Store) -> None:
            for (found,) in store.fetch("SELECT id FROM delivery LIMIT 1"):
                read_delivery(store.connection, UUID(bytes=found), store.policy)

        few, many = self.costs(tmp_path, clock, kind, act)

        assert many <= few * MORE

    @kinds
    def test_what_is_forgotten_is_found_without_looking_at_the_rest(
        self, tmp_path: Path, clock: VirtualClock, kind: str
    ) -> None:
        long_ago = instant(clock.now() - timedelta(days=30))

        few, many = self.costs(tmp_path, clock, kind, lambda store: prune(store, long_ago))

        # Of results it looks at the oldest 500, whenever they ended.
        assert many <= few * MORE + (5000 if kind == "delivered" else 0)

    def test_no_statement_that_is_made_often_goes_through_a_table(self, store: Store, clock: VirtualClock) -> None:
        """Instructions are counted over what a test thinks of; a plan says it of every file."""
        for kind in ("delivered", "parked", "due of one origin", "due of many origins", "subscribed", "keys"):
            self.fill(store, clock, kind, FEW)
        with closing(Explaining(store.path, isolation_level=None)) as connection:
            connection.plans = {}
            store.connection = connection
            self.everyday_life(store, clock)
            through = {
                statement: [line for line in plan if ONE_AFTER_THE_OTHER.match(line)]
                for statement, plan in connection.plans.items()
            }

        assert len(through) > 20
        # Made when somebody has set the clock, once: it looks at everything that is parked.
        del through["UPDATE queue SET due_at = due_at + ? WHERE leased = 1 AND ready = 0"]
        # The first ones in the order of the table itself.
        del through["SELECT rowid, delivery, ended_at FROM result ORDER BY rowid LIMIT ?"]
        for statement, lines in through.items():
            # The first one of an index is enough for those that ask whether there is any.
            first_only = "EXISTS" in statement or "min(" in statement or "LIMIT" in statement
            left = [line for line in lines if not (first_only and THROUGH_A_PARTIAL_INDEX.match(line))]
            assert not left, statement

    def everyday_life(self, store: Store, clock: VirtualClock) -> None:
        """Puts of every kind, claims, suspects, results of every kind, cancelling, replaying, forgetting."""
        subscribed = SubscriptionKey("invoice_notification", "7", None)
        notification = self.notification(clock, subscribed, dedupe="n")
        put_all(store, [Batch([self.delivery(clock)])])
        put_all(store, [Batch([self.delivery(clock, dedupe="d")], notify=[notification], end=[subscribed])])
        put_all(store, [Batch(subscribe=[self.subscription(clock, subscribed)])])
        claimed = self.claim(store, 8).claims
        claims.extend(store, claimed, LEASE)
        claims.unclaim(store, claimed[:1])
        verdicts: list[Verdict] = [Delivered(), Dead("gone", gone=True), Retry(timedelta(hours=1), "was down")]
        settle(
            store,
            [
                Settlement(one.fence, verdict, self.attempt(one, clock.now()))
                for one, verdict in zip(claimed[1:4], verdicts, strict=True)
            ],
        )
        clock.set_back(timedelta(hours=1))
        self.claim(store, 1)
        clock.advance(LEASE)
        for _ in range(2):
            self.claim(store)
        changes.cancel(store, claimed[4].delivery.id)
        changes.replay(store, claimed[1].delivery.id)
        changes.replay_each(store, ids=[claimed[2].delivery.id], counted=Counter(), spacing=LEASE)
        read_delivery(store.connection, claimed[1].delivery.id, store.policy)
        prune(store, instant(clock.now() + timedelta(days=1)))

    @pytest.mark.parametrize("state", [State.DEAD, State.PENDING, State.DELIVERED])
    def test_to_page_through_many_costs_what_they_are(
        self, tmp_path: Path, clock: VirtualClock, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And not for every page all of them."""
        monkeypatch.setattr(reading, "FEW", 100)
        costs = []
        for count in (MANY // 10, MANY):
            with closing(Store(tmp_path / f"{count}.db", Ground.of(clock), LIMITS)) as store:
                self.fill(store, clock, "parked" if state is State.PENDING else "delivered", count)
                if state is State.DEAD:
                    store.run("UPDATE result SET state = 'dead'")

                costs.append(self.cost(store, partial(self.page_through, store, state, count)))

        assert costs[1] <= 10 * costs[0] * MORE

    def page_through(self, store: Store, state: State, count: int) -> None:
        after: UUID | None = None
        found = 0
        while page := list(
            itertools.islice(
                reading.select(store.connection, Selection(states=[state]), after, store.policy, at_once=50), 50
            )
        ):
            after = page[-1].id
            found += len(page)
        assert found == count

    def test_few_among_many_are_found_for_the_cost_of_few(self, tmp_path: Path, clock: VirtualClock) -> None:
        def act(store: Store) -> None:
            dead = Selection(states=[State.DEAD, State.CANCELLED])
            assert len(list(reading.select(store.connection, dead, None, store.policy, at_once=50))) == 1

        costs = []
        for count in (FEW, MANY):
            with closing(Store(tmp_path / f"{count}.db", Ground.of(clock), LIMITS)) as store:
                self.fill(store, clock, "delivered", count)
                store.run("UPDATE result SET state = 'dead' WHERE rowid = 7")
                costs.append(self.cost(store, lambda: act(store)))

        assert costs[1] <= costs[0] * MORE

    def test_counting_reads_no_delivery(self, store: Store, clock: VirtualClock) -> None:
        self.fill(store, clock, "delivered", FEW)
        body = replace(self.delivery(clock), body=b"x" * 100_000)
        self.put(store, [body])
        with closing(Explaining(store.path, isolation_level=None)) as connection:
            connection.plans = {}
            read_counts(connection)
            (plan,) = connection.plans.values()

        assert not [line for line in plan if "delivery" in line.split()]
        assert any("INDEX result_state" in line for line in plan)

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlite_setting import SQLiteSetting, ask

from callback_middleware.delivery import Delivery
from callback_middleware.errors import OutboxUnavailable, OutboxUncertain, SubscriptionExists
from callback_middleware.outbox.sqlite import puts
from callback_middleware.outbox.sqlite.claims import claim
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import MOST_ROWS, put_all
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch, PutReport
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY

HALF = "\ud800"
BEYOND_THE_CALENDAR = timedelta.max


def numbers(store: Store) -> list[int]:
    return [number for (number,) in store.fetch("SELECT seq FROM delivery ORDER BY seq")]


def told(result: PutReport | Exception) -> tuple[list[UUID], list[UUID], list[UUID]]:
    """Stored, duplicates and unsubscribed; of whatever sequence they are."""
    assert isinstance(result, PutReport)
    return list(result.stored), list(result.duplicates), list(result.unsubscribed)


class TestPuts(SQLiteSetting):
    def commits(self, path: Path, act: Callable[[], object]) -> int:
        """Whether another connection sees one commit, or how many."""
        with closing(sqlite3.connect(path)) as another:
            look = "PRAGMA data_version"
            before = another.execute(look).fetchone()
            act()
            return int(another.execute(look).fetchone() != before)

    def test_plain_batches_are_one_statement_which_is_the_commit(
        self, store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches = [Batch([self.delivery(clock) for _ in range(3)]) for _ in range(50)]
        put_all(store, batches[:1])
        executed: list[str] = []

        class Counting(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                executed.append(statement.split(maxsplit=1)[0])
                return super().execute(statement, *parameters)

        with closing(Counting(store.path, isolation_level=None)) as connection:
            monkeypatch.setattr(store, "connection", connection)
            reports = put_all(store, batches[1:])

        assert executed == ["INSERT"]
        assert [told(report)[0] for report in reports] == [
            [one.id for one in batch.deliveries] for batch in batches[1:]
        ]

    @pytest.mark.parametrize("count", [1, MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 2 * MOST_ROWS + 1])
    def test_however_many_there_are_all_are_stored_and_queued(
        self, store: Store, clock: VirtualClock, count: int
    ) -> None:
        deliveries = [self.delivery(clock) for _ in range(count)]

        (report,) = put_all(store, [Batch(deliveries)])

        assert told(report) == ([one.id for one in deliveries], [], [])
        assert numbers(store) == [number for (number,) in store.fetch("SELECT seq FROM queue ORDER BY seq")]
        assert len(numbers(store)) == count

    def test_more_than_one_statement_are_one_commit(self, store: Store, clock: VirtualClock, path: Path) -> None:
        deliveries = [self.delivery(clock) for _ in range(MOST_ROWS)]
        spoilt = replace(self.delivery(clock), deadline=BEYOND_THE_CALENDAR)

        results = put_all(store, [Batch(deliveries), Batch([self.delivery(clock), spoilt])])

        assert isinstance(results[0], PutReport)
        assert isinstance(results[1], OverflowError)
        assert len(numbers(store)) == MOST_ROWS

    @pytest.mark.parametrize("known", ["first", "middle", "last", "all", "none"])
    def test_the_report_names_what_is_new_among_what_is_known(
        self, store: Store, clock: VirtualClock, known: str
    ) -> None:
        deliveries = [self.delivery(clock) for _ in range(9)]
        before = {"first": deliveries[:1], "middle": deliveries[3:6], "last": deliveries[-1:], "all": deliveries}
        put_all(store, [Batch(before.get(known, ()))])

        reports = put_all(store, [Batch(deliveries[:4]), Batch(deliveries[4:])])

        new = [one.id for one in deliveries if one not in before.get(known, ())]
        assert [one for report in reports for one in told(report)[0]] == new
        assert len(numbers(store)) == 9

    def test_an_id_that_stands_in_two_batches_is_the_first_ones(self, store: Store, clock: VirtualClock) -> None:
        one, two, three = (self.delivery(clock) for _ in range(3))
        put_all(store, [Batch([three])])

        results = put_all(store, [Batch([one, three]), Batch([one, two]), Batch([two, two])])

        assert [told(result)[0] for result in results] == [[one.id], [two.id], []]

    def test_a_forgotten_number_that_is_used_again_confuses_nobody(self, store: Store, clock: VirtualClock) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        put_all(store, [Batch([first])])
        store.run("DELETE FROM queue")
        store.run("DELETE FROM delivery")

        results = put_all(store, [Batch([second]), Batch([second])])

        assert [told(result)[0] for result in results] == [[second.id], []]

    @pytest.mark.parametrize(
        "spoil",
        [
            {"tags": {"half": HALF}},
            {"url": HALF},
            {"deadline": BEYOND_THE_CALENDAR},
            {"url": None},
            {"url": object()},
            {"headers": [["not", "hashable"]]},
            {"tags": {"not": object()}},
            {"retry": None},
            {"created_at": None},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("plain", [True, False])
    def test_what_cannot_be_written_harms_no_neighbour(
        self, store: Store, clock: VirtualClock, spoil: dict[str, Any], plain: bool
    ) -> None:
        good = [Batch([self.delivery(clock, dedupe=None if plain else str(number))]) for number in range(4)]
        bad = Batch([self.delivery(clock), self.delivery(clock, **spoil), self.delivery(clock)])

        results = put_all(store, [*good[:2], bad, *good[2:]])

        assert [type(result) for result in results if not isinstance(result, Exception)] == [PutReport] * 4
        assert isinstance(results[2], Exception)
        assert len(numbers(store)) == len(claim(store, 100, timedelta(seconds=30), 100, {}).claims) == 4
        assert not store.connection.in_transaction

    def test_a_key_that_is_anothers_harms_no_neighbour_and_undoes_its_batch(
        self, store: Store, clock: VirtualClock
    ) -> None:
        put_all(store, [Batch(subscribe=[self.subscription(clock)])])
        thief = self.subscription(clock, SubscriptionKey(KEY.callback, KEY.key, "mallory"))
        undone = Batch(deliveries=[self.delivery(clock, dedupe="key")], subscribe=[thief], end=[KEY], notify=[])
        kept = Batch([self.delivery(clock, dedupe="key")], notify=[self.notification(clock)])

        results = put_all(store, [undone, kept])

        assert isinstance(results[0], SubscriptionExists)
        assert told(results[1]) == ([kept.deliveries[0].id, kept.notify[0].id], [], [])

    def test_a_failure_of_the_file_is_everybodys(self, store: Store, clock: VirtualClock) -> None:
        store.run("DROP TABLE dedupe")
        batches = [Batch([self.delivery(clock)]), Batch([self.delivery(clock, dedupe="key")])]

        with pytest.raises(OutboxUnavailable):
            put_all(store, batches)

        assert numbers(store) == []
        assert not store.connection.in_transaction

    def test_a_commit_of_one_statement_is_in_doubt_as_any_other(
        self, store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_all(store, [Batch([self.delivery(clock)])])

        def fail(statement: str, *parameters: object) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        monkeypatch.setattr(store, "run", fail)

        with pytest.raises(OutboxUncertain):
            put_all(store, [Batch([self.delivery(clock)])])

    def test_a_commit_of_one_statement_that_another_process_locks_out_is_certain(
        self, store: Store, clock: VirtualClock, path: Path
    ) -> None:
        put_all(store, [Batch([self.delivery(clock)])])
        store.run("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(OutboxUnavailable, match="locked"):
                put_all(store, [Batch([self.delivery(clock)])])

        assert len(numbers(store)) == 1

    def test_batches_with_nothing_in_them_are_no_commit(self, store: Store, path: Path) -> None:
        assert self.commits(path, lambda: put_all(store, [Batch(), Batch()])) == 0
        assert put_all(store, [Batch(), Batch()]) == [PutReport(), PutReport()]

    def test_the_statement_of_a_size_is_made_once(self) -> None:
        assert puts._statement(3) is puts._statement(3)
        assert puts._statement(3).count("(?") == 3

    def test_no_number_of_rows_has_more_parameters_than_sqlite_takes(self, store: Store) -> None:
        assert puts._statement(MOST_ROWS).count("?") < 32_766

    def test_a_dedupe_key_is_shared_by_processes(self, store: Store, path: Path, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock, dedupe="key")])])
        again = self.delivery(clock, dedupe="key")

        with closing(Store(path, Ground.of(clock))) as another:
            (result,) = put_all(another, [Batch([again])])

        assert told(result) == ([], [again.id], [])

    def test_what_is_put_is_in_the_file_and_not_only_in_its_log_or_memory(
        self, store: Store, path: Path, clock: VirtualClock
    ) -> None:
        put_all(store, [Batch([self.delivery(clock)])])

        assert ask(path, "SELECT count(*) FROM delivery") == [(1,)]

    def test_the_earliest_of_what_was_put_is_news(self, clock: VirtualClock) -> None:
        def due(seconds: int) -> Delivery:
            return self.delivery(clock, due_in=timedelta(seconds=seconds))

        later = self.notification(clock, due_in=timedelta(seconds=3))
        base = puts.earliest_due([Batch([due(0)])])
        assert base is not None

        assert puts.earliest_due([]) is None
        assert puts.earliest_due([Batch(), Batch()]) is None
        assert puts.earliest_due([Batch([due(5), due(7)]), Batch(notify=[later])]) == base + 3_000_000

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_setting import SQLiteSetting, ask, tell

from callback_middleware.errors import OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.sqlite import faults
from callback_middleware.outbox.sqlite.claims import claim
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY

HALF = "\ud800"
"""Half a surrogate pair: no database takes it."""


class Breaking(sqlite3.Connection):
    """Its next statement of a kind fails as SQLite would."""

    broken: tuple[str, int] | None = None

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        if self.broken is not None and statement.startswith(self.broken[0]):
            error = sqlite3.OperationalError("so it is")
            error.sqlite_errorcode = self.broken[1]
            self.broken = None
            raise error
        return super().execute(statement, *parameters)  # type: ignore[arg-type]


class TestTransactions(SQLiteSetting):
    @pytest.fixture
    def breaking(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Breaking:
        """The store's connection, in its place."""
        connection = Breaking(store.path, timeout=0, isolation_level=None)
        monkeypatch.setattr(store, "connection", connection)
        return connection

    def test_what_raises_within_is_undone(self, store: Store) -> None:
        def act() -> None:
            with store.transaction():
                store.run("INSERT INTO retry (policy) VALUES ('{}')")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            act()

        assert not store.connection.in_transaction
        assert store.fetch("SELECT * FROM retry") == []

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT])
    def test_a_failure_before_the_commit_is_certain(self, store: Store, breaking: Breaking, code: int) -> None:
        breaking.broken = ("INSERT", code)

        with pytest.raises(OutboxUnavailable), store.transaction():
            store.run("INSERT INTO retry (policy) VALUES ('{}')")

        assert not store.connection.in_transaction

    def test_a_commit_whose_write_failed_is_in_doubt(self, store: Store, breaking: Breaking) -> None:
        breaking.broken = ("COMMIT", sqlite3.SQLITE_IOERR_FSYNC)

        with pytest.raises(OutboxUncertain, match="it may have been stored all the same"), store.transaction():
            store.run("INSERT INTO retry (policy) VALUES ('{}')")

        assert not store.connection.in_transaction

    def test_a_commit_for_which_there_is_no_room_is_certain(self, store: Store, breaking: Breaking) -> None:
        breaking.broken = ("COMMIT", sqlite3.SQLITE_FULL)

        with pytest.raises(OutboxUnavailable, match="free space"), store.transaction():
            store.run("INSERT INTO retry (policy) VALUES ('{}')")

        assert not store.connection.in_transaction

    def test_what_another_process_locks_is_said_before_anything_is_done(
        self, store: Store, breaking: Breaking, path: Path
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(OutboxUnavailable, match="another process has locked it"), store.transaction():
                raise AssertionError("there is no transaction")

        assert not breaking.in_transaction

    def test_after_what_need_not_be_synced_everything_is_again(self, store: Store, breaking: Breaking) -> None:
        def level() -> int:
            return int(store.fetch("PRAGMA synchronous")[0][0])

        assert level() == 2
        for broken in (None, ("COMMIT", sqlite3.SQLITE_FULL)):
            breaking.broken = broken
            with suppress(OutboxUnavailable), store.unsynced(), store.transaction():
                assert level() == 1
            assert level() == 2

    def test_a_file_that_was_removed_is_not_written(self, store: Store, path: Path, clock: VirtualClock) -> None:
        path.unlink()

        with pytest.raises(OutboxUnavailable, match="removed or replaced while it was in use"):
            put_all(store, [Batch([self.delivery(clock)])])

    def test_a_file_that_was_replaced_is_not_written(self, store: Store, path: Path, clock: VirtualClock) -> None:
        path.rename(path.with_name("moved.db"))
        tell(path, "CREATE TABLE somebody_elses (id)")

        with pytest.raises(OutboxUnavailable, match="removed or replaced while it was in use"):
            put_all(store, [Batch([self.delivery(clock)])])

    def test_patience_is_what_a_response_waits_for_its_put_or_less(self, store: Store) -> None:
        assert store.fetch("PRAGMA busy_timeout") == [(faults.PATIENCE * 1000,)]
        assert faults.PATIENCE < 5


class TestPolicies(SQLiteSetting):
    """A delivery without its retry policy can never be claimed, and one with another's is claimed at the wrong time."""

    def policies(self, store: Store) -> list[RetryPolicy]:
        return [one.delivery.retry for one in claim(store, 100, timedelta(seconds=30), 100, {}).claims]

    def test_a_policy_is_kept_once(self, store: Store, clock: VirtualClock) -> None:
        batch = Batch([self.delivery(clock, retry=RetryPolicy.fixed(1)) for _ in range(3)])

        put_all(store, [batch])
        put_all(store, [Batch([self.delivery(clock, retry=RetryPolicy.fixed(1), dedupe="key")])])

        assert len(store.fetch("SELECT * FROM retry")) == 1
        assert self.policies(store) == [RetryPolicy.fixed(1)] * 4

    def test_a_policy_whose_batch_was_undone_is_made_again(self, store: Store, clock: VirtualClock) -> None:
        new = RetryPolicy.fixed(7)
        refused = Batch([self.delivery(clock, retry=new), self.delivery(clock, retry=new, tags={"half": HALF})])
        (failed,) = put_all(store, [Batch([*refused.deliveries, self.delivery(clock, retry=new, dedupe="key")])])

        put_all(store, [Batch([self.delivery(clock, retry=new)])])

        assert isinstance(failed, UnicodeEncodeError)
        assert self.policies(store) == [new]

    def test_the_number_of_a_policy_that_was_undone_is_not_taken_for_it(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A subscription of the batch is read back before the batch is undone: its policy has another's number then."""
        undone, kept = RetryPolicy.fixed(7), RetryPolicy.fixed(8)
        batch = Batch(
            subscribe=[self.subscription(clock, retry=undone)],
            notify=[self.notification(clock), self.notification(clock, tags={"half": HALF})],
        )
        (failed,) = put_all(store, [batch])

        put_all(store, [Batch([self.delivery(clock, retry=kept)])])

        assert isinstance(failed, UnicodeEncodeError)
        assert ask(store.path, "SELECT count(*) FROM retry") == [(1,)]
        assert self.policies(store) == [kept]

    def test_a_policy_of_another_process_is_found(self, store: Store, path: Path, clock: VirtualClock) -> None:
        with closing(Store(path, Ground.of(clock))) as another:
            put_all(another, [Batch([self.delivery(clock, retry=RetryPolicy.fixed(9))])])
            put_all(store, [Batch([self.delivery(clock, retry=RetryPolicy.fixed(9))])])

        assert self.policies(store) == [RetryPolicy.fixed(9)] * 2
        assert ask(path, "SELECT count(*) FROM retry") == [(1,)]

    def test_two_that_make_a_policy_together_both_have_it(
        self, store: Store, path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process makes it between this one's look and its insert."""
        new, fetch = RetryPolicy.fixed(9), store.fetch

        def late(statement: str, *parameters: object) -> list[object]:
            found = fetch(statement, *parameters)  # type: ignore[arg-type]
            if statement.startswith("SELECT id FROM retry") and not found:
                with closing(Store(path, Ground.of(clock))) as another:
                    another.retry_id(new)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(store, "fetch", late)
            (report,) = put_all(store, [Batch([self.delivery(clock, retry=new)])])

        assert not isinstance(report, Exception)
        assert self.policies(store) == [new]

    def test_a_subscriptions_policy_outlives_its_transaction(self, store: Store, clock: VirtualClock) -> None:
        policy = RetryPolicy.fixed(5)
        put_all(store, [Batch(subscribe=[self.subscription(clock, KEY, retry=policy)])])

        put_all(store, [Batch(notify=[self.notification(clock)])])

        assert self.policies(store) == [policy]

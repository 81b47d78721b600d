"""What is stored in the user's own transaction is there if that commits, once, and leaves no other trace."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sqlalchemy
from sqlalchemy import orm
from sqlite_setting import SQLiteSetting, ask, tell

from callback_middleware import SQLiteOutbox
from callback_middleware.backlog import Bound
from callback_middleware.errors import ConfigurationError, OutboxUnavailable, SubscriptionExists
from callback_middleware.outbox.sqlite import joining
from callback_middleware.ports import Batch, Fate, TransactionalOutbox
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, bounded


@pytest.fixture
async def file(outbox: SQLiteOutbox, path: Path) -> Path:
    """The outbox' file, with a table of the user's in it."""
    await outbox.start()
    tell(path, "CREATE TABLE invoice (id TEXT)")
    return path


@pytest.fixture
def mine(file: Path) -> Iterator[sqlite3.Connection]:
    """The user's connection."""
    # The outbox itself writes now and then.
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        yield connection


def invoices(path: Path) -> list[str]:
    return [id_ for (id_,) in ask(path, "SELECT id FROM invoice")]


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else is in the middle of a transaction that writes."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


class TestJoining(SQLiteSetting):
    def batch(self, clock: VirtualClock, **attributes: Any) -> Batch:
        return Batch([self.delivery(clock, **attributes)])

    # What becomes of it

    async def test_committed_it_is_there_with_what_it_was_committed_with(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        delivery = self.delivery(clock)
        mine.execute("INSERT INTO invoice VALUES ('7')")
        joined = outbox.put_in_sync(mine, Batch([delivery]))
        assert list(joined.report.stored) == [delivery.id]
        mine.commit()

        assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        assert (await self.claim_one(outbox)).delivery == await outbox.get(delivery.id)
        assert not await self.claim(outbox)
        assert invoices(file) == ["7"]

    async def test_rolled_back_there_is_nothing(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        mine.execute("INSERT INTO invoice VALUES ('7')")
        joined = await outbox.put_in(mine, self.batch(clock, dedupe="7"))
        mine.rollback()

        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK
        assert not await self.claim(outbox)
        assert invoices(file) == []
        # Its dedupe key was not used either.
        assert (await outbox.put(self.batch(clock, dedupe="7"))).stored

    async def test_a_search_does_not_see_it_before_the_commit(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        outbox.put_in_sync(mine, self.batch(clock))
        assert sum((await outbox.counts()).values()) == 0
        mine.commit()
        assert sum((await outbox.counts()).values()) == 1

    async def test_everything_that_a_batch_may_hold_is_stored(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        other = KEY._replace(key="invoice 8")
        await self.subscribe(outbox, self.subscription(clock, other))
        notification, unheard = self.notification(clock), self.notification(clock, KEY._replace(owner="bob"))
        batch = Batch([self.delivery(clock)], [self.subscription(clock)], [notification, unheard], [other])

        report = outbox.put_in_sync(mine, batch).report
        mine.commit()

        assert (len(report.stored), list(report.unsubscribed)) == (2, [unheard.id])
        assert [one.key for one in await outbox.subscriptions()] == [KEY]
        assert len(await self.claim(outbox)) == 2

    async def test_a_known_id_and_a_used_dedupe_key_change_nothing(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        known, used = self.delivery(clock, dedupe="7"), self.delivery(clock, dedupe="7")
        await self.put(outbox, known)
        joined = outbox.put_in_sync(mine, Batch([known, used]))
        mine.commit()
        assert (list(joined.report.stored), list(joined.report.duplicates)) == ([], [used.id])
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    @bounded(newcomer=1)
    async def test_what_finds_no_room_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        report = outbox.put_in_sync(mine, Batch([first, second])).report
        mine.commit()
        assert list(report.stored) == [first.id]
        assert report.refused[second.id].bound is Bound.NEWCOMER

    async def test_several_puts_are_one_transaction(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        joined = [outbox.put_in_sync(mine, self.batch(clock)) for _ in range(2)]
        mine.commit()
        assert [await outbox.fate(one.transaction) for one in joined] == [Fate.COMMITTED] * 2
        assert len(await self.claim(outbox)) == 2

    @pytest.mark.parametrize("hint", [True, False])
    async def test_those_who_wait_learn_of_it(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, hint: bool
    ) -> None:
        def handler() -> None:
            with closing(sqlite3.connect(file)) as mine:
                outbox.put_in_sync(mine, self.batch(clock))
                mine.commit()

        async def act() -> None:
            await anyio.to_thread.run_sync(handler)
            if hint:
                await outbox.committed()

        await self.claim_meanwhile(outbox, act)

    async def test_the_hint_wakes_at_once_who_would_have_to_look(
        self, outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[int] = []
        monkeypatch.setattr(outbox._session.newsroom, "tell", told.append)
        await outbox.committed()
        assert told == [-1]

    async def test_it_is_a_transactional_outbox(self, outbox: SQLiteOutbox) -> None:
        assert isinstance(outbox, TransactionalOutbox)

    # What fails leaves the user's transaction as it was

    async def test_another_owners_key_leaves_the_transaction_usable_and_nothing_of_the_batch(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        mine.execute("INSERT INTO invoice VALUES ('7')")
        batch = Batch([self.delivery(clock, dedupe="7")], [self.subscription(clock, KEY._replace(owner="bob"))])
        with pytest.raises(SubscriptionExists):
            outbox.put_in_sync(mine, batch)
        mine.commit()
        assert invoices(file) == ["7"]
        assert ask(file, "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM dedupe)") == [(0, 0)]

    async def test_what_was_put_before_in_the_same_transaction_stays(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        joined = outbox.put_in_sync(mine, self.batch(clock))
        taken = Batch([self.delivery(clock)], [self.subscription(clock, KEY._replace(owner="bob"))])
        with pytest.raises(SubscriptionExists):
            outbox.put_in_sync(mine, taken)
        mine.commit()
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        assert len(await self.claim(outbox)) == 1

    async def test_a_transaction_that_was_begun_for_nothing_is_ended(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        with pytest.raises(SubscriptionExists):
            outbox.put_in_sync(mine, Batch(subscribe=[self.subscription(clock, KEY._replace(owner="bob"))]))
        assert not mine.in_transaction

    async def test_an_error_of_the_disk_in_the_middle_takes_nothing_but_the_batch(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        mine.execute("INSERT INTO invoice VALUES ('7')")
        mine.execute("CREATE TEMP TRIGGER full AFTER INSERT ON main.delivery BEGIN SELECT raise(FAIL, 'full'); END")
        with pytest.raises((OutboxUnavailable, sqlite3.IntegrityError), match="full"):
            outbox.put_in_sync(mine, Batch([self.delivery(clock), self.delivery(clock)]))
        mine.commit()
        assert invoices(file) == ["7"]
        assert ask(file, "SELECT count(*) FROM delivery") == [(0,)]

    # How the connection is set up

    @pytest.mark.parametrize("level", ["", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
    async def test_where_python_begins_transactions_one_is_begun(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, level: Any
    ) -> None:
        with closing(sqlite3.connect(file, isolation_level=level)) as mine:
            joined = outbox.put_in_sync(mine, self.batch(clock))
            assert await outbox.fate(joined.transaction) is Fate.OPEN
            mine.commit()
            assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    @pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT mine"])
    async def test_where_nobody_begins_transactions_the_users_own_is_joined(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, begin: str
    ) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as mine:
            mine.execute(begin)
            joined = outbox.put_in_sync(mine, self.batch(clock))
            assert await outbox.fate(joined.transaction) is Fate.OPEN
            mine.execute("COMMIT")
            assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    async def test_nothing_is_stored_outside_a_transaction(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as mine:
            await self.refused(outbox, clock, mine, r"commits every statement by itself.*BEGIN IMMEDIATE")
        assert ask(file, "SELECT count(*) FROM delivery") == [(0,)]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3.connect(autocommit=…) came with Python 3.12")
    async def test_autocommit_as_of_python_3_12(self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path) -> None:
        options: dict[str, Any] = {"autocommit": True}
        with closing(sqlite3.connect(file, **options)) as mine:
            with pytest.raises(ConfigurationError, match="commits every statement by itself"):
                outbox.put_in_sync(mine, self.batch(clock))
            mine.execute("BEGIN")
            joined = outbox.put_in_sync(mine, self.batch(clock))
            mine.execute("COMMIT")
            assert await outbox.fate(joined.transaction) is Fate.COMMITTED
        options = {"autocommit": False}
        with closing(sqlite3.connect(file, **options)) as mine:
            kept = outbox.put_in_sync(mine, self.batch(clock))
            assert await outbox.fate(kept.transaction) is Fate.OPEN
            mine.commit()
            gone = outbox.put_in_sync(mine, self.batch(clock))
            mine.rollback()
            assert [await outbox.fate(one.transaction) for one in (kept, gone)] == [Fate.COMMITTED, Fate.ROLLED_BACK]

    async def test_what_the_user_makes_of_rows_and_text_neither_disturbs_nor_changes(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        class Odd(sqlite3.Connection):
            def cursor(self, *arguments: Any) -> Any:
                raise AssertionError("the user's own")

            def execute(self, *arguments: Any) -> Any:
                raise AssertionError("the user's own")

        await self.subscribe(outbox, self.subscription(clock))
        with closing(sqlite3.connect(file, factory=Odd, isolation_level="DEFERRED")) as mine:
            made = mine.row_factory = lambda cursor, row: {"row": row}
            mine.text_factory = bytes
            batch = Batch([self.delivery(clock)], [self.subscription(clock)], [self.notification(clock)])
            outbox.put_in_sync(mine, batch)
            assert (mine.row_factory, mine.text_factory, mine.isolation_level) == (made, bytes, "DEFERRED")
            mine.commit()
        assert len(await self.claim(outbox)) == 2

    async def test_the_connection_may_be_in_any_thread(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        def handler() -> object:
            with closing(sqlite3.connect(file)) as mine:
                joined = outbox.put_in_sync(mine, self.batch(clock))
                mine.commit()
                return joined.transaction

        # By the time it is asked the connection is closed, and its thread elsewhere.
        assert await outbox.fate(await anyio.to_thread.run_sync(handler)) is Fate.COMMITTED

    async def test_a_connection_that_was_closed_has_rolled_back(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        with closing(sqlite3.connect(file)) as mine:
            joined = outbox.put_in_sync(mine, self.batch(clock))
        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK

    async def test_a_link_to_the_file_is_the_file(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(file)
        with closing(sqlite3.connect(link)) as mine:
            joined = outbox.put_in_sync(mine, self.batch(clock))
            mine.commit()
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    # SQLAlchemy

    async def test_sqlalchemys_session_is_joined(self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path) -> None:
        engine = sqlalchemy.create_engine(f"sqlite:///{file}")
        try:
            with orm.Session(engine) as session:
                session.execute(sqlalchemy.text("INSERT INTO invoice VALUES ('7')"))
                kept = outbox.put_in_sync(session, self.batch(clock))
                session.commit()
                gone = outbox.put_in_sync(session, self.batch(clock))
                session.rollback()
        finally:
            engine.dispose()
        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        assert invoices(file) == ["7"]

    async def test_sqlalchemys_connection_is_joined_in_a_transaction(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        engine = sqlalchemy.create_engine(f"sqlite:///{file}")
        try:
            with engine.connect() as connection:
                # Its commit() would do nothing.
                with pytest.raises(ConfigurationError, match=r"no transaction is open on this SQLAlchemy .*begin\(\)"):
                    outbox.put_in_sync(connection, self.batch(clock))
                with connection.begin():
                    joined = outbox.put_in_sync(connection, self.batch(clock))
        finally:
            engine.dispose()
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    @pytest.mark.parametrize("connection", [object(), None, "callbacks.db"])
    async def test_what_is_no_connection_is_refused_with_those_that_are(
        self, outbox: SQLiteOutbox, clock: VirtualClock, connection: object
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot use a .*sqlite3\.Connection, or SQLAlchemy's Session"):
            outbox.put_in_sync(connection, self.batch(clock))

    async def test_without_sqlalchemy_nothing_of_it_is_looked_for(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.startswith("sqlalchemy")]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(ConfigurationError, match="cannot use"):
            outbox.put_in_sync(object(), self.batch(clock))
        assert "sqlalchemy" not in sys.modules

    # What keeps less than the outbox promises

    async def refused(self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, match: str) -> None:
        before = mine.in_transaction
        with pytest.raises(ConfigurationError, match=match):
            outbox.put_in_sync(mine, self.batch(clock))
        assert mine.in_transaction is before

    @pytest.mark.parametrize("other", ["other.db", ":memory:"])
    async def test_another_file_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, tmp_path: Path, other: str
    ) -> None:
        place = other if other == ":memory:" else tmp_path / other
        with closing(sqlite3.connect(place)) as mine:
            await self.refused(outbox, clock, mine, r"a connection to .*(other\.db|memory)")

    async def test_a_file_that_was_there_before_and_is_another_now_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        await outbox.aclose()
        os.rename(file, file.with_suffix(".old"))  # noqa: PTH104 - it is a moment, on a local disk
        await self.refused(outbox, clock, mine, "is a connection to")

    async def test_an_outbox_that_is_attached_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, tmp_path: Path
    ) -> None:
        with closing(sqlite3.connect(tmp_path / "mine.db")) as mine:
            mine.execute("ATTACH ? AS callbacks", (str(file),))
            await self.refused(outbox, clock, mine, "the outbox is attached to it")

    async def test_another_file_that_is_attached_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, tmp_path: Path
    ) -> None:
        mine.execute("ATTACH ? AS archive", (str(tmp_path / "archive.db"),))
        await self.refused(outbox, clock, mine, "archive is attached to it")
        mine.execute("DETACH archive")
        mine.execute("ATTACH ':memory:' AS scratch")
        outbox.put_in_sync(mine, self.batch(clock))

    @pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_connection_whose_commits_a_power_cut_undoes_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, synchronous: str, begun: bool
    ) -> None:
        mine.execute(f"PRAGMA synchronous = {synchronous}")
        if begun:
            mine.execute("INSERT INTO invoice VALUES ('7')")
        await self.refused(outbox, clock, mine, r"a power cut may undo .*PRAGMA synchronous = FULL")

    async def test_more_than_full_is_enough(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        mine.execute("PRAGMA synchronous = EXTRA")
        outbox.put_in_sync(mine, self.batch(clock))

    async def test_a_file_without_a_write_ahead_log_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        await outbox.aclose()
        with closing(sqlite3.connect(file)) as mine:
            assert mine.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
            await self.refused(outbox, clock, mine, "journal mode is delete")

    @pytest.mark.parametrize("version", [0, 99])
    async def test_a_schema_of_another_version_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, version: int
    ) -> None:
        mine.execute(f"PRAGMA user_version = {version}")
        await self.refused(outbox, clock, mine, f"is version {version}, .*let the outbox open the file first")

    async def test_a_file_that_the_outbox_has_never_opened_is_refused(self, clock: VirtualClock, path: Path) -> None:
        tell(path, "CREATE TABLE invoice (id TEXT)")
        with closing(sqlite3.connect(path)) as mine:
            await self.refused(SQLiteOutbox(path), clock, mine, "is nothing, .*let the outbox open the file first")

    async def test_a_temporary_table_that_hides_ours_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        mine.execute("CREATE TEMP TABLE Owner (owner TEXT)")
        await self.refused(outbox, clock, mine, r"temporary table hides the outbox' own \(owner\)")

    async def test_a_connection_of_another_thread_or_a_closed_one_is_refused(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        with closing(sqlite3.connect(file)) as mine:
            refused = partial(self.refused, outbox, clock, mine, r"cannot be used here .*in the thread that made it")
            await anyio.to_thread.run_sync(anyio.run, refused)
        mine = sqlite3.connect(file)
        mine.close()
        with pytest.raises(ConfigurationError, match="cannot be used here"):
            outbox.put_in_sync(mine, self.batch(clock))

    async def test_one_who_writes_longer_than_the_connection_waits_is_told_of(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        mine.execute("PRAGMA busy_timeout = 1")
        with writing(file):
            with pytest.raises(OutboxUnavailable, match="another connection was writing"):
                outbox.put_in_sync(mine, self.batch(clock))
            assert not mine.in_transaction

    async def test_a_transaction_that_has_read_what_is_old_now_says_so_and_goes_on_reading(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        mine.execute("BEGIN")
        assert mine.execute("SELECT count(*) FROM invoice").fetchall() == [(0,)]
        tell(file, "INSERT INTO invoice VALUES ('8')")
        with pytest.raises(OutboxUnavailable, match=r"has written since .*BEGIN IMMEDIATE"):
            outbox.put_in_sync(mine, self.batch(clock))
        assert mine.execute("SELECT count(*) FROM invoice").fetchall() == [(0,)]
        mine.rollback()
        outbox.put_in_sync(mine, self.batch(clock))

    async def test_a_deferred_transaction_that_has_not_read_waits_for_who_writes(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path
    ) -> None:
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as mine, writing(file) as other:
            mine.execute("BEGIN")
            other.execute("INSERT INTO invoice VALUES ('8')")
            busy = threading.Event()

            def let_go() -> None:
                busy.wait(30)
                other.execute("COMMIT")

            thread = threading.Thread(target=let_go)
            thread.start()
            # Told by SQLite, whenever it runs a statement of ours, that it is about to.
            mine.set_trace_callback(lambda statement: busy.set() if statement.startswith("UPDATE") else None)
            outbox.put_in_sync(mine, self.batch(clock))
            mine.execute("COMMIT")
            thread.join()

    # What became of it, where that is hard to tell

    async def test_rolled_back_it_is_not_open_although_another_transaction_is(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        joined = outbox.put_in_sync(mine, self.batch(clock))
        mine.rollback()
        mine.execute("BEGIN")
        mine.execute("SELECT * FROM invoice").fetchall()
        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK

    async def test_committed_it_is_not_open_although_another_transaction_is(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        joined = outbox.put_in_sync(mine, self.batch(clock))
        mine.commit()
        mine.execute("INSERT INTO invoice VALUES ('8')")
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    async def test_committed_while_it_is_asked_it_is_committed(
        self, outbox: SQLiteOutbox, clock: VirtualClock, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_free = joining._is_free
        with closing(sqlite3.connect(file, check_same_thread=False)) as mine:
            joined = outbox.put_in_sync(mine, self.batch(clock))

            def commit_first(connection: sqlite3.Connection) -> bool:
                mine.commit()
                return is_free(connection)

            monkeypatch.setattr(joining, "_is_free", commit_first)
            assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    async def test_what_a_savepoint_took_back_is_rolled_back_whatever_becomes_of_the_rest(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        mine.execute("SAVEPOINT mine")
        joined = outbox.put_in_sync(mine, self.batch(clock))
        mine.execute("ROLLBACK TO mine")
        assert await outbox.fate(joined.transaction) is Fate.OPEN
        mine.commit()
        assert await outbox.fate(joined.transaction) is Fate.ROLLED_BACK

    async def test_a_subscription_tells_where_nothing_else_does(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        subscribing, ending = Batch(subscribe=[self.subscription(clock)]), Batch(end=[KEY])
        gone = outbox.put_in_sync(mine, subscribing)
        assert await outbox.fate(gone.transaction) is Fate.OPEN
        mine.rollback()
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        clock.advance(timedelta(seconds=1))
        kept = outbox.put_in_sync(mine, Batch(subscribe=[self.subscription(clock)]))
        mine.commit()
        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK

        gone = outbox.put_in_sync(mine, ending)
        mine.rollback()
        assert await outbox.fate(gone.transaction) is Fate.ROLLED_BACK
        ended = outbox.put_in_sync(mine, ending)
        mine.commit()
        assert await outbox.fate(ended.transaction) is Fate.COMMITTED
        # It was there, and somebody has ended it, or replaced it, since.
        assert await outbox.fate(kept.transaction) is Fate.COMMITTED
        await self.subscribe(outbox, self.subscription(clock))
        assert [await outbox.fate(one.transaction) for one in (kept, ended)] == [Fate.COMMITTED] * 2

    async def test_where_nothing_was_changed_it_is_enough_that_it_has_ended(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection
    ) -> None:
        joined = outbox.put_in_sync(mine, Batch(end=[KEY]))
        assert await outbox.fate(joined.transaction) is Fate.OPEN
        mine.commit()
        assert await outbox.fate(joined.transaction) is Fate.COMMITTED

    async def test_where_the_file_cannot_be_asked_nobody_knows(
        self, outbox: SQLiteOutbox, clock: VirtualClock, mine: sqlite3.Connection, file: Path
    ) -> None:
        joined = outbox.put_in_sync(mine, self.batch(clock))
        mine.commit()
        mine.close()
        await outbox.aclose()
        os.truncate(file, 100)
        assert await outbox.fate(joined.transaction) is Fate.UNKNOWN
        assert await outbox.fate(object()) is Fate.UNKNOWN

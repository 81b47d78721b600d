from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlite_setting import SQLiteSetting, held_up, tell

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Dead, Delivery
from callback_middleware.errors import DeliveryNotFound, OutboxUnavailable
from callback_middleware.outbox.sqlite import reader, reading
from callback_middleware.outbox.sqlite.file import open_reader
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE

MINUTE: Final = timedelta(minutes=1)


class TestLog(SQLiteSetting):
    @pytest.mark.parametrize(
        "text", ['say "so"', "back\\slash", "two\nlines", "a\0b", "100%", "a_b", "Ärger", "K", "😀 *?"]
    )
    async def test_a_text_is_found_wherever_it_stands(
        self, outbox: SQLiteOutbox, clock: VirtualClock, text: str
    ) -> None:
        tagged = self.delivery(clock, tags={"note": f"<{text}>"})
        named = self.delivery(clock, operation=f"POST /{text}/")
        await self.put_and_end(outbox, clock, self.delivery(clock), verdict=Dead(f"because of {text}!"))
        (dead,) = (await outbox.search(Selection(states=[State.DEAD]))).deliveries
        await self.put(outbox, tagged, named, self.delivery(clock))

        found = (await outbox.search(Selection(text=text))).deliveries

        assert {one.id for one in found} == {named.id, tagged.id, dead.id}

    async def test_pages_hold_each_delivery_once_while_others_are_put_and_move(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        before = [self.delivery(clock) for _ in range(25)]
        await self.put(outbox, *before)
        found: list[UUID] = []
        after: UUID | None = None
        for page_number in itertools.count():
            page = await outbox.search(Selection(), limit=4, after=after)
            found += [one.id for one in page.deliveries]
            await self.put(outbox, self.delivery(clock))
            if page_number % 2:
                await outbox.cancel(before[page_number].id)
            if page.more is None:
                break
            after = page.more

        assert found == [one.id for one in reversed(before)]

    @pytest.mark.parametrize(("count", "pages"), [(0, [0]), (3, [3]), (4, [4]), (5, [4, 1]), (8, [4, 4])])
    async def test_the_last_page_says_so(
        self, outbox: SQLiteOutbox, clock: VirtualClock, count: int, pages: list[int]
    ) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(count)))
        sizes = []
        after: UUID | None = None
        while True:
            page = await outbox.search(Selection(), limit=4, after=after)
            sizes.append(len(page.deliveries))
            after = page.more
            if after is None:
                break

        assert sizes == pages

    async def test_a_large_page_is_read_in_several_statements(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "MOST_AT_ONCE", 10)
        made = [self.delivery(clock) for _ in range(35)]
        await self.put(outbox, *made)

        page = await outbox.search(Selection(), limit=30)

        assert [one.id for one in page.deliveries] == [one.id for one in reversed(made)][:30]
        assert page.more == made[5].id

    async def test_counts_follow_replays_cancellations_and_pruning(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        def said(counts: Any) -> dict[State, int]:
            return {state: count for state, count in counts.items() if count}

        await self.put_and_end(outbox, clock, self.delivery(clock), self.delivery(clock))
        await self.put_and_end(outbox, clock, self.delivery(clock), verdict=Dead("told so"))
        waiting = self.delivery(clock, due_in=MINUTE)
        await self.put(outbox, waiting)
        assert said(await outbox.counts()) == {State.DELIVERED: 2, State.DEAD: 1, State.PENDING: 1}
        await outbox.cancel(waiting.id)
        assert said(await outbox.counts()) == {State.DELIVERED: 2, State.DEAD: 1, State.CANCELLED: 1}
        await outbox.replay(waiting.id)
        await self.claim_one(outbox)
        assert said(await outbox.counts()) == {State.DELIVERED: 2, State.DEAD: 1, State.SENDING: 1}
        assert await outbox.replay_all(Selection(), dry_run=True) == 3
        assert await outbox.replay_all(Selection(states=[State.DEAD]), spacing=timedelta()) == 1
        assert said(await outbox.counts()) == {State.DELIVERED: 2, State.PENDING: 1, State.SENDING: 1}
        clock.advance(1)
        assert await outbox.prune(clock.now()) == 2
        assert said(await outbox.counts()) == {State.PENDING: 1, State.SENDING: 1}

    async def test_hundreds_are_replayed_in_parts_and_none_is_forgotten(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        count = 1234
        await self.put(outbox, *(self.delivery(clock) for _ in range(count)))
        await self.settle_all(outbox, clock)
        await self.settle_all(outbox, clock)

        assert await outbox.replay_all(Selection(host="here.example"), spacing=timedelta(seconds=1)) == count

        page = await outbox.search(Selection(states=[State.PENDING]), limit=count)
        dues = sorted(one.due_at for one in page.deliveries)
        assert dues == [clock.now() + timedelta(seconds=second) for second in range(count)]

    async def test_a_file_that_vanished_is_out_of_reach_and_is_not_made_by_a_question(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        await outbox.counts()
        await anyio.Path(path).unlink()

        with pytest.raises(OutboxUnavailable, match="cannot be opened"):
            await outbox.counts()

        assert not await anyio.Path(path).exists()

    async def test_what_breaks_while_it_is_read_says_which_file(
        self, outbox: SQLiteOutbox, clock: VirtualClock, path: Path
    ) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        await anyio.to_thread.run_sync(tell, path, "ALTER TABLE attempt RENAME TO gone")

        with pytest.raises(OutboxUnavailable, match=r"callbacks\.db is out of reach"):
            await outbox.attempts(delivery.id)


class Slow(Selection):
    """One that looks at every delivery for as long as a test wants."""

    looking: threading.Event
    go_on: threading.Event

    def matches(self, delivery: Delivery) -> bool:
        self.looking.set()
        self.go_on.wait()
        return True


class TestQuestions(SQLiteSetting):
    @pytest.fixture
    def slow(self) -> Iterator[type[Slow]]:
        class One(Slow):
            looking = threading.Event()
            go_on = threading.Event()

        yield One
        One.go_on.set()

    async def test_a_search_that_takes_long_holds_up_nobody(
        self, outbox: SQLiteOutbox, clock: VirtualClock, slow: type[Slow], path: Path
    ) -> None:
        """Neither puts and claims nor other questions; nor does it keep the log from being emptied."""
        await self.put(outbox, self.delivery(clock))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(outbox.search, slow())
                await anyio.to_thread.run_sync(slow.looking.wait)
                await self.put(outbox, self.delivery(clock))
                assert len(await self.claim(outbox)) == 2
                assert (await outbox.counts())[State.SENDING] == 2
                ((busy, log, moved),) = await outbox._session.desk().call(
                    lambda store: store.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
                )
                slow.go_on.set()

        assert (busy, log, moved) == (0, 0, 0)

    async def test_many_questions_take_few_threads(
        self, outbox: SQLiteOutbox, clock: VirtualClock, slow: type[Slow], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An application's own ``def`` handlers need them."""
        await self.put(outbox, self.delivery(clock))
        running: list[int] = [0]

        def ask(self: reader.Reader, question: Any) -> Any:
            running.append(self._asking + 1)
            return original(self, question)

        original = reader.Reader.ask
        monkeypatch.setattr(reader.Reader, "ask", ask)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(outbox.search, slow())
            await anyio.to_thread.run_sync(slow.looking.wait)
            await anyio.wait_all_tasks_blocked()
            limiter = anyio.to_thread.current_default_thread_limiter()
            assert limiter.borrowed_tokens == 0
            slow.go_on.set()

        assert len(running) == 21
        assert max(running) <= reader.MOST_AT_ONCE

    async def test_a_question_reads_few_rows_for_a_short_page(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bodies may be large."""
        await self.put(outbox, *(self.delivery(clock) for _ in range(50)))
        asked: list[str] = []

        def traced(path: Path) -> sqlite3.Connection:
            connection = open_reader(path)
            connection.set_trace_callback(asked.append)
            return connection

        monkeypatch.setattr(reader, "open_reader", traced)
        await outbox.search(Selection(), limit=3)

        assert [statement[-8:] for statement in asked if "FROM delivery" in statement] == ["OFFSET 4", " LIMIT 4"]

    async def test_no_statement_of_a_long_search_goes_through_everything(
        self, outbox: SQLiteOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While one runs the write-ahead log cannot be reset."""
        monkeypatch.setattr(reading, "MOST_LOOKED_AT", 10)
        monkeypatch.setattr(reading, "MOST_AT_ONCE", 5)
        await self.put(outbox, *(self.delivery(clock) for _ in range(50)), wanted := self.delivery(clock))
        await self.put(outbox, *(self.delivery(clock) for _ in range(49)))
        looked_at: list[int] = []

        def counted(connection: sqlite3.Connection, before: bytes | None, rows: int) -> bytes | None:
            looked_at.append(rows)
            return far_enough(connection, before, rows)

        far_enough = reading._far_enough
        monkeypatch.setattr(reading, "_far_enough", counted)
        page = await outbox.search(Selection(text=str(wanted.url)), limit=1)
        nothing = await outbox.search(Selection(text="nowhere"), limit=1)

        assert page.deliveries
        assert not nothing.deliveries
        assert max(looked_at) == 10
        assert len(looked_at) > 100 / 10

    async def test_a_question_sees_what_was_put_before_it(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        for _ in range(20):
            delivery = self.delivery(clock)
            await self.put(outbox, delivery)
            assert await outbox.get(delivery.id) == delivery

    async def test_a_question_waits_for_its_turn_behind_what_was_asked_before(
        self, outbox: SQLiteOutbox, clock: VirtualClock
    ) -> None:
        delivery = self.delivery(clock)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                with held_up(outbox):
                    tasks.start_soon(self.put, outbox, delivery)
                    while outbox._session.desk()._away is None:
                        await anyio.lowlevel.checkpoint()
                    tasks.start_soon(outbox.get, delivery.id)

    async def test_what_was_forgotten_is_not_found(self, outbox: SQLiteOutbox, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put_and_end(outbox, clock, delivery)
        clock.advance(LEASE)
        await outbox.prune(clock.now())

        for question in (outbox.get, outbox.attempts, outbox.cancel, outbox.replay):
            with pytest.raises(DeliveryNotFound, match=str(delivery.id)):
                await partial(question, delivery.id)()

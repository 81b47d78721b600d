from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_setting import SETTING, SQLiteSetting, held_up, tell

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Settlement
from callback_middleware.destinations import Destination
from callback_middleware.errors import DeliveryNotFound, OutboxUnavailable
from callback_middleware.outbox.sqlite import changes, claims, reader, reading
from callback_middleware.outbox.sqlite.file import open_reader
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.reading import read_counts, read_delivery, select
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import LEASE

MINUTE: Final = timedelta(minutes=1)

# What databases, JSON and patterns have meanings for; letters that have a lower case in one place and none in another.
AWKWARD: Final = [
    "a",
    "B",
    "k",
    "I",
    " ",
    "%",
    "_",
    "*",
    "?",
    "'",
    '"',
    "\\",
    "\n",
    "\0",
    "ä",
    "Ä",
    "K",
    "İ",
    "ß",
    "é",
    "😀",
]

words: Final = st.text(st.sampled_from(AWKWARD), max_size=4)
hosts: Final = st.sampled_from(
    ["a.example", "aa.example", "[::1]", "[2001:db8::1]", "10.0.0.1", "xn--bcher-kva.example"]
)
paths: Final = st.lists(st.sampled_from(["a", "B", "%25", "%5F", "_", "~", "k"]), max_size=4).map("".join)


@dataclass(frozen=True)
class Fate:
    """What becomes of a delivery before operators look."""

    host: str
    path: str
    operation: str
    callback: str
    tags: dict[str, str]
    reason: str
    minute: int
    state: State
    replayed: bool


fates: Final = st.builds(
    Fate,
    host=hosts,
    path=paths,
    operation=words,
    callback=st.sampled_from(["event", "Event", "other"]),
    tags=st.dictionaries(words, words, max_size=2),
    reason=words,
    minute=st.integers(0, 3),
    state=st.sampled_from(State),
    replayed=st.booleans(),
)

minutes: Final = st.integers(0, 3).map(lambda minute: VirtualClock().now() + minute * MINUTE)


@st.composite
def selections(draw: st.DrawFn, everything: list[Delivery]) -> Selection:
    """One that looks for something that is there, or nearly."""
    texts = [text for one in everything for text in (one.url, one.operation, one.reason, *one.tags.values())]
    some = words | st.sampled_from(["EXAMPLE", "post", "://", "tenant"])
    if texts:
        cut = st.tuples(st.sampled_from(texts), st.integers(0, 3), st.integers(1, 5), st.booleans())
        some |= cut.map(lambda drawn: drawn[0][drawn[1] :][: drawn[2]].swapcase() if drawn[3] else drawn[0][drawn[1] :])
    looked_for: dict[str, st.SearchStrategy[Any]] = {
        "states": st.frozensets(st.sampled_from(State), max_size=3),
        "callback": st.sampled_from(["event", "Event", "nobody's"]),
        "host": hosts.map(lambda host: host.strip("[]")) | st.just("example"),
        "since": minutes,
        "until": minutes,
        "text": some,
    }
    # Of all together nothing is left, mostly.
    chosen = draw(st.frozensets(st.sampled_from(sorted(looked_for)), max_size=2) | st.just(frozenset(looked_for)))
    return Selection(**{name: draw(looked_for[name]) for name in sorted(chosen)})


class World:
    """A file with deliveries of every fate."""

    def __init__(self, store: Store, clock: VirtualClock, chosen: list[Fate]) -> None:
        self.store = store
        self.clock = clock
        self.ids = [self.make(fate) for fate in chosen]

    def make(self, fate: Fate) -> UUID:
        store, now = self.store, self.clock.now() + fate.minute * MINUTE
        to = Destination.parse(f"https://{fate.host}/{fate.path}")
        made = SETTING.delivery(
            self.clock,
            url=to.url,
            origin=to.origin,
            operation=fate.operation,
            callback=fate.callback,
            tags=fate.tags,
            created_at=now,
            due_at=self.clock.now(),
        )
        put_all(store, [Batch([made])])
        self.reach(fate)
        if fate.replayed and read_delivery(store.connection, made.id, store.policy).state.terminal:
            changes.replay(store, made.id)
            self.reach(replace(fate, reason=fate.reason + "again"))
        return made.id

    def reach(self, fate: Fate) -> None:
        """What is due is this one alone: the others are parked, leased or over."""
        store = self.store
        (one,) = claims.claim(store, 1, timedelta(days=1), 10**6, {}).claims
        attempt = SETTING.attempt(one, self.clock.now(), 500)
        verdict: Retry | Dead | Delivered | Released = Released(timedelta(days=1))
        match fate.state:
            case State.SENDING:
                return
            case State.PENDING:
                verdict = Retry(timedelta(days=1), fate.reason)
            case State.DELIVERED:
                verdict = Delivered()
            case State.DEAD:
                verdict = Dead(fate.reason)
            case State.CANCELLED:
                verdict = Retry(timedelta(days=1), fate.reason)
        settle(store, [Settlement(one.fence, verdict, attempt)])
        if fate.state is State.CANCELLED:
            changes.cancel(store, one.fence.delivery)

    def everything(self) -> list[Delivery]:
        """As each says of itself, the newest first."""
        found = [read_delivery(self.store.connection, one, self.store.policy) for one in self.ids]
        return sorted(found, key=lambda delivery: delivery.id, reverse=True)


@given(st.lists(fates, max_size=10), st.integers(1, 5), st.sampled_from([0, 2000]), st.data())
@settings(max_examples=80)
def test_a_search_finds_what_the_selection_matches(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[Fate], at_once: int, few: int, data: st.DataObject
) -> None:
    clock = VirtualClock()
    path = tmp_path_factory.mktemp("search") / "callbacks.db"
    with pytest.MonkeyPatch.context() as patch, closing(Store(path, Ground.of(clock))) as store:
        everything = World(store, clock, chosen).everything()
        patch.setattr(reading, "FEW", few)
        for selection in data.draw(st.lists(selections(everything), min_size=1, max_size=8)):
            found = list(select(store.connection, selection, None, store.policy, at_once=at_once))
            assert found == [one for one in everything if selection.matches(one)]
            for after in (one.id for one in everything):
                rest = list(select(store.connection, selection, after, store.policy, at_once=at_once))
                assert rest == [one for one in everything if selection.matches(one) and one.id < after]
        counts = read_counts(store.connection)
        assert counts == {state: sum(one.state is state for one in everything) for state in State}


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

        assert [statement[-8:] for statement in asked if "FROM delivery" in statement] == [" LIMIT 4"]

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

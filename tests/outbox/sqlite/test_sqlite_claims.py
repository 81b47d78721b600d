from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_setting import SQLiteSetting, ask

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Claim, Delivered, Released, Retry, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.sqlite import claims
from callback_middleware.outbox.sqlite.claims import MOST_CLAIMED, MOST_WOKEN, unclaim
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, LEASE, MOMENT, THERE, origins
from callback_middleware.verdicts import SUSPICIONS

BY_KEY = sorted((f"https://{number}.example:443" for number in range(300)), key=origin_key)
"""Origins in the order in which they take turns; about half of their keys are negative."""


class TestTurns(SQLiteSetting):
    def put_each(self, store: Store, clock: VirtualClock, chosen: Sequence[Origin], each: int = 1) -> None:
        put_all(store, [Batch([self.delivery(clock, origin=one) for one in chosen for _ in range(each)])])

    def turn(
        self, store: Store, limit: int = 1, per_origin: int = 8, busy: dict[Origin, int] | None = None
    ) -> list[Origin]:
        return origins(claims.claim(store, limit, LEASE, per_origin, busy or {}).claims)

    def test_keys_are_of_both_signs(self) -> None:
        assert origin_key(BY_KEY[0]) < 0 < origin_key(BY_KEY[-1])

    @pytest.mark.parametrize("limit", [1, 7, 64, 299])
    def test_of_300_origins_each_is_visited_before_any_is_visited_twice(
        self, store: Store, clock: VirtualClock, limit: int
    ) -> None:
        self.put_each(store, clock, BY_KEY, each=2)

        visited: list[Origin] = []
        while len(visited) < 300:
            visited += self.turn(store, min(limit, 300 - len(visited)))

        assert Counter(visited) == dict.fromkeys(BY_KEY, 1)

    @pytest.mark.parametrize("last", [0, -1, 7, 299, 150])
    def test_turns_go_on_after_the_last_one_and_around(self, store: Store, clock: VirtualClock, last: int) -> None:
        self.put_each(store, clock, BY_KEY)
        store.cursor = origin_key(BY_KEY[last])

        visited = self.turn(store, 300)

        assert visited == BY_KEY[last:][1:] + BY_KEY[: last % 300 + 1]

    @pytest.mark.parametrize("cursor", [-(2**63), 0, 2**63 - 1])
    def test_turns_begin_anywhere(self, store: Store, clock: VirtualClock, cursor: int) -> None:
        self.put_each(store, clock, BY_KEY[:3], each=2)
        store.cursor = cursor

        assert Counter(self.turn(store, 3)) == dict.fromkeys(BY_KEY[:3], 1)
        assert Counter(self.turn(store, 100)) == dict.fromkeys(BY_KEY[:3], 1)
        assert self.turn(store, 100) == []

    def test_one_origin_alone_is_visited_again_and_again(self, store: Store, clock: VirtualClock) -> None:
        self.put_each(store, clock, [HERE], each=5)

        assert [self.turn(store, 2) for _ in range(4)] == [[HERE] * 2, [HERE] * 2, [HERE], []]

    def test_a_call_takes_of_each_in_turn_until_it_has_enough(self, store: Store, clock: VirtualClock) -> None:
        self.put_each(store, clock, BY_KEY[:3], each=4)
        store.cursor = -(2**63)
        a, b, c = BY_KEY[:3]

        assert self.turn(store, 7) == [a, b, c, a, b, c, a]
        assert self.turn(store, 5) == [b, c, a, b, c]

    def test_who_is_full_is_passed_over_and_keeps_nobody(self, store: Store, clock: VirtualClock) -> None:
        self.put_each(store, clock, BY_KEY[:10], each=2)
        full = dict.fromkeys(BY_KEY[:9], 2)

        assert self.turn(store, 1, per_origin=2, busy=full) == [BY_KEY[9]]
        assert self.turn(store, 1, per_origin=2, busy=full) == [BY_KEY[9]]
        assert self.turn(store, 1, per_origin=2, busy=full) == []

    def test_of_one_origin_the_first_due_goes_first_and_of_those_the_first_put(
        self, store: Store, clock: VirtualClock
    ) -> None:
        dues = [5, 3, 3, 0, 3]
        deliveries = [self.delivery(clock, due_in=timedelta(seconds=due)) for due in dues]
        put_all(store, [Batch(deliveries)])
        clock.advance(5)

        claimed = claims.claim(store, 5, LEASE, 5, {}).claims

        assert [one.delivery.id for one in claimed] == [deliveries[index].id for index in (3, 1, 2, 4, 0)]

    def test_another_process_has_turns_of_its_own(self, store: Store, path: Path, clock: VirtualClock) -> None:
        self.put_each(store, clock, BY_KEY[:3], each=2)
        with closing(Store(path, Ground.of(clock))) as another:
            here, there = [], []
            for _ in range(3):
                here += self.turn(store)
                there += self.turn(another)

        assert Counter(here + there) == dict.fromkeys(BY_KEY[:3], 2)

    def test_what_came_due_at_once_is_taken_in_by_several_calls(self, store: Store, clock: VirtualClock) -> None:
        count = 2 * MOST_WOKEN + 10
        put_all(store, [Batch([self.delivery(clock, due_in=MOMENT) for _ in range(count)])])
        clock.advance(MOMENT)

        claimed = 0
        while one := self.turn(store, MOST_CLAIMED, per_origin=MOST_CLAIMED):
            claimed += len(one)

        assert claimed == count

    def test_however_many_are_asked_for_a_call_takes_what_one_statement_can(
        self, store: Store, clock: VirtualClock
    ) -> None:
        put_all(store, [Batch([self.delivery(clock) for _ in range(MOST_CLAIMED + 5)])])

        calls = [len(self.turn(store, 10**6, per_origin=10**6)) for _ in range(3)]

        assert calls == [MOST_CLAIMED, 5, 0]


class TestClaims(SQLiteSetting):
    def claim_from(self, store: Store, limit: int = 100) -> Sequence[Claim]:
        return claims.claim(store, limit, LEASE, 100, {}).claims

    def test_a_claim_that_finds_nothing_writes_nothing(self, store: Store, path: Path, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock, due_in=MOMENT)])])
        self.claim_from(store)
        with closing(sqlite3.connect(path)) as another:
            before = another.execute("PRAGMA data_version").fetchone()

            assert [self.claim_from(store) for _ in range(3)] == [(), (), ()]

            assert another.execute("PRAGMA data_version").fetchone() == before

    def test_a_claim_for_which_there_is_no_room_writes_nothing(
        self, store: Store, path: Path, clock: VirtualClock
    ) -> None:
        """Or two workers without room would wake each other for ever."""
        put_all(store, [Batch([self.delivery(clock) for _ in range(3)])])
        put_all(store, [Batch([self.delivery(clock, origin=THERE)])])
        assert len(self.claim_from(store, 1)) == 1
        clock.advance(LEASE)
        (suspect,) = self.claim_from(store)
        assert suspect.delivery.origin in {HERE, THERE}
        full = {HERE: 100, THERE: 100}
        with closing(sqlite3.connect(path)) as another:
            before = another.execute("PRAGMA data_version").fetchone()

            assert [claims.claim(store, 9, LEASE, 100, full).claims for _ in range(3)] == [(), (), ()]

            assert another.execute("PRAGMA data_version").fetchone() == before

    def test_the_next_due_is_what_comes_due_by_itself(self, store: Store, clock: VirtualClock) -> None:
        def next_due() -> timedelta | None:
            self.claim_from(store)
            return None if store.next_due is None else timedelta(microseconds=store.next_due - instant(clock.now()))

        assert next_due() is None
        put_all(store, [Batch([self.delivery(clock, due_in=timedelta(hours=1))])])
        assert next_due() == timedelta(hours=1)
        put_all(store, [Batch([self.delivery(clock)])])
        assert next_due() == LEASE
        clock.advance(LEASE / 2)
        assert next_due() == LEASE / 2

    def test_what_was_due_and_left_is_not_what_comes_due(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock)])])

        assert claims.claim(store, 9, LEASE, 1, {HERE: 1}).claims == ()

        assert store.next_due is None

    def test_a_claim_taken_back_was_never_made(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock), self.delivery(clock)])])

        for _ in range(SUSPICIONS + 1):
            made = self.claim_from(store)
            assert len(made) == 2
            unclaim(store, made)

        assert ask(store.path, "SELECT DISTINCT claims, suspect, leased, ready FROM queue") == [(0, 0, 0, 1)]

    def test_a_suspect_taken_back_is_as_suspect_as_before(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock)])])
        self.claim_from(store)
        clock.advance(LEASE)

        unclaim(store, self.claim_from(store))

        assert ask(store.path, "SELECT claims, suspect FROM queue") == [(1, 1)]

    def test_what_another_has_claimed_meanwhile_is_not_taken_back(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock)])])
        lost = self.claim_from(store)
        clock.advance(LEASE)
        (second,) = self.claim_from(store)

        unclaim(store, lost)

        assert claims.extend(store, [second], LEASE) == {second.fence}

    def test_what_was_taken_back_cannot_be_settled(self, store: Store, clock: VirtualClock) -> None:
        put_all(store, [Batch([self.delivery(clock)])])
        (one,) = self.claim_from(store)
        unclaim(store, [one])

        settled = settle(store, [Settlement(one.fence, Delivered())])

        assert settled.applied == frozenset()
        assert self.claim_from(store)[0].fence.number > one.fence.number

    def test_a_thousand_that_killed_their_workers_are_buried_in_several_calls(
        self, store: Store, clock: VirtualClock
    ) -> None:
        count = MOST_CLAIMED + 1
        put_all(store, [Batch([self.delivery(clock) for _ in range(count)])])
        store.run("UPDATE queue SET suspect = 1, claims = ?", (SUSPICIONS,))

        calls = [len(claims.claim(store, 9, LEASE, 9, {HERE: 9}).killers) for _ in range(3)]

        assert calls == [MOST_CLAIMED, 1, 0]
        assert ask(store.path, "SELECT state, count(*) FROM result GROUP BY state") == [("dead", count)]

    async def test_who_is_dead_for_having_killed_its_worker_is_named_and_not_where_it_went(
        self, outbox: SQLiteOutbox, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        delivery = self.delivery(clock, url="https://here.example/?token=secret")
        await self.put(outbox, delivery)
        for _ in range(SUSPICIONS):
            await self.claim(outbox)
            clock.advance(LEASE)

        await self.claim(outbox)

        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage() == f"delivery {delivery.id} is dead: it killed its worker 5 times"

    @pytest.mark.parametrize("verdict", [Released(), Released(MOMENT), Retry(timedelta())])
    async def test_only_a_claim_that_nobody_settled_makes_a_suspect(
        self, outbox: SQLiteOutbox, clock: VirtualClock, verdict: Released | Retry
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        for _ in range(SUSPICIONS + 1):
            made = await self.claim(outbox)
            assert len(made) == 2
            for one in made:
                attempt = None if isinstance(verdict, Released) else self.attempt(one, clock.now(), 500)
                await self.settle(outbox, one, verdict, attempt)
            clock.advance(MOMENT)

        assert (await outbox.counts())[State.PENDING] == 2

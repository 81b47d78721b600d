from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_setting import SQLiteSetting

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Claim, Dead, Delivered, Settlement, Verdict
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.sqlite import claims
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.newcomers import newcomers
from callback_middleware.outbox.sqlite.pruning import AT_ONCE, prune
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, LEASE, MOMENT, THERE

KEY = origin_key(HERE)
MINUTE = timedelta(minutes=1)


class TestNewcomers(SQLiteSetting):
    @pytest.fixture
    def backlog(self) -> BacklogLimits:
        return BacklogLimits()

    def put_some(self, store: Store, clock: VirtualClock, *origins: str) -> None:
        put_all(store, [Batch([self.delivery(clock, origin=origin) for origin in origins])])

    def claimed(self, store: Store, limit: int = 8) -> list[Claim]:
        return list(claims.claim(store, limit, LEASE, 8, {}).claims)

    def origins_kept(self, store: Store) -> set[int]:
        return {key for (key,) in store.fetch("SELECT origin_key FROM origin")}

    def test_another_process_claims_none_while_one_is_out(self, store: Store, clock: VirtualClock, path: Path) -> None:
        self.put_some(store, clock, HERE, HERE)
        (mine,) = self.claimed(store)

        with closing(Store(path, Ground.of(clock), store.limits)) as another:
            meanwhile = self.claimed(another)
            settle(store, [Settlement(mine.fence, Delivered())])
            after = self.claimed(another)

        assert (len(meanwhile), [one.newcomer for one in after]) == (0, [False])

    def test_a_process_without_bounds_claims_as_ever_and_learns_who_accepts(
        self, store: Store, clock: VirtualClock, path: Path
    ) -> None:
        self.put_some(store, clock, HERE, HERE, HERE)

        with closing(Store(path, Ground.of(clock))) as another:
            unbounded = self.claimed(another, 2)
            settle(another, [Settlement(unbounded[0].fence, Delivered())])

        assert [one.newcomer for one in unbounded] == [False, False]
        assert [one.newcomer for one in self.claimed(store)] == [False]

    def test_a_claim_that_is_taken_back_is_not_out(self, store: Store, clock: VirtualClock) -> None:
        self.put_some(store, clock, HERE)
        claims.unclaim(store, self.claimed(store))

        assert newcomers(store, {KEY}) == {KEY: False}
        assert len(self.claimed(store)) == 1

    def test_a_clock_that_was_set_moves_what_is_out_along(self, store: Store, clock: VirtualClock) -> None:
        self.put_some(store, clock, HERE, HERE)
        self.claimed(store)

        clock.set_back(timedelta(hours=1))
        clock.advance(LEASE - MOMENT)

        assert self.claimed(store) == []

    @pytest.mark.parametrize("verdict", [Delivered(), Dead("told so")])
    def test_that_one_is_over_is_news_only_where_another_waits_for_it(
        self, store: Store, clock: VirtualClock, verdict: Verdict
    ) -> None:
        self.put_some(store, clock, HERE, THERE, THERE)
        claimed = {one.delivery.origin: one.fence for one in self.claimed(store)}

        dues = [settle(store, [Settlement(claimed[origin], verdict)]).due for origin in (HERE, THERE)]

        assert dues == [None, instant(clock.now())]

    def test_who_is_none_is_not_among_them(self, store: Store, clock: VirtualClock) -> None:
        self.put_some(store, clock, HERE, THERE)
        (first, _) = self.claimed(store)
        settle(store, [Settlement(first.fence, Delivered())])
        self.put_some(store, clock, HERE, THERE)

        known = newcomers(store, {KEY, origin_key(THERE), 1})

        assert list(known) == [one for one in (KEY, origin_key(THERE)) if one != origin_key(first.delivery.origin)]
        assert newcomers(store, set()) == {}

    def test_however_many_newcomers_have_one_out_a_claim_goes_beyond_them(
        self, store: Store, clock: VirtualClock
    ) -> None:
        strangers = [f"https://{number}.example:443" for number in range(200)]
        self.put_some(store, clock, *strangers, *strangers)
        while self.claimed(store, 64):
            pass
        self.put_some(store, clock, HERE)

        assert [one.delivery.origin for one in self.claimed(store, 1)] == [HERE]

    def test_who_accepted_nothing_and_has_nothing_queued_is_forgotten_whatever_is_kept(
        self, store: Store, clock: VirtualClock
    ) -> None:
        self.put_some(store, clock, HERE, THERE)
        (mine,) = (one for one in self.claimed(store) if one.delivery.origin == HERE)
        settle(store, [Settlement(mine.fence, Delivered())])
        self.put_some(store, clock, "https://parked.example:443")
        store.run("DELETE FROM queue WHERE origin_key = ?", (origin_key(THERE),))

        prune(store, None)

        assert self.origins_kept(store) == {KEY, origin_key("https://parked.example:443")}

    def test_who_accepted_long_ago_is_forgotten_some_at_a_time(self, store: Store, clock: VirtualClock) -> None:
        store.connection.executemany(
            "INSERT INTO origin (origin_key, live, accepted_at) VALUES (?, 0, ?)",
            [(number, instant(clock.now() - MINUTE)) for number in range(AT_ONCE + 1)],
        )
        store.run("INSERT INTO origin (origin_key, live, accepted_at) VALUES (-1, 0, ?)", (instant(clock.now()),))

        rounds = [prune(store, instant(clock.now())) for _ in range(2)]

        assert [one.more for one in rounds] == [True, False]
        assert self.origins_kept(store) == {-1}

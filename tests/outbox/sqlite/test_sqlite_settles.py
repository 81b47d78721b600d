from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlite_setting import SQLiteSetting, ask

from callback_middleware import SQLiteOutbox
from callback_middleware.delivery import Claim, Dead, Delivered, Fence, Released, Retry, Settlement, Verdict
from callback_middleware.outbox.outcomes import KEPT_OF_A_BODY
from callback_middleware.outbox.sqlite import claims
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.results import Ended, finish
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.outcomes import Accepted, Answer, Blocked, Outcome, Phase, Rejected, TimedOut, Unreachable
from callback_middleware.ports import Batch
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, LEASE

MINUTE = timedelta(minutes=1)
HALF = "\udcff"
"""Half a surrogate pair, as Python makes one of a byte that is no text."""


class TestSettles(SQLiteSetting):
    def claimed(self, store: Store, clock: VirtualClock, count: int = 1) -> Sequence[Claim]:
        put_all(store, [Batch([self.delivery(clock) for _ in range(count)])])
        return claims.claim(store, count, LEASE, count, {}).claims

    def settlement(self, clock: VirtualClock, claim: Claim, verdict: Verdict, status: int = 200) -> Settlement:
        return Settlement(claim.fence, verdict, self.attempt(claim, clock.now(), status))

    def test_of_two_verdicts_for_one_fence_in_one_call_the_first_counts(
        self, store: Store, clock: VirtualClock
    ) -> None:
        (claim,) = self.claimed(store, clock)
        first = self.settlement(clock, claim, Retry(MINUTE, "first"), 500)

        settled = settle(store, [first, self.settlement(clock, claim, Dead("second")), first])

        assert settled.applied == {claim.fence}
        assert ask(store.path, "SELECT due_at, attempts, claims, reason FROM queue") == [
            (instant(clock.now() + MINUTE), 1, 1, "first")
        ]
        assert ask(store.path, "SELECT status FROM attempt") == [(500,)]
        assert ask(store.path, "SELECT * FROM result") == []

    def test_a_thousand_are_settled_in_one_commit(self, store: Store, clock: VirtualClock) -> None:
        claimed = self.claimed(store, clock, 1000)
        other = sqlite3.connect(store.path)
        before = other.execute("PRAGMA data_version").fetchone()[0]

        settled = settle(store, [self.settlement(clock, one, Delivered()) for one in claimed])

        assert settled.applied == {one.fence for one in claimed}
        assert ask(store.path, "SELECT count(*) FROM result") == [(1000,)]
        assert ask(store.path, "SELECT count(*) FROM attempt") == [(1000,)]
        assert ask(store.path, "SELECT count(*) FROM queue") == [(0,)]
        assert other.execute("PRAGMA data_version").fetchone()[0] == before + 1
        other.close()

    def test_all_of_a_call_are_settled_or_none(
        self, store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claimed = self.claimed(store, clock, 3)
        impossible = replace(self.attempt(claimed[2], clock.now()), duration=timedelta.max)

        with pytest.raises(OverflowError):
            settle(
                store,
                [
                    *(self.settlement(clock, one, Delivered()) for one in claimed[:2]),
                    Settlement(claimed[2].fence, Delivered(), impossible),
                ],
            )

        assert ask(store.path, "SELECT count(*) FROM queue WHERE leased = 1") == [(3,)]
        assert ask(store.path, "SELECT * FROM result") == ask(store.path, "SELECT * FROM attempt") == []

    def test_what_nobody_put_is_not_settled(self, store: Store, clock: VirtualClock) -> None:
        unknown = self.delivery(clock)

        settled = settle(store, [Settlement(Fence(unknown.id, 1), Delivered())])

        assert settled == (frozenset(), None)

    def test_a_run_has_one_result_whoever_writes_it(self, store: Store, clock: VirtualClock) -> None:
        (claim,) = self.claimed(store, clock)
        settle(store, [self.settlement(clock, claim, Delivered())])

        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed: result"):
            finish(store, [Ended(1, 1, State.DEAD, 0, 0, 1, "a second time")])

    def test_a_late_attempt_is_kept_under_its_own_fence(self, store: Store, clock: VirtualClock) -> None:
        (stalled,) = self.claimed(store, clock)
        clock.advance(LEASE)
        (successor,) = claims.claim(store, 1, LEASE, 1, {}).claims

        settled = settle(
            store,
            [
                self.settlement(clock, stalled, Dead("late"), 410),
                self.settlement(clock, successor, Delivered()),
                self.settlement(clock, stalled, Dead("and again"), 410),
            ],
        )

        assert settled.applied == {successor.fence}
        assert ask(store.path, "SELECT fence, status FROM attempt ORDER BY fence") == [(1, 410), (2, 200)]
        assert ask(store.path, "SELECT state FROM result") == [("delivered",)]

    @pytest.mark.parametrize("gone", [True, False])
    def test_a_late_gone_ends_no_subscription(self, store: Store, clock: VirtualClock, gone: bool) -> None:
        put_all(store, [Batch(subscribe=[self.subscription(clock)], notify=[self.notification(clock)])])
        (stalled,) = claims.claim(store, 1, LEASE, 1, {}).claims
        clock.advance(LEASE)
        claims.claim(store, 1, LEASE, 1, {})

        settle(store, [self.settlement(clock, stalled, Dead("gone", gone=gone), 410)])

        assert ask(store.path, "SELECT ended_at FROM subscription") == [(None,)]

    def test_a_gone_ends_its_own_subscription_alone(self, store: Store, clock: VirtualClock) -> None:
        other = SubscriptionKey(KEY.callback, "another", KEY.owner)
        put_all(
            store,
            [
                Batch(
                    subscribe=[self.subscription(clock), self.subscription(clock, other)],
                    notify=[self.notification(clock)],
                )
            ],
        )
        (claim,) = claims.claim(store, 1, LEASE, 1, {}).claims

        settle(store, [self.settlement(clock, claim, Dead("gone", gone=True), 410)])

        assert ask(store.path, "SELECT key FROM subscription WHERE ended_at IS NULL") == [("another",)]

    @pytest.mark.parametrize(
        "outcome",
        [
            Accepted(Answer(204)),
            Rejected(Answer(500, (("retry-after", "7"),), b"x" * KEPT_OF_A_BODY, truncated=True)),
            Unreachable(Phase.TLS, "certificate verify failed"),
            Unreachable(Phase.RESOLVE, f"no address for {HALF}"),
            Rejected(Answer(500, ((HALF, HALF),), b"\xff")),
            TimedOut(Phase.HEADERS),
            Blocked("the address is private", "EgressPolicy(…)"),
        ],
    )
    async def test_an_attempt_of_every_outcome_is_kept(
        self, outbox: SQLiteOutbox, clock: VirtualClock, outcome: Outcome
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = replace(self.attempt(claim, clock.now()), outcome=outcome)

        await self.settle(outbox, claim, Retry(MINUTE), attempt)

        assert list(await outbox.attempts(claim.delivery.id)) == [attempt]

    @pytest.mark.parametrize("verdict", [Retry(timedelta(), f"said {HALF}"), Dead(f"said {HALF}")])
    async def test_a_reason_that_no_database_holds_is_spelled_out(
        self, outbox: SQLiteOutbox, clock: VirtualClock, verdict: Verdict
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)

        assert await self.settle(outbox, claim, verdict, self.attempt(claim, clock.now(), 500)) == {claim.fence}

        assert (await outbox.get(claim.delivery.id)).reason == "said \\udcff"

    def test_when_something_is_due_again_is_said(self, store: Store, clock: VirtualClock) -> None:
        def due_after(*verdicts: Verdict) -> timedelta | None:
            claimed = self.claimed(store, clock, len(verdicts))
            settled = settle(
                store, [Settlement(one.fence, verdict) for one, verdict in zip(claimed, verdicts, strict=True)]
            )
            return None if settled.due is None else timedelta(microseconds=settled.due - instant(clock.now()))

        assert due_after(Delivered(), Dead("told so")) is None
        assert due_after(Released(MINUTE), Delivered(), Released(2 * MINUTE)) == MINUTE

    def test_a_suspect_that_is_settled_makes_room_for_the_next_one(self, store: Store, clock: VirtualClock) -> None:
        self.claimed(store, clock, 2)
        clock.advance(LEASE)
        (suspect,) = claims.claim(store, 9, LEASE, 9, {}).claims
        assert claims.claim(store, 9, LEASE, 9, {}).claims == ()

        settled = settle(store, [self.settlement(clock, suspect, Delivered())])

        assert settled.due == instant(clock.now())
        assert len(claims.claim(store, 9, LEASE, 9, {}).claims) == 1

    async def test_nothing_to_settle_opens_nothing(self, outbox: SQLiteOutbox) -> None:
        await outbox.settle([])

        assert outbox._session._writer is None

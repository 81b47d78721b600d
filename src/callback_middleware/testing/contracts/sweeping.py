"""What ``replay_all`` and ``prune`` promise operators: many at once, and no other."""
# ruff: noqa: S101, PLR2004 - asserting is what a contract does, and a number beside its assertion needs no name

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from callback_middleware.delivery import Dead, Delivered, Delivery
from callback_middleware.errors import DeliveryNotFound, SubscriptionExists
from callback_middleware.retry import RetryPolicy
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, KEY, LEASE, MOMENT, THERE, Engine, OutboxSetting, ids

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

EVERYTHING = Selection()

TERMINAL = (State.DELIVERED, State.DEAD, State.CANCELLED)

AT_ONCE = timedelta()


class ReplayAllContract(OutboxSetting):
    async def test_what_has_ended_begins_a_new_run_and_nothing_else_does(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        ended = [await self.in_state(outbox, clock, state) for state in TERMINAL]
        sending = await self.in_state(outbox, clock, State.SENDING)
        pending = self.delivery(clock, due_in=MINUTE)
        await self.put(outbox, pending)

        count = await outbox.replay_all(EVERYTHING, spacing=AT_ONCE)

        assert count == 3
        assert ids(await self.claim(outbox)) == {one.id for one in ended}
        assert [(await outbox.get(one.id)).run for one in ended] == [2, 2, 2]
        assert await outbox.get(pending.id) == pending
        assert await outbox.get(sending.id) == sending

    async def test_only_what_is_selected_is_replayed(self, outbox: Engine, clock: VirtualClock) -> None:
        dead = await self.in_state(outbox, clock, State.DEAD, callback="paid")
        await self.in_state(outbox, clock, State.DELIVERED, callback="paid")
        await self.in_state(outbox, clock, State.DEAD, callback="sent")

        count = await outbox.replay_all(Selection(states=[State.DEAD], callback="paid"), spacing=AT_ONCE)

        assert count == 1
        assert ids(await self.claim(outbox)) == {dead.id}

    @pytest.mark.parametrize("state", [State.PENDING, State.SENDING])
    async def test_what_is_still_to_be_delivered_is_left_out(
        self, outbox: Engine, clock: VirtualClock, state: State
    ) -> None:
        delivery = await self.in_state(outbox, clock, state)

        assert await outbox.replay_all(Selection(states=[state])) == 0
        assert await outbox.get(delivery.id) == delivery

    async def test_a_dry_run_counts_and_changes_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = [await self.in_state(outbox, clock, state) for state in TERMINAL]
        await self.in_state(outbox, clock, State.PENDING)
        dead = Selection(states=[State.DEAD, State.PENDING])

        counted = [await outbox.replay_all(selection, dry_run=True) for selection in (EVERYTHING, dead)]

        assert counted == [3, 1]
        assert [await outbox.get(one.id) for one in ended] == ended
        assert await outbox.replay_all(EVERYTHING) == 3

    async def test_where_nothing_has_ended_nothing_is_replayed(self, outbox: Engine) -> None:
        assert await outbox.replay_all(EVERYTHING, dry_run=True) == 0
        assert await outbox.replay_all(EVERYTHING) == 0

    async def test_those_of_one_origin_come_due_one_after_the_other_and_the_first_now(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        here = [self.delivery(clock, origin=HERE) for _ in range(3)]
        there = [self.delivery(clock, origin=THERE) for _ in range(2)]
        await self.put_and_end(outbox, clock, *here, *there, verdict=Dead("gave up"))

        await outbox.replay_all(EVERYTHING, spacing=SECOND)

        claimed = []
        for _ in range(3):
            claims = await self.claim(outbox)
            claimed.append(sorted(claim.delivery.origin for claim in claims))
            await self.let_pass(outbox, clock, SECOND - MOMENT)
            assert list(await self.claim(outbox)) == []
            await self.let_pass(outbox, clock, MOMENT)
        assert claimed == [sorted([HERE, THERE]), sorted([HERE, THERE]), [HERE]]

    async def test_what_comes_due_later_expires_as_much_later(self, outbox: Engine, clock: VirtualClock) -> None:
        policy = RetryPolicy.fixed(60, max_age=MINUTE)
        deliveries = [self.delivery(clock, retry=policy) for _ in range(3)]
        await self.put_and_end(outbox, clock, *deliveries)

        await outbox.replay_all(EVERYTHING, spacing=SECOND)

        replayed = [await outbox.get(one.id) for one in deliveries]
        assert [one.expires_at for one in replayed] == [one.due_at + MINUTE for one in replayed]
        dues = sorted(one.due_at for one in replayed)
        assert [due - dues[0] for due in dues] == [AT_ONCE, SECOND, 2 * SECOND]

    async def test_a_replay_of_many_ends_the_wait_for_it(self, outbox: Engine, clock: VirtualClock) -> None:
        ended = await self.in_state(outbox, clock, State.DEAD)

        claim = await self.claim_meanwhile(outbox, lambda: outbox.replay_all(EVERYTHING))

        assert claim.delivery.id == ended.id

    async def test_as_many_are_replayed_as_there_are(self, outbox: Engine, clock: VirtualClock) -> None:
        origins = [f"https://{number % 7}.example:443" for number in range(650)]
        await self.put_and_end(outbox, clock, *(self.delivery(clock, origin=origin) for origin in origins))

        counted = await outbox.replay_all(EVERYTHING, dry_run=True)
        replayed = await outbox.replay_all(EVERYTHING, spacing=SECOND)
        claims = await self.claim(outbox, 1000, per_origin=1000)

        assert (counted, replayed) == (650, 650)
        assert sorted(claim.delivery.origin for claim in claims) == sorted(set(origins))
        assert (await outbox.counts())[State.PENDING] == 650 - 7


class PruneContract(OutboxSetting):
    async def test_what_ended_before_is_forgotten_and_what_ended_later_is_not(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        old = [await self.in_state(outbox, clock, state) for state in TERMINAL]
        await self.let_pass(outbox, clock, MINUTE)
        border = clock.now()
        young = [await self.in_state(outbox, clock, state) for state in TERMINAL]

        assert await outbox.prune(border) == 3
        assert await outbox.prune(border) == 0

        assert [await outbox.get(one.id) for one in young] == young
        for one in old:
            await _assert_unknown(outbox, one)
        assert dict(await outbox.counts()) == {**dict.fromkeys(State, 0), **dict.fromkeys(TERMINAL, 1)}
        assert len((await outbox.search(EVERYTHING)).deliveries) == 3

    async def test_what_is_still_to_be_delivered_stays_however_old_it_is(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        sending = await self.in_state(outbox, clock, State.SENDING)
        parked, due = self.delivery(clock, due_in=MINUTE), self.delivery(clock)
        await self.put(outbox, parked, due)

        assert await outbox.prune(clock.now() + MINUTE) == 0

        assert [await outbox.get(one.id) for one in (sending, parked, due)] == [sending, parked, due]

    async def test_no_more_is_forgotten_than_asked_for(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_and_end(outbox, clock, *(self.delivery(clock) for _ in range(5)))
        await self.let_pass(outbox, clock, MINUTE)

        counts = [await outbox.prune(clock.now(), limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]

    async def test_what_was_replayed_is_forgotten_when_its_last_run_ended_before(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        waiting, done = [await self.in_state(outbox, clock, State.DEAD) for _ in range(2)]
        await self.let_pass(outbox, clock, MINUTE)
        border = clock.now()
        await self.let_pass(outbox, clock, MINUTE)
        await outbox.replay(done.id)
        await self.settle_all(outbox, clock)
        await outbox.replay(waiting.id)

        early = await outbox.prune(border)
        await self.let_pass(outbox, clock, MINUTE)
        late = await outbox.prune(clock.now())

        assert (early, late) == (0, 1)
        assert (await outbox.get(waiting.id)).state is State.PENDING
        assert len(await outbox.attempts(waiting.id)) == 1
        await _assert_unknown(outbox, done)

    async def test_fewer_are_forgotten_only_where_there_are_no_more(self, outbox: Engine, clock: VirtualClock) -> None:
        """Whoever prunes in a loop until it gets fewer must not stop at some that were replayed."""
        replayed = [await self.in_state(outbox, clock, State.DEAD) for _ in range(4)]
        await self.put_and_end(outbox, clock, *(self.delivery(clock) for _ in range(3)))
        for one in replayed:
            await outbox.replay(one.id)
        await self.let_pass(outbox, clock, MINUTE)

        counts = [await outbox.prune(clock.now(), limit=2) for _ in range(2)]

        assert counts == [2, 1]
        assert (await outbox.counts())[State.PENDING] == 4

    async def test_a_result_that_comes_after_its_delivery_was_forgotten_harms_nobody(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        sending = await self.in_state(outbox, clock, State.PENDING)
        claim = await self.claim_one(outbox)
        await outbox.cancel(sending.id)
        await self.let_pass(outbox, clock, LEASE)
        await outbox.prune(clock.now())

        applied = await self.settle(outbox, claim, Delivered(), self.attempt(claim, clock.now()))

        assert applied == frozenset()
        assert await outbox.extend([claim], LEASE) == frozenset()
        await _assert_unknown(outbox, sending)

    async def test_a_forgotten_id_is_an_unknown_id(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put_and_end(outbox, clock, delivery)
        await self.let_pass(outbox, clock, MINUTE)
        await outbox.prune(clock.now())

        await self.put(outbox, delivery)

        assert ids(await self.claim(outbox)) == {delivery.id}
        assert list(await outbox.attempts(delivery.id)) == []

    async def test_dedupe_keys_stay_used(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put_and_end(outbox, clock, self.delivery(clock, dedupe="key"))
        await self.let_pass(outbox, clock, MINUTE)
        await outbox.prune(clock.now())

        await self.put(outbox, self.delivery(clock, dedupe="key"))

        assert list(await self.claim(outbox)) == []

    async def test_subscriptions_in_force_stay_whatever_the_time_says(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        subscriptions = [
            self.subscription(clock, KEY._replace(key=key), expires_in=expires_in)
            for key, expires_in in (("a", None), ("b", MINUTE))
        ]
        await self.subscribe(outbox, *subscriptions)

        await outbox.prune(clock.now() + 2 * MINUTE)

        assert list(await outbox.subscriptions()) == subscriptions
        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock, KEY._replace(key="b", owner="bob")))

    async def test_a_generation_is_remembered_as_long_as_a_delivery_that_was_sent_to_it(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        claim = await self.claim_one(outbox)
        await self.unsubscribe(outbox, KEY)
        await self.let_pass(outbox, clock, MINUTE)
        await outbox.prune(clock.now())
        later = self.subscription(clock)
        await self.subscribe(outbox, later)

        await self.settle(outbox, claim, Dead("gone", gone=True), self.attempt(claim, clock.now(), 410))

        (left,) = await outbox.subscriptions()
        assert left.generation > 1
        assert replace(left, generation=1) == later


async def _assert_unknown(outbox: Engine, delivery: Delivery) -> None:
    for ask in (outbox.get, outbox.attempts, outbox.cancel, outbox.replay):
        with pytest.raises(DeliveryNotFound):
            await ask(delivery.id)

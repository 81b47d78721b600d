"""What ``put`` refuses because too much is live already, and what it does not."""
# ruff: noqa: S101, PLR2004 - asserting is what a contract does, and a number beside its assertion needs no name

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from callback_middleware.backlog import Bound, Refusal
from callback_middleware.delivery import Dead, Retry, Verdict
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.ports import Batch, PutReport
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import (
    ELSEWHERE,
    HERE,
    KEY,
    THERE,
    Engine,
    OutboxSetting,
    bounded,
    ids,
)

HOUR = timedelta(hours=1)

ANOTHER_OF_ALICE = SubscriptionKey(KEY.callback, "invoice 8", KEY.owner)
OF_BOB = SubscriptionKey(KEY.callback, "invoice 9", "bob")
OF_NOBODY = SubscriptionKey(KEY.callback, "invoice 10", None)


class BacklogContract(OutboxSetting):
    """What is live is pending or sending. An origin is a newcomer until one of its deliveries is settled delivered."""

    def of(self, clock: VirtualClock, *origins: str) -> Batch:
        return Batch([self.delivery(clock, origin=origin) for origin in origins])

    async def accepted(self, outbox: Engine, clock: VirtualClock, *origins: str) -> None:
        """Have these accept something."""
        await self.put_and_end(outbox, clock, *self.of(clock, *origins).deliveries)

    @bounded(newcomer=2)
    async def test_who_never_accepted_has_room_for_a_few_and_the_rest_of_a_batch_is_stored(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        batch = self.of(clock, HERE, HERE, HERE, THERE, HERE)
        first, second, third, there, fourth = (one.id for one in batch.deliveries)

        report = await outbox.put(batch)

        assert list(report.stored) == [first, second, there]
        assert report.refused == dict.fromkeys([third, fourth], Refusal(Bound.NEWCOMER, 2, HERE))
        assert (list(report.duplicates), list(report.unsubscribed)) == ([], [])
        assert (await outbox.counts())[State.PENDING] == 3
        with pytest.raises(DeliveryNotFound):
            await outbox.get(third)

    @bounded(newcomer=3)
    async def test_puts_at_the_same_time_share_the_room(self, outbox: Engine, clock: VirtualClock) -> None:
        reports: list[PutReport] = []

        async def put() -> None:
            reports.append(await outbox.put(self.of(clock, HERE)))

        async with anyio.create_task_group() as tasks:
            for _ in range(7):
                tasks.start_soon(put)

        assert sorted((len(one.stored), len(one.refused)) for one in reports) == [(0, 1)] * 4 + [(1, 0)] * 3

    @bounded(newcomer=2)
    async def test_a_known_id_of_a_full_origin_changes_nothing_and_is_not_refused(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        batch = self.of(clock, HERE, HERE)
        await outbox.put(batch)
        new = self.delivery(clock)

        report = await outbox.put(Batch([batch.deliveries[0], new, batch.deliveries[1]]))

        assert list(report.stored) == []
        assert list(report.refused) == [new.id]

    @bounded(newcomer=2)
    async def test_a_known_id_takes_no_room(self, outbox: Engine, clock: VirtualClock) -> None:
        first, second = self.delivery(clock), self.delivery(clock)
        await self.put(outbox, first)

        report = await outbox.put(Batch([first, second]))

        assert list(report.stored) == [second.id]
        assert report.refused == {}

    @bounded(newcomer=2)
    async def test_what_is_in_flight_is_live(self, outbox: Engine, clock: VirtualClock) -> None:
        await outbox.put(self.of(clock, HERE, HERE))
        await self.claim(outbox)

        assert len((await outbox.put(self.of(clock, HERE))).refused) == 1

    @bounded(newcomer=1)
    async def test_what_is_due_later_is_live(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, self.delivery(clock, due_in=HOUR))

        assert len((await outbox.put(self.of(clock, HERE))).refused) == 1

    @bounded(newcomer=2)
    async def test_what_ends_makes_room_for_as_many(self, outbox: Engine, clock: VirtualClock) -> None:
        cancelled, dead = self.delivery(clock), self.delivery(clock, due_in=-HOUR)
        await self.put(outbox, cancelled, dead)
        await outbox.cancel(cancelled.id)
        await self.settle(outbox, await self.claim_one(outbox), Dead("told so"))

        report = await outbox.put(self.of(clock, HERE, HERE, HERE))

        assert (len(report.stored), len(report.refused)) == (2, 1)

    @bounded(newcomer=1, per_origin=3)
    async def test_the_first_that_is_accepted_earns_the_rest(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.accepted(outbox, clock, HERE)

        report = await outbox.put(self.of(clock, HERE, HERE, HERE, HERE, THERE, THERE))

        assert [(await outbox.get(one)).origin for one in report.stored] == [HERE, HERE, HERE, THERE]
        assert list(report.refused.values()) == [
            Refusal(Bound.PER_ORIGIN, 3, HERE),
            Refusal(Bound.NEWCOMER, 1, THERE),
        ]

    @bounded(newcomer=1)
    @pytest.mark.parametrize("verdict", [Dead("told so"), Dead("gone", gone=True), Retry(HOUR, "was down")])
    async def test_no_other_end_of_an_attempt_does(self, outbox: Engine, clock: VirtualClock, verdict: Verdict) -> None:
        await self.put_and_end(outbox, clock, self.delivery(clock), verdict=verdict)
        await outbox.put(self.of(clock, HERE))

        assert [one.bound for one in (await outbox.put(self.of(clock, HERE))).refused.values()] == [Bound.NEWCOMER]

    @bounded(newcomer=5, per_origin=2)
    async def test_a_newcomer_has_no_more_room_than_others(self, outbox: Engine, clock: VirtualClock) -> None:
        report = await outbox.put(self.of(clock, HERE, HERE, HERE))

        assert list(report.refused.values()) == [Refusal(Bound.PER_ORIGIN, 2, HERE)]

    @bounded(newcomer=None, per_origin=2)
    async def test_where_nobody_is_a_newcomer_all_have_the_same_room(self, outbox: Engine, clock: VirtualClock) -> None:
        report = await outbox.put(self.of(clock, HERE, HERE, HERE))

        assert list(report.refused.values()) == [Refusal(Bound.PER_ORIGIN, 2, HERE)]

    @bounded(newcomer=None, per_origin=None, per_owner=None)
    async def test_no_bound_refuses_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        assert len((await outbox.put(self.of(clock, *[HERE] * 50))).stored) == 50

    async def notified(self, outbox: Engine, clock: VirtualClock, *keys: SubscriptionKey) -> Mapping[UUID, Refusal]:
        """Notify these keys, in one batch. What is refused."""
        return (await self.notify(outbox, *(self.notification(clock, key) for key in keys))).refused

    @bounded(newcomer=None, per_owner=2)
    async def test_notifications_of_one_owner_are_bounded_wherever_they_go(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(
            outbox,
            self.subscription(clock, origin=HERE),
            self.subscription(clock, ANOTHER_OF_ALICE, origin=THERE),
            self.subscription(clock, OF_BOB, origin=HERE),
        )

        refused = await self.notified(outbox, clock, KEY, ANOTHER_OF_ALICE, KEY, OF_BOB, ANOTHER_OF_ALICE)
        later = await self.notified(outbox, clock, OF_BOB, KEY)

        assert list(refused.values()) == [Refusal(Bound.PER_OWNER, 2, HERE), Refusal(Bound.PER_OWNER, 2, THERE)]
        assert list(later.values()) == [Refusal(Bound.PER_OWNER, 2, HERE)]

    @bounded(newcomer=None, per_owner=1)
    async def test_an_owner_has_room_again_when_one_has_ended(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notified(outbox, clock, KEY)
        await self.settle_all(outbox, clock)

        assert [len(await self.notified(outbox, clock, KEY)) for _ in range(2)] == [0, 1]

    @bounded(newcomer=None, per_owner=1)
    async def test_what_has_no_owner_is_bounded_by_its_origin_alone(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock), self.subscription(clock, OF_NOBODY))
        await self.notified(outbox, clock, KEY)

        assert await self.notified(outbox, clock, OF_NOBODY, OF_NOBODY) == {}
        assert (await outbox.put(self.of(clock, HERE, HERE))).refused == {}

    @bounded(newcomer=1)
    async def test_notifications_are_bounded_by_their_origin_too(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, origin=ELSEWHERE))

        refused = await self.notified(outbox, clock, KEY, KEY)

        assert list(refused.values()) == [Refusal(Bound.NEWCOMER, 1, ELSEWHERE)]

    @bounded(newcomer=1)
    async def test_what_a_batch_subscribes_and_ends_is_so_although_something_is_refused(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock, OF_BOB))
        batch = self.of(clock, HERE, HERE)._replace(subscribe=[self.subscription(clock)], end=[OF_BOB])

        report = await outbox.put(batch)

        assert len(report.refused) == 1
        assert [one.key for one in await outbox.subscriptions()] == [KEY]

    @bounded(newcomer=1)
    async def test_what_is_refused_uses_no_dedupe_key(self, outbox: Engine, clock: VirtualClock) -> None:
        await outbox.put(self.of(clock, HERE))

        refused = await outbox.put(Batch([self.delivery(clock, dedupe="key")]))
        await self.settle_all(outbox, clock)
        later = await outbox.put(Batch([self.delivery(clock, dedupe="key")]))

        assert [(len(one.stored), len(one.refused), len(one.duplicates)) for one in (refused, later)] == [
            (0, 1, 0),
            (1, 0, 0),
        ]

    @bounded(newcomer=1)
    async def test_a_used_dedupe_key_makes_a_duplicate_also_where_there_is_no_room(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock, dedupe="key"))
        again = self.delivery(clock, dedupe="key")

        report = await outbox.put(Batch([again]))

        assert (list(report.duplicates), report.refused) == ([again.id], {})

    @bounded(newcomer=1)
    async def test_operators_may_replay_what_they_like_and_it_counts(self, outbox: Engine, clock: VirtualClock) -> None:
        dead = [await self.in_state(outbox, clock, State.DEAD) for _ in range(3)]
        await outbox.replay(dead[0].id)

        assert await outbox.replay_all(Selection(states=[State.DEAD])) == 2

        assert (await outbox.counts())[State.PENDING] == 3
        assert len((await outbox.put(self.of(clock, HERE))).refused) == 1

    @bounded(newcomer=None, per_owner=1)
    async def test_a_replayed_notification_counts_for_its_owner(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        notification = self.notification(clock)
        await self.notify(outbox, notification)
        await self.settle_all(outbox, clock)

        await outbox.replay(notification.id)

        assert len(await self.notified(outbox, clock, KEY)) == 1

    @bounded(newcomer=1)
    async def test_who_accepted_and_was_not_heard_of_is_a_newcomer_when_the_log_is_pruned(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        # Hours apart: an engine need not write at every time that somebody accepts.
        await self.accepted(outbox, clock, HERE, THERE)
        await self.let_pass(outbox, clock, HOUR)
        await self.accepted(outbox, clock, THERE)
        await self.put(outbox, self.delivery(clock, origin=ELSEWHERE))
        await self.let_pass(outbox, clock, HOUR)

        await outbox.prune(clock.now() - HOUR)
        report = await outbox.put(self.of(clock, HERE, HERE, THERE, THERE, ELSEWHERE))

        assert [one.origin for one in report.refused.values()] == [HERE, ELSEWHERE]

    @bounded(newcomer=1)
    async def test_who_accepted_and_has_something_live_is_known_however_long_ago_that_was(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.accepted(outbox, clock, HERE)
        await self.put(outbox, self.delivery(clock, due_in=1000 * HOUR))
        await self.let_pass(outbox, clock, 900 * HOUR)

        await outbox.prune(clock.now())

        assert (await outbox.put(self.of(clock, HERE))).refused == {}

    @bounded(newcomer=1)
    async def test_what_is_bounded_is_claimed_as_any_other(self, outbox: Engine, clock: VirtualClock) -> None:
        batch = self.of(clock, HERE, HERE, THERE)
        report = await outbox.put(batch)

        assert ids(await self.claim(outbox)) == set(report.stored)

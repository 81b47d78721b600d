"""What a batch's ``notify`` promises, and what a receiver that is gone ends."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from datetime import timedelta

import pytest

from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Verdict
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import (
    HERE,
    KEY,
    LEASE,
    MOMENT,
    THERE,
    Engine,
    OutboxSetting,
    ids,
)

HOUR = timedelta(hours=1)

GONE = Dead("the receiver answered 410", gone=True)


class NotifyContract(OutboxSetting):
    async def test_a_notification_becomes_a_delivery_to_what_is_subscribed(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        subscription = self.subscription(clock, deadline=timedelta(seconds=7))
        notification = self.notification(clock, due_in=HOUR, dedupe="paid", tags={"tenant": "8"})
        await self.subscribe(outbox, subscription)

        report = await self.notify(outbox, notification)

        assert list(report.stored) == [notification.id]
        assert (list(report.duplicates), list(report.unsubscribed)) == ([], [])
        assert await outbox.get(notification.id) == Delivery.notified(notification, subscription)

    async def test_a_notification_without_a_body_or_a_maximum_age_is_one_too(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        subscription = self.subscription(clock, retry=RetryPolicy.fixed(1), headers=(), tags={})
        notification = self.notification(clock, body=None, headers=(), tags={})
        await self.subscribe(outbox, subscription)

        await self.notify(outbox, notification)

        assert await outbox.get(notification.id) == Delivery.notified(notification, subscription)

    async def test_it_is_claimed_and_delivered_as_any_other(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        notification = self.notification(clock, due_in=HOUR)
        await self.notify(outbox, notification)

        await self.let_pass(outbox, clock, HOUR - MOMENT)
        early = await self.claim(outbox)
        await self.let_pass(outbox, clock, MOMENT)
        claim = await self.claim_one(outbox)
        await self.deliver(outbox, claim, clock.now())

        assert list(early) == []
        assert claim.delivery.subscription == self.subscription(clock).version
        assert (await outbox.get(notification.id)).state is State.DELIVERED

    async def test_a_subscription_is_good_for_many_notifications(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        notifications = [self.notification(clock) for _ in range(3)]

        await self.notify(outbox, *notifications[:2])
        await self.notify(outbox, notifications[2])

        assert ids(await self.claim(outbox)) == {one.id for one in notifications}

    async def test_it_goes_where_its_subscription_says_at_this_moment(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        before, after = self.notification(clock), self.notification(clock)
        await self.subscribe(outbox, self.subscription(clock, origin=HERE))
        await self.notify(outbox, before)

        await self.subscribe(outbox, self.subscription(clock, origin=THERE))
        await self.notify(outbox, after)

        assert [(await outbox.get(one.id)).origin for one in (before, after)] == [HERE, THERE]

    async def test_what_nobody_subscribed_is_reported_and_not_stored(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        strangers = [
            self.notification(clock, key)
            for key in (
                KEY._replace(key="invoice 8"),
                KEY._replace(owner="bob"),
                KEY._replace(owner=None),
                KEY._replace(callback="another"),
            )
        ]

        report = await self.notify(outbox, *strangers)

        assert list(report.unsubscribed) == [one.id for one in strangers]
        assert (list(report.stored), list(report.duplicates)) == ([], [])
        for one in strangers:
            with pytest.raises(DeliveryNotFound):
                await outbox.get(one.id)

    async def test_what_was_ended_or_expired_is_subscribed_by_nobody(self, outbox: Engine, clock: VirtualClock) -> None:
        ended, expired = KEY._replace(key="ended"), KEY._replace(key="expired")
        await self.subscribe(
            outbox, self.subscription(clock, ended), self.subscription(clock, expired, expires_in=HOUR)
        )
        await self.unsubscribe(outbox, ended)
        last = self.notification(clock, expired)

        await self.let_pass(outbox, clock, HOUR - MOMENT)
        before = await self.notify(outbox, last)
        await self.let_pass(outbox, clock, MOMENT)
        late = [self.notification(clock, ended), self.notification(clock, expired)]
        after = await self.notify(outbox, *late)

        assert list(before.stored) == [last.id]
        assert list(after.unsubscribed) == [one.id for one in late]

    async def test_one_that_nobody_subscribed_takes_no_other_with_it(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        delivery, wanted = self.delivery(clock), self.notification(clock)
        unwanted = self.notification(clock, KEY._replace(key="invoice 8"))

        report = await outbox.put(Batch([delivery], notify=[unwanted, wanted]))

        assert set(report.stored) == {delivery.id, wanted.id}
        assert list(report.unsubscribed) == [unwanted.id]

    async def test_it_stays_when_its_subscription_ends(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))
        by_hand, by_expiry = self.notification(clock), self.notification(clock, due_in=2 * HOUR)
        await self.notify(outbox, by_hand, by_expiry)

        await self.let_pass(outbox, clock, 2 * HOUR)
        await self.unsubscribe(outbox, KEY)

        assert ids(await self.claim(outbox)) == {by_hand.id, by_expiry.id}

    async def test_a_known_id_changes_nothing_and_stands_nowhere(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        notification = self.notification(clock, dedupe="paid")
        await self.notify(outbox, notification)
        stored = await outbox.get(notification.id)
        await self.subscribe(outbox, self.subscription(clock, url="https://there.example/", origin=THERE))

        again = await self.notify(outbox, notification)
        await self.unsubscribe(outbox, KEY)
        after_the_end = await self.notify(outbox, notification)

        for report in (again, after_the_end):
            assert [*report.stored, *report.duplicates, *report.unsubscribed] == []
        assert await outbox.get(notification.id) == stored
        assert len(await self.claim(outbox)) == 1

    async def test_a_dedupe_key_is_good_for_one_notification(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        first, second = self.notification(clock, dedupe="paid"), self.notification(clock, dedupe="paid")

        report = await self.notify(outbox, first, second)
        await self.let_pass(outbox, clock, timedelta(hours=24))
        late = await self.notify(outbox, self.notification(clock, dedupe="paid"))

        assert (list(report.stored), list(report.duplicates)) == ([first.id], [second.id])
        assert len(late.stored) == 1

    async def test_a_dedupe_key_is_one_subscriptions(self, outbox: Engine, clock: VirtualClock) -> None:
        """Two tenants who choose the same one, and two invoices that are paid, must not silence each other."""
        another = KEY._replace(key="8")
        theirs = KEY._replace(key="9", owner="somebody else")
        for key in (KEY, another, theirs):
            await self.subscribe(outbox, self.subscription(clock, key))
        await self.put(outbox, self.delivery(clock, callback=KEY.callback, dedupe="paid"))

        reports = [
            await self.notify(outbox, self.notification(clock, key, dedupe="paid"))
            for key in (KEY, another, theirs, another)
        ]

        assert [len(report.stored) for report in reports] == [1, 1, 1, 0]
        assert [len(report.duplicates) for report in reports] == [0, 0, 0, 1]

    async def test_what_nobody_subscribed_uses_no_dedupe_key(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.notify(outbox, self.notification(clock, dedupe="paid"))
        await self.subscribe(outbox, self.subscription(clock))

        report = await self.notify(outbox, self.notification(clock, dedupe="paid"))

        assert len(report.stored) == 1

    async def test_a_notification_ends_the_wait_for_it(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        notification = self.notification(clock)

        claim = await self.claim_meanwhile(outbox, lambda: self.notify(outbox, notification))

        assert claim.delivery.id == notification.id


class GoneContract(OutboxSetting):
    """A receiver that says Gone wants to hear no more of what it subscribed, and of nothing else."""

    async def test_a_receiver_that_is_gone_ends_its_subscription(self, outbox: Engine, clock: VirtualClock) -> None:
        other = self.subscription(clock, KEY._replace(key="invoice 8"))
        await self.subscribe(outbox, self.subscription(clock), other)
        notification = self.notification(clock)
        await self.notify(outbox, notification)

        await self._settle_first(outbox, clock, GONE)
        report = await self.notify(outbox, self.notification(clock))

        delivery = await outbox.get(notification.id)
        assert (delivery.state, delivery.reason) == (State.DEAD, GONE.reason)
        assert list(await outbox.subscriptions()) == [other]
        assert len(report.unsubscribed) == 1

    @pytest.mark.parametrize("verdict", [Dead("gave up"), Retry(HOUR, "was down"), Delivered(), Released()], ids=repr)
    async def test_no_other_result_ends_it(self, outbox: Engine, clock: VirtualClock, verdict: Verdict) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))

        await self._settle_first(outbox, clock, verdict)

        assert len(await outbox.subscriptions()) == 1

    async def test_a_receiver_that_is_gone_ends_no_replacement(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        await self.subscribe(outbox, self.subscription(clock))

        await self._settle_first(outbox, clock, GONE)

        assert [one.generation for one in await outbox.subscriptions()] == [2]

    @pytest.mark.parametrize("owner", ["alice", "bob"], ids=["the same owner", "another owner"])
    @pytest.mark.parametrize("how", ["by hand", "by expiry"])
    async def test_a_receiver_that_is_gone_ends_nothing_that_came_after_an_end(
        self, outbox: Engine, clock: VirtualClock, owner: str, how: str
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))
        await self.notify(outbox, self.notification(clock))
        if how == "by hand":
            await self.unsubscribe(outbox, KEY)
        else:
            await self.let_pass(outbox, clock, HOUR)
        await self.subscribe(outbox, self.subscription(clock, KEY._replace(owner=owner)))

        await self._settle_first(outbox, clock, GONE)

        assert [one.key.owner for one in await outbox.subscriptions()] == [owner]

    async def test_a_late_result_of_a_lost_claim_ends_nothing(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        stalled = await self.claim_one(outbox)
        await self.let_pass(outbox, clock, LEASE)
        await self.claim_one(outbox)

        await self.settle(outbox, stalled, GONE, self.attempt(stalled, clock.now(), 410))

        assert len(await outbox.subscriptions()) == 1

    async def test_what_was_notified_before_is_still_sent(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock), self.notification(clock))

        await self._settle_first(outbox, clock, GONE)

        assert list(await outbox.subscriptions()) == []
        assert len(await self.claim(outbox)) == 1

    async def test_what_was_sent_at_once_has_nothing_to_end(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.put(outbox, self.delivery(clock))

        await self._settle_first(outbox, clock, GONE)

        assert len(await outbox.subscriptions()) == 1

    async def _settle_first(self, outbox: Engine, clock: VirtualClock, verdict: Verdict) -> None:
        (claim,) = await self.claim(outbox, 1)
        await self.settle(outbox, claim, verdict, self.attempt(claim, clock.now(), 410))

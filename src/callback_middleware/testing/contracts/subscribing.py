"""What a batch's ``subscribe`` and ``end`` promise, and what ``subscriptions`` says: who has which key, until when."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from callback_middleware.errors import SubscriptionExists
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import KEY, MOMENT, THERE, Engine, OutboxSetting

HOUR = timedelta(hours=1)

ANOTHERS = KEY._replace(owner="bob")
"""The same key, for another owner."""


class SubscribeContract(OutboxSetting):
    async def test_what_is_subscribed_comes_back_as_it_was(self, outbox: Engine, clock: VirtualClock) -> None:
        whole = self.subscription(
            clock,
            KEY._replace(key="7 ü 🧾 \"'\\%", owner="älice@example.com"),
            expires_in=HOUR + timedelta(microseconds=1),
            url="https://there.example/é?" + "x" * 5000,
            origin=THERE,
            method="PUT",
            headers=(("x-one", "1"), ("x-two", ""), ("x-one", "again")),
            retry=RetryPolicy.fixed(1.5, max_age=HOUR, jitter=0.5, give_up_on=frozenset({404})),
            deadline=timedelta(microseconds=1_000_001),
            tags={"name": "Åse", "quoted": "\"'\\\n"},
        )
        bare = self.subscription(clock, SubscriptionKey("other", "", None), headers=(), tags={})

        await self.subscribe(outbox, whole, bare)

        assert list(await outbox.subscriptions()) == [whole, bare]

    async def test_the_same_owner_replaces_it_under_a_higher_generation(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        newer = self.subscription(clock, url="https://there.example/", origin=THERE, tags={})

        await self.subscribe(outbox, newer)

        assert list(await outbox.subscriptions()) == [replace(newer, generation=2)]

    async def test_the_outbox_counts_generations_whatever_it_is_told(self, outbox: Engine, clock: VirtualClock) -> None:
        for told in (7, 7, 1):
            await self.subscribe(outbox, self.subscription(clock, generation=told))

        assert await _generations(outbox) == [3]

    async def test_those_who_subscribe_at_the_same_time_follow_each_other(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(self.subscribe, outbox, self.subscription(clock))

        assert await _generations(outbox) == [5]

    async def test_another_owner_is_refused_and_the_owner_keeps_it(self, outbox: Engine, clock: VirtualClock) -> None:
        mine = self.subscription(clock)
        await self.subscribe(outbox, mine)

        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock, ANOTHERS, url="https://there.example/"))

        assert list(await outbox.subscriptions()) == [mine]

    async def test_who_is_refused_learns_which_key_it_is_and_not_whose(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))

        with pytest.raises(SubscriptionExists) as refused:
            await self.subscribe(outbox, self.subscription(clock, ANOTHERS))

        assert KEY.key in str(refused.value)
        assert KEY.callback in str(refused.value)
        assert str(KEY.owner) not in str(refused.value)

    async def test_of_owners_who_subscribe_one_key_at_the_same_time_one_gets_it(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        refused = []

        async def subscribe(owner: str) -> None:
            try:
                await self.subscribe(outbox, self.subscription(clock, KEY._replace(owner=owner)))
            except SubscriptionExists:
                refused.append(owner)

        owners = ["alice", "bob", "carol", "dave"]
        async with anyio.create_task_group() as tasks:
            for owner in owners:
                tasks.start_soon(subscribe, owner)

        (one,) = await outbox.subscriptions()
        assert sorted([*refused, str(one.key.owner)]) == owners

    @pytest.mark.parametrize("others", [None, "", "ALICE"], ids=["the application", "the empty name", "another case"])
    async def test_every_other_name_is_another_owner(
        self, outbox: Engine, clock: VirtualClock, others: str | None
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.unsubscribe(outbox, KEY._replace(owner=others))

        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock, KEY._replace(owner=others)))
        assert await _generations(outbox) == [1]

    async def test_the_application_and_the_empty_name_are_two_owners(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, KEY._replace(owner=None)))

        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock, KEY._replace(owner="")))

    async def test_keys_are_told_apart_to_the_letter_and_by_their_callbacks(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        keys = [
            KEY,
            KEY._replace(key="Invoice 7"),
            KEY._replace(key="invoice 7 "),
            KEY._replace(key=""),
            SubscriptionKey("another", KEY.key, "bob"),
        ]

        await self.subscribe(outbox, *(self.subscription(clock, key) for key in keys))

        assert {one.key for one in await outbox.subscriptions()} == set(keys)
        assert await _generations(outbox) == [1] * len(keys)


class EndContract(OutboxSetting):
    """By hand, and by expiry. What a receiver ends is with what it was notified of."""

    async def test_what_was_ended_is_not_there(self, outbox: Engine, clock: VirtualClock) -> None:
        kept = self.subscription(clock, KEY._replace(key="invoice 8"))
        await self.subscribe(outbox, self.subscription(clock), kept)

        await self.unsubscribe(outbox, KEY)

        assert list(await outbox.subscriptions()) == [kept]

    async def test_what_is_not_there_can_be_ended(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.unsubscribe(outbox, KEY)
        await self.subscribe(outbox, self.subscription(clock))
        await self.unsubscribe(outbox, KEY)
        await self.unsubscribe(outbox, KEY)

        assert list(await outbox.subscriptions()) == []

    async def test_nobody_ends_what_is_anothers(self, outbox: Engine, clock: VirtualClock) -> None:
        mine = self.subscription(clock)
        await self.subscribe(outbox, mine)

        await self.unsubscribe(outbox, ANOTHERS, KEY._replace(callback="another"), KEY._replace(key="invoice 8"))

        assert list(await outbox.subscriptions()) == [mine]

    async def test_what_was_ended_is_free_for_another_owner(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        await self.unsubscribe(outbox, KEY)

        await self.subscribe(outbox, self.subscription(clock, ANOTHERS))

        assert await _keys(outbox) == [ANOTHERS]

    async def test_it_is_there_until_it_expires(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))

        await self.let_pass(outbox, clock, HOUR - MOMENT)
        before = await _keys(outbox)
        with pytest.raises(SubscriptionExists):
            await self.subscribe(outbox, self.subscription(clock, ANOTHERS))
        await self.let_pass(outbox, clock, MOMENT)

        assert before == [KEY]
        assert await _keys(outbox) == []

    async def test_what_expired_is_free_for_another_owner(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))
        await self.let_pass(outbox, clock, HOUR)

        await self.subscribe(outbox, self.subscription(clock, ANOTHERS))

        assert await _keys(outbox) == [ANOTHERS]

    async def test_who_comes_too_late_with_an_end_ends_nobody_elses(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))
        await self.let_pass(outbox, clock, HOUR)
        await self.subscribe(outbox, self.subscription(clock, ANOTHERS))

        await self.unsubscribe(outbox, KEY)

        assert await _keys(outbox) == [ANOTHERS]

    async def test_what_had_expired_when_it_was_put_is_not_there(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=timedelta()))

        assert await _keys(outbox) == []
        await self.subscribe(outbox, self.subscription(clock, ANOTHERS))
        assert await _keys(outbox) == [ANOTHERS]

    async def test_a_replacement_may_expire_later_or_never(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.subscribe(outbox, self.subscription(clock, expires_in=HOUR))
        await self.subscribe(outbox, self.subscription(clock))

        await self.let_pass(outbox, clock, 2 * HOUR)

        assert await _keys(outbox) == [KEY]

    async def test_what_ended_while_a_delivery_remembers_it_goes_on_counting(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        """Or a receiver's word about an old notification would end a new subscription."""
        await self.subscribe(outbox, self.subscription(clock))
        await self.notify(outbox, self.notification(clock))
        await self.unsubscribe(outbox, KEY)
        await self.subscribe(outbox, self.subscription(clock, ANOTHERS, expires_in=HOUR))
        second = await _generations(outbox)
        await self.let_pass(outbox, clock, HOUR)

        await self.subscribe(outbox, self.subscription(clock))

        assert second > [1]
        assert await _generations(outbox) > second


class SubscriptionsContract(OutboxSetting):
    """What operators see of them."""

    async def test_an_empty_outbox_has_none(self, outbox: Engine) -> None:
        assert list(await outbox.subscriptions()) == []

    async def test_they_stand_in_the_order_of_callback_and_key_by_code_point(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        wanted = [
            SubscriptionKey(callback, key, owner)
            for callback in ("B", "a", "ä", "\N{REPLACEMENT CHARACTER}", "\N{RECEIPT}")
            for key, owner in (("", "z"), ("10", "y"), ("9", "x"), ("Z", None), ("a", ""), ("a b", "w"))
        ]

        await self.subscribe(outbox, *(self.subscription(clock, key) for key in reversed(wanted)))

        assert [one.key for one in await outbox.subscriptions()] == wanted

    async def test_they_can_be_those_of_one_callback(self, outbox: Engine, clock: VirtualClock) -> None:
        for callback in ("paid", "paid late", "Paid"):
            await self.subscribe(outbox, self.subscription(clock, KEY._replace(callback=callback)))

        assert [one.callback for one in await outbox.subscriptions(callback="paid")] == ["paid"]
        assert list(await outbox.subscriptions(callback="pai")) == []

    async def test_they_come_page_by_page(self, outbox: Engine, clock: VirtualClock) -> None:
        wanted = [SubscriptionKey(callback, str(key), "o") for callback in ("a", "b") for key in range(5)]
        await self.subscribe(outbox, *(self.subscription(clock, key) for key in wanted))

        assert await _pages(outbox, None) == [wanted[:4], wanted[4:8], wanted[8:]]
        assert await _pages(outbox, "b") == [wanted[5:9], wanted[9:]]

    async def test_a_page_goes_on_after_one_that_is_over(self, outbox: Engine, clock: VirtualClock) -> None:
        wanted = [KEY._replace(key=str(key)) for key in range(4)]
        await self.subscribe(outbox, *(self.subscription(clock, key) for key in wanted))
        await self.unsubscribe(outbox, wanted[1])

        assert [one.key for one in await outbox.subscriptions(after=wanted[1])] == wanted[2:]


async def _keys(outbox: Engine) -> Sequence[SubscriptionKey]:
    return [one.key for one in await outbox.subscriptions()]


async def _generations(outbox: Engine) -> list[int]:
    return [one.generation for one in await outbox.subscriptions()]


async def _pages(outbox: Engine, callback: str | None) -> Sequence[Sequence[SubscriptionKey]]:
    pages: list[Sequence[SubscriptionKey]] = []
    after: SubscriptionKey | None = None
    while page := await outbox.subscriptions(callback=callback, limit=4, after=after):
        pages.append([one.key for one in page])
        assert after not in pages[-1], "it begins with the one that was the last"
        after = pages[-1][-1]
    return pages

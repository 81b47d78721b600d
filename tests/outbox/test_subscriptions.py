from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callback_middleware.delivery import DEADLINE
from callback_middleware.errors import SubscriptionExists
from callback_middleware.outbox.subscriptions import Subscriptions
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Subscription, SubscriptionKey, SubscriptionVersion

START = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

KEY = SubscriptionKey("paid", "invoice 7", "alice")

SUBSCRIPTION = Subscription(
    key=KEY,
    operation="POST /invoices/",
    method="POST",
    url="https://here.example/",
    origin="https://here.example:443",
    created_at=START,
    retry=RetryPolicy(),
    deadline=DEADLINE,
)

keys = st.builds(SubscriptionKey, st.just("paid"), st.sampled_from("xy"), st.sampled_from(["alice", "bob", None]))


class Owners(RuleBasedStateMachine):
    """Owners who subscribe and end, notifications that are stored and forgotten, receivers that say Gone at any time.

    What is in force is kept a second time, as a list that is looked through.
    """

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = Subscriptions()
        self.now = START
        self.current: list[Subscription] = []
        self.sent: list[SubscriptionVersion] = []

    @rule(wanted=st.lists(st.tuples(keys, st.none() | st.integers(0, 4)), max_size=3))
    def subscribe(self, wanted: list[tuple[SubscriptionKey, int | None]]) -> None:
        subscriptions = [
            replace(SUBSCRIPTION, key=key, expires_at=None if seconds is None else self.now + seconds * SECOND)
            for key, seconds in wanted
        ]
        current = list(self.in_force())
        for one in subscriptions:
            held = next((other for other in current if other.key[:2] == one.key[:2]), None)
            if held is not None and held.key != one.key:
                with pytest.raises(SubscriptionExists):
                    self.subscriptions.subscribe(subscriptions, self.now)
                return
            current = [other for other in current if other is not held]
            if not one.expired(self.now):
                current.append(one)
        self.subscriptions.subscribe(subscriptions, self.now)
        found = [self.subscriptions.find(one.key, self.now) for one in current]
        assert [one and replace(one, generation=1) for one in found] == [replace(one, generation=1) for one in current]
        self.current = [one for one in found if one is not None]

    @rule(key=keys)
    def notify(self, key: SubscriptionKey) -> None:
        found = self.subscriptions.find(key, self.now)
        assert found == next((one for one in self.in_force() if one.key == key), None)
        if found is not None:
            self.subscriptions.remember(found.version)
            self.sent.append(found.version)

    @rule(key=keys)
    def end(self, key: SubscriptionKey) -> None:
        self.subscriptions.end(key)
        self.current = [one for one in self.current if one.key != key]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def receiver_is_gone(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.sent))
        self.subscriptions.end_version(version)
        self.current = [one for one in self.current if one.version != version]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.sent))
        self.sent.remove(version)
        self.subscriptions.forget(version)

    @rule(seconds=st.integers(0, 3))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule()
    def look_through(self) -> None:
        self.subscriptions.forget_expired(self.now)
        known = {one.key[:2] for one in self.in_force()} | {version.key[:2] for version in self.sent}
        assert len(self.subscriptions) == len(known), "what nobody can ask for is still known"

    @invariant()
    def what_is_in_force_is_what_was_made_and_not_ended(self) -> None:
        assert list(self.subscriptions.in_force(self.now)) == self.in_force()

    @invariant()
    def nothing_in_force_is_taken_for_what_was_before_it(self) -> None:
        for version in self.sent:
            later = [one for one in self.in_force() if one.key[:2] == version.key[:2]]
            assert all(one.generation >= version.generation for one in later)
            assert all(one.key == version.key for one in later if one.generation == version.generation)

    def in_force(self) -> list[Subscription]:
        return sorted((one for one in self.current if not one.expired(self.now)), key=lambda one: one.key[:2])


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_generation_that_a_delivery_remembers_goes_on() -> None:
    subscriptions = Subscriptions()
    subscriptions.subscribe([SUBSCRIPTION], START)
    subscriptions.remember(SubscriptionVersion(KEY, 1))
    subscriptions.end(KEY)

    subscriptions.subscribe([SUBSCRIPTION], START)

    assert [one.generation for one in subscriptions.in_force(START)] == [2]


def test_what_no_delivery_remembers_is_forgotten_when_it_ends() -> None:
    subscriptions = Subscriptions()
    subscriptions.subscribe([SUBSCRIPTION], START)
    subscriptions.remember(SubscriptionVersion(KEY, 1))

    subscriptions.end(KEY)
    remembered = len(subscriptions)
    subscriptions.forget(SubscriptionVersion(KEY, 1))

    assert (remembered, len(subscriptions)) == (1, 0)


def test_keys_that_expired_do_not_pile_up() -> None:
    """An application subscribes every invoice for a while, and nobody asks for most of them again."""
    subscriptions, now = Subscriptions(), START
    for number in range(20_000):
        key = SubscriptionKey("paid", str(number), None)
        subscriptions.subscribe([replace(SUBSCRIPTION, key=key, expires_at=now + 100 * SECOND)], now)
        now += SECOND

    assert len(subscriptions.in_force(now)) == 99
    assert len(subscriptions) <= 1000


def test_who_is_refused_reads_no_more_of_a_key_than_fits_a_line() -> None:
    subscriptions = Subscriptions()
    key = KEY._replace(key="7\n" * 10_000)
    subscriptions.subscribe([replace(SUBSCRIPTION, key=key)], START)

    with pytest.raises(SubscriptionExists) as refused:
        subscriptions.subscribe([replace(SUBSCRIPTION, key=key._replace(owner="bob"))], START)

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500

"""What is put comes back exactly: whatever its bytes, letters, times and numbers are, and however much it is."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import anyio
import pytest

from callback_middleware.delivery import DEADLINE, Delivered, Retry, Settlement
from callback_middleware.outcomes import (
    Accepted,
    Answer,
    Attempt,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
    Unreachable,
)
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.subscription import SubscriptionKey, SubscriptionVersion
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import Engine, OutboxSetting, ids

MICROSECOND = timedelta(microseconds=1)

LETTERS = "ä ß 漢字 🧾 e\N{COMBINING ACUTE ACCENT} \N{LEFT-TO-RIGHT MARK} \"quoted\" 'quoted' \\ % _ {} \t\r\n"
"""What a text may hold that somebody quotes, escapes, normalises or trims."""

MANY = 200

POLICY = RetryPolicy(
    waits=(timedelta(), timedelta(microseconds=1_500_001), timedelta(days=365)),
    max_attempts=17,
    max_age=timedelta(days=3, microseconds=7),
    jitter=0.37,
    retry_after=timedelta(hours=2, microseconds=3),
    give_up_on=frozenset({404, 422, 501}),
)

KEPT: dict[str, dict[str, Any]] = {
    "a body of every byte": {"body": bytes(range(256)) * 2},
    "a body that begins and ends with NUL": {"body": b"\0\0x\0"},
    "a body of a mebibyte": {"body": bytes(range(256)) * 4096},
    "an empty body": {"body": b""},
    "no body": {"body": None},
    "headers in their order, repeated and empty": {"headers": (("x-b", "1"), ("x-a", ""), ("x-b", "0"), ("X-B", "2"))},
    "headers with any letters": {"headers": (("x-any", LETTERS.strip()), ("x-latin", "\xe9\xff"))},
    "no headers": {"headers": ()},
    "tags with any letters": {"tags": {LETTERS: LETTERS, "": "", "z": "1", "a": "2"}},
    "no tags": {"tags": {}},
    "names with any letters": {"operation": LETTERS, "callback": LETTERS, "dedupe": LETTERS},
    "an empty dedupe key": {"dedupe": ""},
    "a very long URL": {"url": "https://here.example/" + "a/" * 50_000 + "?" + "b=ü&" * 10_000},
    "another method": {"method": "QUERY"},
    "a deadline to the microsecond": {"deadline": DEADLINE + MICROSECOND},
    "a retry policy with everything": {"retry": POLICY},
    "a retry policy that makes one attempt": {"retry": RetryPolicy.fixed()},
    "a retry policy that grows": {"retry": RetryPolicy.exponential(0.1, factor=3.3, max_attempts=9)},
    "a retry policy by default": {"retry": RetryPolicy()},
    "what it was subscribed under": {
        "callback": "paid",
        "subscription": SubscriptionVersion(SubscriptionKey("paid", LETTERS, LETTERS), 12),
    },
    "what the application itself subscribed": {
        "callback": "paid",
        "subscription": SubscriptionVersion(SubscriptionKey("paid", "", None), 1),
    },
}

OUTCOMES: dict[str, Outcome] = {
    "accepted": Accepted(Answer(204)),
    "accepted, and said": Accepted(Answer(200, (("x-any", LETTERS.strip()), ("x-b", ""), ("x-b", "1")), b"ok \0\xff")),
    "rejected": Rejected(Answer(503, (("retry-after", "120"),), "später".encode())),
    "rejected, and said more than was read": Rejected(Answer(400, (), b"x" * 1000, truncated=True)),
    **{f"unreachable ({phase})": Unreachable(phase, f"{phase}: {LETTERS}") for phase in Phase},
    **{f"timed out ({phase})": TimedOut(phase) for phase in Phase},
    "blocked": Blocked("private address", 'EgressPolicy(allow=["10.0.0.0/8"])'),
}


class KeepContract(OutboxSetting):
    @pytest.mark.parametrize("attributes", KEPT.values(), ids=KEPT)
    async def test_it_keeps(self, outbox: Engine, clock: VirtualClock, attributes: dict[str, Any]) -> None:
        delivery = self.delivery(clock, **attributes)

        await self.put(outbox, delivery)
        kept = await outbox.get(delivery.id)
        claimed = (await self.claim_one(outbox)).delivery

        assert kept == delivery
        assert replace(claimed, state=State.PENDING, due_at=delivery.due_at) == delivery

    async def test_it_keeps_times_to_the_microsecond_and_in_any_zone(self, outbox: Engine, clock: VirtualClock) -> None:
        here = clock.now().astimezone(timezone(timedelta(hours=-9, minutes=-30)))
        deliveries = [
            self.delivery(
                clock,
                created_at=here - number * MICROSECOND,
                due_at=here + number * MICROSECOND,
                expires_at=here + timedelta(days=3) + number * MICROSECOND,
            )
            for number in range(1, 4)
        ]

        await self.put(outbox, *deliveries)

        assert [await outbox.get(one.id) for one in deliveries] == deliveries

    async def test_deliveries_of_a_batch_keep_what_is_their_own(self, outbox: Engine, clock: VirtualClock) -> None:
        deliveries = [self.delivery(clock, **attributes) for attributes in KEPT.values()]

        await self.put(outbox, *deliveries)

        assert [await outbox.get(one.id) for one in deliveries] == deliveries

    @pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
    async def test_it_keeps_an_attempt_that_was(self, outbox: Engine, clock: VirtualClock, outcome: Outcome) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = Attempt(
            delivery=claim.delivery.id,
            run=1,
            number=1,
            started_at=clock.now() - timedelta(microseconds=1_234_567),
            duration=timedelta(seconds=1, microseconds=234_567),
            outcome=outcome,
        )

        await self.settle(outbox, claim, Retry(timedelta()), attempt)

        assert list(await outbox.attempts(attempt.delivery)) == [attempt]

    @pytest.mark.parametrize("mismatch", ["answered 202; declared: 200, 204", "the body is no Réponse: 'ok' (missing)"])
    async def test_it_keeps_how_an_answer_differed(self, outbox: Engine, clock: VirtualClock, mismatch: str) -> None:
        await self.put(outbox, self.delivery(clock))
        claim = await self.claim_one(outbox)
        attempt = replace(self.attempt(claim, clock.now()), mismatch=mismatch)

        await self.settle(outbox, claim, Delivered(), attempt)

        assert list(await outbox.attempts(attempt.delivery)) == [attempt]

    async def test_it_keeps_as_many_attempts_as_there_are(self, outbox: Engine, clock: VirtualClock) -> None:
        delivery = self.delivery(clock)
        await self.put(outbox, delivery)
        attempts = []
        for outcome in OUTCOMES.values():
            claim = await self.claim_one(outbox)
            attempts.append(replace(self.attempt(claim, clock.now()), outcome=outcome))
            await self.settle(outbox, claim, Retry(timedelta()), attempts[-1])
            await self.let_pass(outbox, clock, timedelta(seconds=1))

        assert list(await outbox.attempts(delivery.id)) == attempts
        assert (await outbox.get(delivery.id)).attempts == len(attempts)

    async def test_many_deliveries_of_one_batch_are_each_there(self, outbox: Engine, clock: VirtualClock) -> None:
        deliveries = [self.delivery(clock, body=b"%d" % number) for number in range(MANY)]

        report = await outbox.put(Batch(deliveries))

        assert set(report.stored) == {one.id for one in deliveries}
        await self._deliver_all(outbox, clock, {one.id: one.body for one in deliveries})

    async def test_many_batches_at_once_are_each_there(self, outbox: Engine, clock: VirtualClock) -> None:
        deliveries = [self.delivery(clock, body=b"%d" % number) for number in range(MANY)]

        async with anyio.create_task_group() as tasks:
            for delivery in deliveries:
                tasks.start_soon(self.put, outbox, delivery)

        await self._deliver_all(outbox, clock, {one.id: one.body for one in deliveries})

    async def _deliver_all(self, outbox: Engine, clock: VirtualClock, bodies: dict[Any, bytes | None]) -> None:
        claims = await self.claim(outbox, MANY + 1, per_origin=MANY + 1)
        applied = await outbox.settle(
            [Settlement(claim.fence, Delivered(), self.attempt(claim, clock.now())) for claim in claims]
        )

        assert {claim.delivery.id: claim.delivery.body for claim in claims} == bodies
        assert len(ids(claims)) == len(claims) == len(applied)
        assert (await outbox.counts())[State.DELIVERED] == MANY

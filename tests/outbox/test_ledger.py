from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Claim, Dead, Delivered, Delivery, Released, Retry, Settlement, Verdict
from callback_middleware.outbox.ledger import Ledger
from callback_middleware.outcomes import Accepted, Answer, Attempt
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.selection import Selection
from callback_middleware.states import IllegalTransition, State

START = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = 10 * SECOND

DELIVERY = Delivery(
    id=UUID(int=0),
    operation="POST /",
    callback="event",
    method="POST",
    url="https://a.example/",
    origin="a",
    created_at=START,
    due_at=START,
    retry=RetryPolicy(),
    deadline=5 * SECOND,
)

verdicts = st.sampled_from([Delivered(), Dead("told so"), Retry(timedelta()), Retry(3 * SECOND), Released()])


class Workers(RuleBasedStateMachine):
    """Workers that claim, stall, die, report late and twice; operators who cancel, replay and forget; time goes on."""

    limits: ClassVar[BacklogLimits | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(10_000, self.limits)
        self.now = START
        self.numbers = itertools.count(1)
        self.put: dict[UUID, Delivery] = {}
        self.claims: list[Claim] = []
        self.fences: Counter[UUID] = Counter()
        self.runs: Counter[UUID] = Counter()
        self.terminal: set[UUID] = set()
        self.attempts: dict[UUID, set[int]] = {}

    def attempt(self, claim: Claim) -> Attempt:
        run, number = claim.delivery.run, claim.attempt
        return Attempt(claim.delivery.id, run, number, self.now, SECOND, Accepted(Answer(200)))

    @rule(origin=st.sampled_from("abc"), due_in=st.integers(0, 5), again=st.booleans())
    def puts(self, origin: str, due_in: int, again: bool) -> None:
        id_, due_at = UUID(int=next(self.numbers)), self.now + due_in * SECOND
        delivery = replace(DELIVERY, id=id_, origin=origin, due_at=due_at)
        if again and self.put:
            delivery = next(iter(self.put.values()))
        stored = self.ledger.put(Batch([delivery]), self.now).stored
        assert (delivery.id in stored) == (delivery.id not in self.put)
        if stored:
            self.put[delivery.id] = delivery
            self.runs[delivery.id] = 1
            self.attempts[delivery.id] = set()

    @rule(limit=st.integers(1, 4), per_origin=st.integers(1, 3), busy=st.sampled_from("abc"))
    def claim(self, limit: int, per_origin: int, busy: str) -> None:
        claimed = self.ledger.claim(limit, self.now, self.now + LEASE, per_origin=per_origin, busy={busy: 1})
        taken = Counter(claim.delivery.origin for claim in claimed.claims)
        assert len(claimed.claims) <= limit
        assert all(count + (origin == busy) <= per_origin for origin, count in taken.items())
        new = {claim.delivery.origin for claim in claimed.claims if claim.newcomer}
        assert all(taken[origin] == 1 and origin != busy for origin in new)
        for claim in claimed.claims:
            assert claim.fence.number > self.fences[claim.delivery.id]
            assert claim.delivery.id not in self.terminal
            assert claim.delivery.run == self.runs[claim.delivery.id]
            self.fences[claim.delivery.id] = claim.fence.number
        self.terminal |= {delivery.id for delivery in claimed.killers}
        self.claims.extend(claimed.claims)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), verdict=verdicts, forget=st.booleans())
    def settle(self, data: st.DataObject, verdict: Verdict, forget: bool) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        delivery = claim.delivery.id
        attempt = None if isinstance(verdict, Released) else self.attempt(claim)
        applied = self.ledger.settle([Settlement(claim.fence, verdict, attempt)], self.now)
        if applied:
            assert claim.fence.number == self.fences[delivery], "a stale claim was settled"
            assert claim.delivery.run == self.runs[delivery], "an earlier run was settled"
            assert delivery not in self.terminal, "a second terminal result"
            if isinstance(verdict, Delivered | Dead):
                self.terminal.add(delivery)
        if attempt is not None and delivery in self.put:
            self.attempts[delivery].add(claim.fence.number)
        if forget:
            self.claims.remove(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        owned = self.ledger.extend([claim.fence], self.now, self.now + LEASE)
        assert owned <= {claim.fence}
        assert not owned or claim.fence.number == self.fences[claim.delivery.id]
        assert not owned or claim.delivery.id not in self.terminal

    @precondition(lambda self: self.put)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from(sorted(self.put)))
        if delivery in self.terminal:
            with pytest.raises(IllegalTransition):
                self.ledger.cancel(delivery, self.now)
            return
        assert self.ledger.cancel(delivery, self.now).state is State.CANCELLED
        self.terminal.add(delivery)

    @precondition(lambda self: self.put)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from(sorted(self.put)))
        if delivery not in self.terminal:
            with pytest.raises(IllegalTransition):
                self.ledger.replay(delivery, self.now)
            return
        assert self.ledger.replay(delivery, self.now).run == self.runs[delivery] + 1
        self.begin_run(delivery)

    @rule(state=st.sampled_from(State), dry_run=st.booleans(), spacing=st.integers(0, 2))
    def replay_all(self, state: State, dry_run: bool, spacing: int) -> None:
        chosen = {one for one in self.terminal if self.ledger.get(one).state is state}
        selection = Selection(states=[state])
        assert self.ledger.replay_all(selection, self.now, spacing * SECOND, dry_run=dry_run) == len(chosen)
        if not dry_run:
            for delivery in chosen:
                self.begin_run(delivery)

    @rule(ago=st.integers(0, 20), limit=st.integers(1, 3))
    def prune(self, ago: int, limit: int) -> None:
        count = self.ledger.prune(self.now - ago * SECOND, self.now, limit)
        left = {delivery.id for delivery in self.ledger.deliveries()}
        forgotten = self.put.keys() - left
        assert forgotten <= self.terminal
        assert count == len(forgotten) <= limit
        for delivery in forgotten:
            del self.put[delivery], self.attempts[delivery]
            self.terminal.remove(delivery)

    @rule(seconds=st.integers(1, 11))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @invariant()
    def everything_is_counted(self) -> None:
        states = Counter(self.ledger.get(delivery).state for delivery in self.put)
        assert {state: count for state, count in self.ledger.counts().items() if count} == dict(states)
        assert {delivery for delivery in self.put if self.ledger.get(delivery).state.terminal} == self.terminal

    @invariant()
    def every_attempt_is_kept_once(self) -> None:
        for delivery, fences in self.attempts.items():
            assert len(self.ledger.attempts(delivery)) == len(fences)

    def begin_run(self, delivery: UUID) -> None:
        self.terminal.remove(delivery)
        self.runs[delivery] += 1
        assert self.ledger.get(delivery).run == self.runs[delivery]

    def teardown(self) -> None:
        """Whatever happened, one worker that behaves gets everything done."""
        for _ in range(8 * len(self.put) + 8):
            self.now += LEASE
            while claims := self.ledger.claim(9, self.now, self.now + LEASE, per_origin=9, busy={}).claims:
                self.ledger.settle([Settlement(one.fence, Delivered(), self.attempt(one)) for one in claims], self.now)
        assert all(self.ledger.get(delivery).state.terminal for delivery in self.put), "a delivery was forgotten"
        assert self.ledger.counts()[State.SENDING] == 0


class CautiousWorkers(Workers):
    """The same, to receivers of which one at a time is out until they have accepted something."""

    limits = BacklogLimits(newcomer=10_000)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCautiousWorkers = CautiousWorkers.TestCase
TestCautiousWorkers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callback_middleware.delivery import Claim, Dead, Delivered, Delivery, Released, Retry, Settlement, Verdict
from callback_middleware.outbox.ledger import Ledger
from callback_middleware.outcomes import Accepted, Answer, Attempt
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State

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
    """Workers that claim, stall, die, report late and twice; and a clock that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(keep=10_000)
        self.now = START
        self.put: dict[UUID, Delivery] = {}
        self.claims: list[Claim] = []
        self.fences: Counter[UUID] = Counter()
        self.terminal: set[UUID] = set()

    def attempt(self, claim: Claim) -> Attempt:
        return Attempt(claim.delivery.id, 1, claim.attempt, self.now, SECOND, Accepted(Answer(200)))

    @rule(origin=st.sampled_from("abc"), due_in=st.integers(0, 5), again=st.booleans())
    def puts(self, origin: str, due_in: int, again: bool) -> None:
        delivery = replace(DELIVERY, id=UUID(int=len(self.put) + 1), origin=origin, due_at=self.now + due_in * SECOND)
        if again and self.put:
            delivery = next(iter(self.put.values()))
        self.ledger.put(Batch([delivery]), self.now)
        self.put[delivery.id] = delivery

    @rule(limit=st.integers(1, 4), per_origin=st.integers(1, 3), busy=st.sampled_from("abc"))
    def claim(self, limit: int, per_origin: int, busy: str) -> None:
        claimed = self.ledger.claim(limit, self.now, self.now + LEASE, per_origin=per_origin, busy={busy: 1})
        taken = Counter(claim.delivery.origin for claim in claimed.claims)
        assert len(claimed.claims) <= limit
        assert all(count + (origin == busy) <= per_origin for origin, count in taken.items())
        for claim in claimed.claims:
            assert claim.fence.number > self.fences[claim.delivery.id]
            assert claim.delivery.id not in self.terminal
            self.fences[claim.delivery.id] = claim.fence.number
        self.terminal |= {delivery.id for delivery in claimed.killers}
        self.claims.extend(claimed.claims)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), verdict=verdicts, forget=st.booleans())
    def settle(self, data: st.DataObject, verdict: Verdict, forget: bool) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        attempt = None if isinstance(verdict, Released) else self.attempt(claim)
        applied = self.ledger.settle([Settlement(claim.fence, verdict, attempt)], self.now)
        if applied:
            assert claim.fence.number == self.fences[claim.delivery.id], "a stale claim was settled"
            assert claim.delivery.id not in self.terminal, "a second terminal result"
            if isinstance(verdict, Delivered | Dead):
                self.terminal.add(claim.delivery.id)
        if forget:
            self.claims.remove(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        owned = self.ledger.extend([claim.fence], self.now, self.now + LEASE)
        assert owned <= {claim.fence}
        assert not owned or claim.fence.number == self.fences[claim.delivery.id]

    @rule(seconds=st.integers(1, 11))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @invariant()
    def everything_is_counted(self) -> None:
        states = Counter(self.ledger.get(delivery).state for delivery in self.put)
        assert {state: count for state, count in self.ledger.counts().items() if count} == dict(states)
        assert sum(count for state, count in states.items() if state.terminal) == len(self.terminal)

    def teardown(self) -> None:
        """Whatever happened, one worker that behaves gets everything done."""
        for _ in range(8 * len(self.put) + 8):
            self.now += LEASE
            while claims := self.ledger.claim(9, self.now, self.now + LEASE, per_origin=9, busy={}).claims:
                self.ledger.settle([Settlement(one.fence, Delivered(), self.attempt(one)) for one in claims], self.now)
        assert all(self.ledger.get(delivery).state.terminal for delivery in self.put), "a delivery was forgotten"
        assert self.ledger.counts()[State.SENDING] == 0


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

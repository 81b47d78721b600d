"""Two processes on one outbox, whatever they do, against a model of what the ports promise.

The model is of any engine; how it is asked is for the engine's own test to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callback_middleware.backlog import BacklogLimits, claimable, is_newcomer, refusal
from callback_middleware.delivery import Claim, Dead, Delivered, Delivery, Fence, Released, Retry, Settlement, Verdict
from callback_middleware.destinations import Origin
from callback_middleware.ports import Batch, PutReport
from callback_middleware.states import IllegalTransition, State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from callback_middleware.verdicts import SUSPICIONS

SECOND = timedelta(seconds=1)
LEASE = 10 * SECOND
ORIGINS = [f"https://{name}.example:443" for name in "abcd"]

SETTING: Final = OutboxSetting()

verdicts = st.sampled_from(
    [Delivered(), Dead("told so"), Retry(timedelta(), "was down"), Retry(3 * SECOND), Released(), Released(2 * SECOND)]
)
which = st.integers(0, 10**6)


@dataclass
class Row:
    """A delivery as the ports describe it."""

    delivery: Delivery
    due: datetime
    state: State = State.PENDING
    fence: int = 0
    claims: int = 0
    attempts: int = 0
    run: int = 1
    reason: str = ""
    ended: datetime | None = None
    made: set[int] = field(default_factory=set)

    @property
    def suspicions(self) -> int:
        return self.claims - self.attempts

    def is_due(self, now: datetime) -> bool:
        return not self.state.terminal and self.due <= now

    def end(self, state: State, now: datetime, reason: str) -> None:
        self.state, self.ended, self.reason = state, now, reason


class Claimed(NamedTuple):
    """What a claim came to: claims, and who was buried instead. ``own`` is for whoever takes it back."""

    claims: Sequence[Claim]
    killers: Collection[UUID]
    own: Any = None


class Engine(Protocol):
    """An outbox with two processes at it, each asked by its number, 0 or 1."""

    blur: timedelta
    """How long nothing is written of a receiver that accepts, after it was written that it did."""

    def put(self, process: int, batch: Batch) -> PutReport: ...

    def claim(self, process: int, limit: int, lease: timedelta, per_origin: int, busy: Mapping[Origin, int]) -> Claimed:
        """As the port's."""
        ...

    def unclaim(self, process: int, claimed: Claimed) -> None: ...

    def settle(self, process: int, settlements: Sequence[Settlement]) -> frozenset[Fence]: ...

    def extend(self, process: int, claim: Claim, lease: timedelta) -> frozenset[Fence]: ...

    def cancel(self, process: int, delivery: UUID) -> Delivery: ...

    def replay(self, process: int, delivery: UUID) -> Delivery: ...

    def prune(self, process: int, before: datetime) -> int: ...

    def counts(self, process: int) -> Mapping[State, int]: ...

    def deliveries(self, process: int, known: Collection[UUID]) -> Mapping[UUID, Delivery]:
        """All there are; ``known`` are those that were put and not forgotten."""
        ...

    def queued(self) -> Mapping[UUID, tuple[int, int]]:
        """Fence and claims of what is pending or sending."""
        ...

    def tried(self) -> Mapping[UUID, Collection[int]]:
        """The fences that attempts are known of."""
        ...

    def live(self) -> Mapping[Origin, int]:
        """How many deliveries count against its bound, of each origin that has any."""
        ...

    def accepted(self) -> Mapping[Origin, datetime]:
        """When each origin that is known to have accepted something did so last, as far as it was written."""
        ...

    def let_pass(self, time: timedelta) -> None:
        """Of whatever the engine tells the time by."""
        ...

    def die(self, process: int) -> None:
        """It is gone, and another one takes its place."""
        ...

    def close(self) -> None: ...


class Processes(RuleBasedStateMachine):
    """Workers that claim, stall, die, report late and twice; operators; and a clock that goes on.

    Args:
        engine: Empty.
        clock: What it tells the time by.
        limits: What it is bounded by.
    """

    def __init__(self, engine: Engine, clock: VirtualClock, limits: BacklogLimits | None) -> None:
        super().__init__()
        self.engine = engine
        self.clock = clock
        self.limits = limits
        self.rows: dict[UUID, Row] = {}
        self.forgotten: set[UUID] = set()
        self.held: list[Claim] = []
        self.keys: dict[str, datetime] = {}
        self.accepted: dict[Origin, datetime] = {}
        self.asked: dict[Origin, UUID] = {}

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def one_of(self, number: int) -> Row:
        return list(self.rows.values())[number % len(self.rows)]

    @rule(
        process=st.integers(0, 1),
        origins=st.lists(st.sampled_from(ORIGINS), min_size=1, max_size=4),
        due_in=st.integers(-2, 5),
        key=st.sampled_from([None, None, "x", "y"]),
        again=st.booleans(),
    )
    def put(self, process: int, origins: list[Origin], due_in: int, key: str | None, again: bool) -> None:
        batch = [
            SETTING.delivery(self.clock, origin=origin, due_in=due_in * SECOND, dedupe=key if not index else None)
            for index, origin in enumerate(origins)
        ]
        if again and self.rows:
            batch.append(replace(self.one_of(len(batch)).delivery, body=b"another"))
        report = self.engine.put(process, Batch(batch))

        used = key is not None and self.keys.get(key, self.now) > self.now
        new, refused = [], []
        for one in batch:
            if one.id in self.rows or (used and one.dedupe):
                continue
            if self.is_full(one.origin):
                refused.append(one.id)
                continue
            self.rows[one.id] = Row(one, one.due_at)
            new.append(one.id)
            if one.dedupe:
                self.keys[one.dedupe] = self.now + timedelta(hours=24)
        assert list(report.stored) == new
        assert list(report.duplicates) == [one.id for one in batch[:1] if used]
        assert list(report.refused) == refused

    def live(self) -> Counter[Origin]:
        return Counter(row.delivery.origin for row in self.rows.values() if not row.state.terminal)

    def is_full(self, origin: Origin) -> bool:
        return refusal(self.limits, origin, accepted=origin in self.accepted, live=self.live()[origin]) is not None

    def is_newcomer(self, origin: Origin) -> bool:
        return is_newcomer(self.limits, accepted=origin in self.accepted)

    def room(self, origin: Origin, per_origin: int, busy: int) -> int:
        row = self.rows.get(self.asked.get(origin, UUID(int=0)))
        out = row is not None and row.state is State.SENDING and row.due > self.now
        return claimable(per_origin, newcomer=self.is_newcomer(origin), out=out, busy=busy)

    @rule(
        process=st.integers(0, 1),
        limit=st.integers(1, 6),
        per_origin=st.integers(1, 4),
        busy=st.dictionaries(st.sampled_from(ORIGINS), st.integers(1, 4), max_size=2),
        taken_back=st.sampled_from([False, False, False, True]),
    )
    def claims(self, process: int, limit: int, per_origin: int, busy: dict[Origin, int], taken_back: bool) -> None:
        self.claim(process, limit, per_origin, busy, taken_back=taken_back)

    def claim(self, process: int, limit: int, per_origin: int, busy: dict[Origin, int], *, taken_back: bool) -> None:
        room = Counter({one: self.room(one, per_origin, busy.get(one, 0)) for one in ORIGINS})
        claimed = self.engine.claim(process, limit, LEASE, per_origin, busy)
        self.bury(claimed.killers)
        self.check_choice(claimed.claims, limit, room)
        for one in claimed.claims:
            self.check_claim(one)
        if taken_back:
            self.engine.unclaim(1 - process, claimed)
            for one in claimed.claims:
                row = self.rows[one.fence.delivery]
                row.state, row.due, row.claims = State.PENDING, self.now, row.claims - 1
        self.held.extend(claimed.claims)

    def bury(self, killers: Collection[UUID]) -> None:
        expected = {one: row for one, row in self.rows.items() if row.is_due(self.now) and row.suspicions >= SUSPICIONS}
        assert set(killers) == set(expected)
        for row in expected.values():
            row.end(State.DEAD, self.now, "killed its worker")

    def check_choice(self, chosen: Sequence[Claim], limit: int, room: Counter[Origin]) -> None:
        """A suspect alone, unless another is out; else of each origin in turn as many as there is room for."""
        due = [row for row in self.rows.values() if row.is_due(self.now)]
        out = any(
            row.state is State.SENDING and row.due > self.now and row.suspicions > 1 for row in self.rows.values()
        )
        suspects = {row.delivery.id for row in due if row.suspicions and room[row.delivery.origin] > 0}
        if suspects and not out:
            (one,) = chosen
            assert one.delivery.id in suspects
            return
        there = Counter(row.delivery.origin for row in due if not row.suspicions)
        able = {origin: min(count, max(room[origin], 0)) for origin, count in there.items()}
        taken = Counter(one.delivery.origin for one in chosen)
        assert len(chosen) == min(limit, sum(able.values()))
        assert all(taken[origin] <= able[origin] for origin in taken)
        for origin, count in able.items():
            assert taken[origin] == count or taken[origin] >= max(taken.values()) - 1, "an origin missed its turn"

    def check_claim(self, one: Claim) -> None:
        row = self.rows[one.fence.delivery]
        assert row.is_due(self.now)
        assert one.fence.number > row.fence
        assert one.delivery == replace(
            row.delivery,
            state=State.SENDING,
            due_at=self.now + LEASE,
            attempts=row.attempts,
            run=row.run,
            reason=row.reason,
            expires_at=one.delivery.expires_at,
        )
        row.state, row.due, row.fence, row.claims = State.SENDING, self.now + LEASE, one.fence.number, row.claims + 1
        assert one.newcomer == self.is_newcomer(row.delivery.origin)
        if one.newcomer:
            self.asked[row.delivery.origin] = one.fence.delivery

    def owned(self, fence: Fence) -> Row | None:
        row = self.rows.get(fence.delivery)
        return row if row is not None and row.fence == fence.number and row.state is State.SENDING else None

    @precondition(lambda self: self.held)
    @rule(process=st.integers(0, 1), numbers=st.lists(which, min_size=1, max_size=3), verdict=verdicts)
    def settle(self, process: int, numbers: list[int], verdict: Verdict) -> None:
        settled = [self.held[number % len(self.held)] for number in numbers]
        settlements = [
            Settlement(
                one.fence, verdict, None if isinstance(verdict, Released) else SETTING.attempt(one, self.now, 500)
            )
            for one in settled
        ]
        applied = self.engine.settle(process, settlements)

        expected = {one.fence for one in settled if self.owned(one.fence) is not None}
        assert applied == expected
        for settlement in settlements:
            row = self.owned(settlement.fence)
            if settlement.attempt is not None and settlement.fence.delivery in self.rows:
                self.rows[settlement.fence.delivery].made.add(settlement.fence.number)
            if row is not None:
                self.apply(row, settlement)

    def apply(self, row: Row, settlement: Settlement) -> None:
        match settlement.verdict:
            case Delivered():
                told = self.accepted.get(row.delivery.origin)
                if told is None or told < self.now - self.engine.blur:
                    self.accepted[row.delivery.origin] = self.now
                row.attempts += 1
                row.end(State.DELIVERED, self.now, "")
            case Dead(reason):
                row.attempts += 1
                row.end(State.DEAD, self.now, reason)
            case Retry(after, reason):
                row.attempts += 1
                row.state, row.due, row.reason, row.claims = State.PENDING, self.now + after, reason, row.attempts
            case Released(after):
                row.state, row.due, row.claims = State.PENDING, self.now + after, row.claims - 1

    @precondition(lambda self: self.held)
    @rule(process=st.integers(0, 1), number=which)
    def extend(self, process: int, number: int) -> None:
        one = self.held[number % len(self.held)]
        row = self.owned(one.fence)

        assert self.engine.extend(process, one, LEASE) == (frozenset() if row is None else {one.fence})

        if row is not None:
            row.due = self.now + LEASE

    @precondition(lambda self: self.rows)
    @rule(process=st.integers(0, 1), number=which)
    def cancel(self, process: int, number: int) -> None:
        row = self.one_of(number)
        if row.state.terminal:
            with pytest.raises(IllegalTransition):
                self.engine.cancel(process, row.delivery.id)
        else:
            assert self.engine.cancel(process, row.delivery.id).state is State.CANCELLED
            row.end(State.CANCELLED, self.now, row.reason)

    @precondition(lambda self: self.rows)
    @rule(process=st.integers(0, 1), number=which)
    def replay(self, process: int, number: int) -> None:
        row = self.one_of(number)
        if not row.state.terminal:
            with pytest.raises(IllegalTransition):
                self.engine.replay(process, row.delivery.id)
        else:
            assert self.engine.replay(process, row.delivery.id).run == row.run + 1
            row.state, row.due, row.run, row.reason = State.PENDING, self.now, row.run + 1, ""
            row.claims = row.attempts = 0

    @rule(process=st.integers(0, 1), seconds=st.integers(0, 11))
    def prune(self, process: int, seconds: int) -> None:
        before = self.now - seconds * SECOND
        forgotten = self.engine.prune(process, before)

        old = {one for one, row in self.rows.items() if row.state.terminal and row.ended and row.ended < before}
        assert forgotten == len(old)
        for one in old:
            del self.rows[one]
        self.forgotten |= old
        live = self.live()
        self.accepted = {one: at for one, at in self.accepted.items() if live[one] or at >= before - self.engine.blur}

    @rule(seconds=st.integers(1, 11))
    def time_passes(self, seconds: int) -> None:
        self.pass_time(seconds * SECOND)

    def pass_time(self, time: timedelta) -> None:
        self.clock.advance(time)
        self.engine.let_pass(time)

    @precondition(lambda self: self.rows)
    @rule(process=st.integers(0, 1), times=st.integers(1, SUSPICIONS))
    def workers_die_over_and_over(self, process: int, times: int) -> None:
        for _ in range(times):
            self.claim(process, 2, 4, {}, taken_back=False)
            self.pass_time(LEASE)

    @rule(process=st.integers(0, 1))
    def a_process_dies_and_another_takes_its_place(self, process: int) -> None:
        self.engine.die(process)

    @invariant()
    def both_know_the_same(self) -> None:
        counts = Counter(row.state for row in self.rows.values())
        for process in (0, 1):
            told = self.engine.counts(process)
            assert {state: count for state, count in told.items() if count} == dict(counts)
        known = self.engine.deliveries(0, self.rows.keys())
        assert known.keys() == self.rows.keys()
        for one, row in self.rows.items():
            told_of = known[one]
            assert (told_of.state, told_of.attempts, told_of.run, told_of.reason) == (
                *(row.state, row.attempts, row.run),
                row.reason,
            )
            assert row.state.terminal or told_of.due_at == row.due

    @invariant()
    def what_later_claims_depend_on_is_right(self) -> None:
        """What the ports do not show."""
        assert self.engine.queued() == {
            one: (row.fence, row.claims) for one, row in self.rows.items() if not row.state.terminal
        }
        tried = self.engine.tried()
        for one, row in self.rows.items():
            assert sorted(tried.get(one, ())) == sorted(row.made)
        assert self.engine.live() == dict(self.live())
        assert self.engine.accepted() == self.accepted

    def teardown(self) -> None:
        """Whatever happened, one worker that behaves gets everything done."""
        for _ in range(8 * len(self.rows) + 8):
            self.pass_time(LEASE)
            while made := self.engine.claim(0, 9, LEASE, 9, {}).claims:
                self.engine.settle(
                    0, [Settlement(one.fence, Delivered(), SETTING.attempt(one, self.now)) for one in made]
                )
            counts = self.engine.counts(0)
            if counts[State.PENDING] + counts[State.SENDING] == 0:
                break
        counts = self.engine.counts(0)
        self.engine.close()
        assert counts[State.PENDING] == counts[State.SENDING] == 0, "a delivery was left behind"


BOUNDS: Final = BacklogLimits(per_origin=5, newcomer=3)
"""Bounds that are reached, and receivers that are newcomers at first."""

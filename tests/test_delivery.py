from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.delivery import Claim, Delivery, Fence
from callback_middleware.destinations import Destination
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import OutboxError
from callback_middleware.outcomes import Accepted, Answer, Rejected, outcome_of
from callback_middleware.planning import Plan
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import TRANSITIONS, Event, IllegalTransition, State, advance

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Held:
    """Something with a state that moves by the table, as an outbox's row does."""

    state: State = State.PENDING

    def move(self, event: Event) -> None:
        self.state = advance(self.state, event)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_any_sequence_of_events_moves_by_the_table_or_raises_and_changes_nothing(events: list[Event]) -> None:
    held = Held()
    for event in events:
        before = held.state
        if event in TRANSITIONS[before]:
            held.move(event)
            assert held.state is TRANSITIONS[before][event]
        else:
            with pytest.raises(IllegalTransition) as caught:
                held.move(event)
            assert held.state is before
            assert (caught.value.state, caught.value.event) == (before, event)


@given(st.lists(st.sampled_from([event for event in Event if event is not Event.REPLAY]), max_size=40))
def test_without_a_replay_no_run_has_two_terminal_results(events: list[Event]) -> None:
    held = Held()
    results = 0
    for event in events:
        try:
            held.move(event)
        except IllegalTransition:
            continue
        results += held.state.terminal

    assert results <= 1


def test_a_terminal_state_is_left_by_a_replay_alone() -> None:
    for state in State:
        if state.terminal:
            assert dict(TRANSITIONS[state]) == {Event.REPLAY: State.PENDING}
        else:
            assert Event.REPLAY not in TRANSITIONS[state]


def test_nothing_is_sent_that_was_not_claimed() -> None:
    leads_to_sending = {
        (state, event) for state in State for event, then in TRANSITIONS[state].items() if then is State.SENDING
    }

    assert leads_to_sending == {(State.PENDING, Event.CLAIM)}


def test_every_state_can_be_reached_and_every_event_happens() -> None:
    reached = {State.PENDING}
    for _ in State:
        reached |= {then for state in reached for then in TRANSITIONS[state].values()}

    assert reached == set(State) == set(TRANSITIONS)
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(Event)


def test_an_illegal_move_is_the_operators_and_says_which() -> None:
    with pytest.raises(OutboxError, match="a delivery that is dead cannot claim"):
        advance(State.DEAD, Event.CLAIM)


@given(st.integers(100, 599))
def test_2xx_accepts_and_everything_else_rejects(status: int) -> None:
    answer = Answer(status)

    assert outcome_of(answer) == (Accepted(answer) if status // 100 == 2 else Rejected(answer))


def test_a_header_is_found_by_its_name_in_any_case() -> None:
    answer = Answer(503, (("Retry-After", "1"), ("RETRY-AFTER", "2")))

    assert answer.header("retry-after") == "1"
    assert answer.header("location") is None


PLAN = Plan(
    id=UUID(int=1),
    operation="POST /invoices/",
    callback="invoice_notification",
    method="POST",
    destination=Destination(
        "https://receiver.example/events", HttpUrl.of("https://receiver.example/events").authority, "/events"
    ),
    headers=(("content-type", "application/json"),),
    body=b"{}",
    delay=timedelta(),
    at=None,
    retry=None,
    deadline=None,
    dedupe="key",
    tags={"tenant": "7"},
)


def delivery_of(plan: Plan, retry: RetryPolicy | None = None) -> Delivery:
    return Delivery.of(plan, now=NOW, retry=retry or RetryPolicy(), deadline=timedelta(seconds=15))


def test_a_plan_becomes_a_delivery_that_is_pending_and_unattempted() -> None:
    delivery = delivery_of(PLAN)

    assert (delivery.state, delivery.run, delivery.attempts, delivery.reason) == (State.PENDING, 1, 0, "")
    assert (delivery.id, delivery.url, delivery.origin) == (
        PLAN.id,
        "https://receiver.example/events",
        "https://receiver.example:443",
    )
    assert (delivery.body, delivery.dedupe, delivery.tags) == (PLAN.body, PLAN.dedupe, PLAN.tags)
    assert (delivery.created_at, delivery.due_at) == (NOW, NOW)


def test_what_a_plan_says_goes_before_what_everybody_gets() -> None:
    own = RetryPolicy.fixed(1)

    delivery = delivery_of(PLAN._replace(retry=own, deadline=MINUTE))

    assert (delivery.retry, delivery.deadline) == (own, MINUTE)
    assert delivery_of(PLAN).deadline == timedelta(seconds=15)


def test_the_age_counts_from_when_it_is_first_due() -> None:
    delivery = delivery_of(PLAN._replace(delay=60 * MINUTE), RetryPolicy(max_age=MINUTE))

    assert delivery.expires_at == NOW + 61 * MINUTE
    assert delivery_of(PLAN).expires_at is None


def test_attempts_are_numbered_from_one() -> None:
    delivery = delivery_of(PLAN)

    assert Claim(Fence(delivery.id, 7), delivery).attempt == 1
    assert Claim(Fence(delivery.id, 8), replace(delivery, attempts=4)).attempt == 5

"""What finds out whether something was lost finds it: every fault, made up, and nothing where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from callback_middleware import Attempt, Delivery, Outcome, RetryPolicy, State
from callback_middleware.destinations import Origin
from callback_middleware.outcomes import Accepted, Answer, Phase, TimedOut
from crashing.journal import Entry, Flights, Journal, in_flight, outlived, results, stale, waits
from crashing.verdict import Evidence, Faults, Reception, Result, Stored, judge

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ONE, OTHER = UUID(int=1), UUID(int=2)
ACCEPTED = Accepted(Answer(200))
LATE = TimedOut(Phase.HEADERS)


def delivery(identifier: UUID, state: State = State.DELIVERED) -> Delivery:
    return Delivery(
        id=identifier,
        operation="POST /single",
        callback="invoice_notification",
        method="POST",
        url="http://127.0.0.1:8001/invoices/1",
        origin=Origin("http://127.0.0.1:8001"),
        created_at=NOON,
        due_at=NOON,
        retry=RetryPolicy(),
        deadline=timedelta(seconds=1),
        state=state,
    )


def attempt(outcome: Outcome = ACCEPTED, *, number: int = 1, run: int = 1) -> Attempt:
    return Attempt(
        delivery=ONE, run=run, number=number, started_at=NOON, duration=timedelta(milliseconds=2), outcome=outcome
    )


KEPT = Evidence(
    acknowledged={"a", "b"},
    received=[Reception(ONE, "a"), Reception(OTHER, "b")],
    stored=[Stored("a", delivery(ONE), [attempt()]), Stored("b", delivery(OTHER), [attempt()])],
    results=[Result(ONE, 1), Result(OTHER, 1)],
)


def told(*attempts: Attempt, times: int = 1, **changes: Any) -> Evidence:
    """``KEPT``, but with these attempts of the first delivery, which came so often."""
    received = [Reception(ONE, "a")] * times + [Reception(OTHER, "b")]
    return replace(KEPT, received=received, stored=[Stored("a", delivery(ONE), attempts), KEPT.stored[1]], **changes)


FAULTY = {
    "an acknowledged one that the outbox does not have": (
        replace(KEPT, stored=KEPT.stored[:1], received=KEPT.received[:1]),
        Faults(missing=frozenset("b"), never_received=frozenset("b")),
    ),
    "an acknowledged one that was not sent": (
        replace(KEPT, received=KEPT.received[1:]),
        Faults(never_received=frozenset("a")),
    ),
    "one that was sent and is not stored": (
        replace(KEPT, received=[*KEPT.received, Reception(UUID(int=3), "c")]),
        Faults(unstored=frozenset({UUID(int=3)})),
    ),
    "two deliveries of one request": (
        replace(KEPT, stored=[*KEPT.stored, Stored("a", delivery(UUID(int=3)))]),
        Faults(doubled=frozenset("a")),
    ),
    "one that is left over": (
        replace(KEPT, stored=[Stored("a", delivery(ONE, State.SENDING)), KEPT.stored[1]]),
        Faults(unsettled=frozenset({ONE})),
    ),
    "two terminal results of one run": (
        replace(KEPT, results=[Result(ONE, 1), Result(ONE, 1)]),
        Faults(two_results=frozenset({ONE})),
    ),
    "a run that went on after it had ended": (
        told(attempt(), attempt(number=2), times=2, interrupted=[ONE]),
        Faults(two_results=frozenset({ONE})),
    ),
    "a settlement by a worker that was no longer the owner": (
        replace(KEPT, stale=[ONE]),
        Faults(overruled=frozenset({ONE})),
    ),
    "one duplicate more than attempts that were interrupted": (
        told(attempt(), times=3, interrupted=[ONE, OTHER]),
        Faults(unexplained=frozenset({ONE})),
    ),
}

FAULTLESS = {
    "everything once": KEPT,
    "one that was stored and not acknowledged": replace(KEPT, acknowledged={"a"}),
    "one that nobody acknowledged and nobody stored": replace(KEPT, acknowledged=set(), stored=[], received=[]),
    "a duplicate of an attempt that was interrupted": told(attempt(), times=2, interrupted=[ONE]),
    "a duplicate of an attempt that outlived its lease": told(attempt(), attempt(), times=2, outlived=[ONE]),
    "a duplicate of an attempt that failed after it was heard": told(attempt(LATE), attempt(number=2), times=2),
    "a late result that was not applied": told(attempt(), attempt(), times=2, outlived=[ONE]),
    "a result of each run": told(
        *(attempt(LATE), attempt(number=2), attempt(run=2)), times=2, results=[Result(ONE, 1), Result(ONE, 2)]
    ),
}


@pytest.mark.parametrize(("evidence", "faults"), FAULTY.values(), ids=FAULTY)
def test_a_fault_is_found_and_no_other(evidence: Evidence, faults: Faults) -> None:
    assert judge(evidence) == faults
    assert faults


@pytest.mark.parametrize("evidence", FAULTLESS.values(), ids=FAULTLESS)
def test_where_there_is_no_fault_none_is_found(evidence: Evidence) -> None:
    assert not judge(evidence), judge(evidence)


def test_duplicates_are_those_that_came_once_more() -> None:
    assert KEPT.duplicates == 0
    assert told(times=3).duplicates == 2


def test_faults_are_shown_with_their_number_and_the_first_of_them() -> None:
    faults = Faults(missing=frozenset("abcd"), two_results=frozenset({ONE}))
    assert str(faults) == f"4 missing (a, b, c …); 1 two results ({ONE} …)"
    assert str(Faults()) == "no faults"


def test_what_was_written_before_a_kill_is_read_after_it(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal")) as journal:
        journal.write("claimed", ONE, OTHER, at=1.5)
        journal.write("result", ONE, number=2)
        first, second, third = journal.read()
    assert first[2:] == ("claimed", str(ONE), 0)
    assert second == (1.5, first.process, "claimed", str(OTHER), 0)
    assert third[2:] == ("result", str(ONE), 2)
    assert third.at <= time.monotonic()


@pytest.mark.parametrize("missing", [1, 2, 4, 40, 60])
def test_a_line_that_a_kill_has_cut_in_two_is_left_out(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(Journal(path)) as journal:
        journal.write("began", ONE)
        path.write_bytes(path.read_bytes()[:-missing])
        journal.write("began", OTHER)
        (entry,) = journal.read()
    assert entry.subject == str(OTHER)


def entries(*events: tuple[float, int, str, UUID]) -> Sequence[Entry]:
    return [Entry(at, process, what, str(subject), int(what == "ended")) for at, process, what, subject in events]


def test_in_flight_is_what_this_process_has_begun_and_not_ended() -> None:
    journal = entries(
        (1, 7, "began", ONE), (2, 8, "began", OTHER), (3, 7, "ended", ONE), (4, 7, "began", ONE), (5, 7, "began", OTHER)
    )
    assert sorted(in_flight(journal, 7)) == [ONE, OTHER]
    assert in_flight(journal, 8) == [OTHER]
    assert in_flight(journal, 9) == []


def test_flights_are_counted_as_the_journal_grows(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal")) as journal:
        flights, others = Flights(journal, os.getpid()), Flights(journal, 1)
        assert flights.count() == 0
        journal.write("began", ONE, OTHER)
        assert flights.count() == 2
        journal.write("ended", ONE)
        journal.write("claimed", ONE)
        assert (flights.count(), flights.count(), others.count()) == (1, 1, 0)


def test_an_attempt_outlives_its_lease_when_it_is_accepted_that_long_after_its_own_claim() -> None:
    lease = timedelta(seconds=3)
    journal = entries(
        (1, 7, "claimed", ONE),
        (3.9, 7, "ended", ONE),
        (4, 7, "claimed", ONE),
        (5, 8, "claimed", ONE),
        (7.5, 7, "ended", ONE),
        (7.6, 8, "ended", ONE),
    )
    assert outlived(journal, lease) == [ONE]
    # Of one that was not accepted the log tells that it failed.
    assert outlived([entry._replace(number=0) for entry in journal], lease) == []


BY_8 = ((4, 8, "settling", ONE), (5, 8, "applied", ONE))


def test_a_settlement_is_stale_when_another_process_has_claimed_before_it_began() -> None:
    overtaken = entries((1, 7, "claimed", ONE), (2, 8, "claimed", ONE), (3, 7, "settling", ONE), (4, 7, "applied", ONE))
    assert stale(overtaken) == [ONE]
    assert stale([*overtaken[:3], overtaken[3]._replace(what="late")]) == []
    # Another may claim as soon as it is settled: before that is written down.
    assert stale([overtaken[0], overtaken[2], overtaken[1], overtaken[3]]) == []
    # One that stalls while it claims writes that down when another has taken over.
    assert stale(entries((2, 8, "claimed", ONE), (1, 7, "claimed", ONE), *BY_8)) == []
    # One that waits for its claim writes it down when another has claimed and settled.
    assert stale(entries((3, 7, "claimed", ONE), (2, 8, "claimed", ONE), *BY_8)) == []
    # And the one that was overtaken may claim again.
    late = overtaken[3]._replace(what="late")
    assert stale([*overtaken[:3], late, overtaken[0], *overtaken[2:]]) == []


def test_results_are_those_that_were_applied() -> None:
    journal = entries((1, 7, "result", ONE), (2, 8, "late", ONE))
    assert results(journal) == [Result(ONE, 0)]


def test_a_delivery_waits_until_it_is_claimed_and_claimed_again_and_settled() -> None:
    journal = entries(
        (12, 8, "claimed", ONE),
        (13, 7, "began", ONE),
        # It stalled before it wrote that down.
        (11, 7, "claimed", ONE),
        (16, 8, "result", ONE),
        (20, 7, "late", ONE),
        (10, 7, "claimed", OTHER),
    )
    assert waits(journal, {ONE: 9, OTHER: 9.5}) == {ONE: 4, OTHER: 0.5}
    assert waits([], {ONE: 9}) == {ONE: 0}
    # It was settled, and its worker stalled before it could write that down.
    assert waits(journal, {ONE: 9}, {ONE: 12.5, OTHER: 15}) == {ONE: 2}

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callback_middleware.delivery import Claim, Dead, Delivered, Delivery, Fence, Released, Retry
from callback_middleware.dispatcher.attempts import Attempter, headers_of
from callback_middleware.dispatcher.mismatches import Mismatches
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import AddressBusy, Answer, AttemptRequest, Outcome, Phase, Unreachable, outcome_of
from callback_middleware.ports import Signer
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing import VirtualClock
from callback_middleware.verdicts import EXPIRED

NOW = datetime(2030, 1, 1, 0, 0, 0, 900_000, tzinfo=UTC)
EGRESS = EgressPolicy(own_addresses=())
DELIVERY = Delivery(
    id=UUID("01890000-0000-7000-8000-000000000001"),
    operation="POST /invoices/",
    callback="invoice_notification",
    method="PUT",
    url="https://receiver.example/events?q=%20",
    origin="https://receiver.example:443",
    headers=(("content-type", "application/json"), ("x-tenant", "7")),
    body=b'{"paid":true}',
    created_at=NOW,
    due_at=NOW,
    retry=RetryPolicy.fixed(60),
    deadline=timedelta(seconds=7),
)
CLAIM = Claim(Fence(DELIVERY.id, 3), DELIVERY)


class Sign:
    """A signer that shows what it signed."""

    def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
        return (("webhook-signature", f"{delivery.id} {timestamp.timestamp()}"),)


class Break:
    def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
        raise KeyError("whsec_secret")


class Wire:
    """A sender whose attempts take two seconds."""

    def __init__(self, clock: VirtualClock, come_to: Callable[[], Outcome]) -> None:
        self.clock = clock
        self.come_to = come_to
        self.asked: list[tuple[AttemptRequest, EgressPolicy, timedelta]] = []

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.asked.append((request, egress, deadline))
        self.clock.advance(2)
        return self.come_to()

    async def aclose(self) -> None: ...


def attempter(wire: Wire, signer: Signer | None = None) -> Attempter:
    return Attempter(sender=wire, signer=signer, egress=EGRESS, clock=wire.clock, chance=lambda: 0.5)


def answering(status: int) -> Wire:
    return Wire(VirtualClock(NOW), lambda: outcome_of(Answer(status)))


def test_an_attempt_carries_the_deliverys_headers_and_those_of_standard_webhooks() -> None:
    assert headers_of(DELIVERY, NOW, None) == (
        ("content-type", "application/json"),
        ("x-tenant", "7"),
        ("callback-depth", "1"),
        ("webhook-id", "01890000-0000-7000-8000-000000000001"),
        ("webhook-timestamp", "1893456000"),
    )


def test_what_is_signed_is_the_attempts_own_time_in_whole_seconds_as_its_header_says() -> None:
    *_, timestamp, signature = headers_of(DELIVERY, NOW, Sign())

    assert timestamp == ("webhook-timestamp", "1893456000")
    assert signature == ("webhook-signature", f"{DELIVERY.id} 1893456000.0")


@pytest.mark.parametrize("name", ["webhook-id", "Webhook-Timestamp"])
def test_a_signer_that_sets_a_header_a_second_time_is_refused(name: str) -> None:
    class Again:
        def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
            return (("webhook-signature", "v1,"), (name, "7"))

    with pytest.raises(ConfigurationError, match=f"the signer returned {name}"):
        headers_of(DELIVERY, NOW, Again())


async def test_the_request_is_the_deliverys_to_the_byte() -> None:
    wire = answering(200)

    await attempter(wire).attempt(CLAIM)

    ((request, egress, deadline),) = wire.asked
    assert (request.method, request.url, request.body) == ("PUT", DELIVERY.url, DELIVERY.body)
    assert egress is EGRESS
    assert deadline == timedelta(seconds=7)


async def test_a_settlement_carries_verdict_and_attempt() -> None:
    settlement = await attempter(answering(200)).attempt(CLAIM)

    assert settlement.fence == CLAIM.fence
    assert settlement.verdict == Delivered()
    assert settlement.attempt is not None
    assert (settlement.attempt.number, settlement.attempt.run) == (1, 1)
    assert (settlement.attempt.started_at, settlement.attempt.duration) == (NOW, timedelta(seconds=2))


async def test_a_failure_is_settled_as_the_policy_says() -> None:
    assert (await attempter(answering(500)).attempt(CLAIM)).verdict == Retry(
        timedelta(seconds=60), "the receiver answered 500"
    )
    assert isinstance((await attempter(answering(410)).attempt(CLAIM)).verdict, Dead)


async def test_how_an_answer_differs_is_on_the_attempt_and_changes_nothing_else() -> None:
    wire = answering(202)

    def differs(status: int, media_type: str | None, body: bytes | None) -> str:
        wire.clock.advance(1)
        return f"answered {status}; declared: 200"

    settlement = await replace(attempter(wire), mismatches=Mismatches(lambda _: differs)).attempt(CLAIM)

    assert settlement.verdict == Delivered()
    assert settlement.attempt is not None
    assert settlement.attempt.mismatch == "answered 202; declared: 200"
    assert settlement.attempt.duration == timedelta(seconds=2), "it is the receiver's time, and not the check's"


async def test_the_duration_is_measured_by_the_clock_that_nobody_sets() -> None:
    clock = VirtualClock(NOW)

    def set_back() -> Outcome:
        clock.set_back(timedelta(hours=2))
        return outcome_of(Answer(200))

    settlement = await attempter(Wire(clock, set_back)).attempt(CLAIM)

    assert settlement.attempt is not None
    assert settlement.attempt.duration == timedelta(seconds=2)


async def test_what_expired_is_not_attempted() -> None:
    wire = answering(200)
    stale = Claim(CLAIM.fence, replace(DELIVERY, expires_at=NOW - timedelta.resolution))

    settlement = await attempter(wire).attempt(stale)

    assert (settlement.verdict, settlement.attempt, wire.asked) == (EXPIRED, None, [])


async def test_a_signer_that_raises_fails_the_attempt_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    wire = answering(200)

    settlement = await attempter(wire, Break()).attempt(CLAIM)

    assert wire.asked == []
    assert settlement.attempt is not None
    assert settlement.attempt.outcome == Unreachable(Phase.SEND, "the signer raised KeyError")
    assert isinstance(settlement.verdict, Retry)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "whsec" not in caplog.records[0].getMessage()


async def test_a_sender_that_raises_fails_the_attempt() -> None:
    def broken() -> Outcome:
        raise OSError("no")

    settlement = await attempter(Wire(VirtualClock(NOW), broken)).attempt(CLAIM)

    assert settlement.attempt is not None
    assert settlement.attempt.outcome == Unreachable(Phase.SEND, "the sender raised OSError")


async def test_where_there_is_no_room_there_was_no_attempt(caplog: pytest.LogCaptureFixture) -> None:
    def busy() -> Outcome:
        raise AddressBusy(timedelta(seconds=3))

    settlement = await attempter(Wire(VirtualClock(NOW), busy)).attempt(CLAIM)

    assert (settlement.fence, settlement.verdict) == (CLAIM.fence, Released(timedelta(seconds=3)))
    assert settlement.attempt is None
    assert caplog.records == []

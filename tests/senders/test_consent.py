"""Receivers that are asked before they are called."""

from __future__ import annotations

from datetime import timedelta

import pytest

from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import (
    Accepted,
    AddressBusy,
    Answer,
    AttemptRequest,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
    Unreachable,
    outcome_of,
)
from callback_middleware.senders.consent import ConsentingSender
from callback_middleware.testing import VirtualClock

ORIGIN = "api.example"
CONSENTS = outcome_of(Answer(200, [("webhook-allowed-origin", ORIGIN)]))
DEADLINE = timedelta(seconds=15)
HOUR = timedelta(hours=1)


def delivery(url: str = "https://ext.example/events/1") -> AttemptRequest:
    return AttemptRequest("POST", url, [("content-type", "application/json")], b"{}")


class Receiver:
    """A sender whose receiver answers questions as it is told, and takes a while; it accepts what it is sent."""

    def __init__(self, clock: VirtualClock, *answers: Outcome, takes: float = 0.0) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.takes = takes
        self.asked: list[AttemptRequest] = []
        self.sent: list[AttemptRequest] = []
        self.deadlines: list[timedelta] = []
        self.closed = False

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.clock.advance(self.takes)
        self.deadlines.append(deadline)
        if request.method == "OPTIONS":
            self.asked.append(request)
            return self.answers.pop(0)
        self.sent.append(request)
        return outcome_of(Answer(204))

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def asking(receiver: Receiver, **settings: int | timedelta) -> ConsentingSender:
    return ConsentingSender(receiver, origin=ORIGIN, clock=receiver.clock, **settings)  # type: ignore[arg-type]


async def send(sender: ConsentingSender, request: AttemptRequest | None = None) -> Outcome:
    return await sender.send(request or delivery(), egress=EgressPolicy(), deadline=DEADLINE)


async def test_the_question_goes_to_the_deliverys_own_url_and_says_who_asks(clock: VirtualClock) -> None:
    receiver = Receiver(clock, CONSENTS)

    outcome = await send(asking(receiver))

    assert isinstance(outcome, Accepted)
    assert receiver.asked == [
        AttemptRequest("OPTIONS", "https://ext.example/events/1", [("webhook-request-origin", ORIGIN)], None)
    ]
    assert receiver.sent == [delivery()]


@pytest.mark.parametrize("allowed", [ORIGIN, "*", " API.example "])
async def test_its_name_or_an_asterisk_consents(clock: VirtualClock, allowed: str) -> None:
    receiver = Receiver(clock, outcome_of(Answer(204, [("WebHook-Allowed-Origin", allowed)])))

    assert isinstance(await send(asking(receiver)), Accepted)


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(200),
        Answer(200, [("webhook-allowed-origin", "")]),
        Answer(200, [("webhook-allowed-origin", "other.example")]),
        Answer(200, [("webhook-allowed-origin", "sub.api.example")]),
        Answer(302, [("webhook-allowed-origin", ORIGIN)]),
        Answer(404),
        Answer(405, [("webhook-allowed-origin", "*")]),
    ],
    ids=repr,
)
async def test_everything_else_refuses_and_nothing_is_sent(clock: VirtualClock, refusal: Answer) -> None:
    receiver = Receiver(clock, outcome_of(refusal))
    sender = asking(receiver)

    outcomes = [await send(sender) for _ in range(3)]

    assert (
        outcomes
        == [
            Blocked(
                "its receiver does not consent to be called",
                "the receiver must answer OPTIONS with WebHook-Allowed-Origin: api.example",
            )
        ]
        * 3
    )
    assert len(receiver.asked) == 1
    assert not receiver.sent


@pytest.mark.parametrize(
    "outcome",
    [
        Unreachable(Phase.CONNECT, "refused"),
        TimedOut(Phase.HEADERS),
        Blocked("loopback", ""),
        *(Rejected(Answer(status)) for status in (410, 429, 500, 503)),
    ],
    ids=repr,
)
async def test_what_is_no_answer_to_the_question_is_the_attempts_outcome_and_is_asked_again(
    clock: VirtualClock, outcome: Outcome
) -> None:
    receiver = Receiver(clock, outcome, CONSENTS)
    sender = asking(receiver)

    assert await send(sender) == outcome
    assert not receiver.sent
    assert isinstance(await send(sender), Accepted)


async def test_one_answer_is_good_for_an_origin_and_a_day(clock: VirtualClock) -> None:
    receiver = Receiver(clock, CONSENTS, CONSENTS, CONSENTS)
    sender = asking(receiver)
    for url in ("https://ext.example/a", "https://ext.example/b", "https://EXT.example:443/c"):
        await send(sender, delivery(url))
    assert len(receiver.asked) == 1

    await send(sender, delivery("https://ext.example:8443/a"))
    clock.advance(timedelta(days=1))
    await send(sender, delivery("https://ext.example/a"))

    assert len(receiver.asked) == 3
    assert len(receiver.sent) == 5


async def test_a_refusal_is_good_for_an_hour(clock: VirtualClock) -> None:
    receiver = Receiver(clock, outcome_of(Answer(404)), CONSENTS)
    sender = asking(receiver)
    await send(sender)
    clock.advance(HOUR)

    assert isinstance(await send(sender), Accepted)


async def test_the_rate_that_it_wants_is_kept_to_and_no_attempt_is_charged(clock: VirtualClock) -> None:
    allowed = [("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "120")]
    receiver = Receiver(clock, outcome_of(Answer(200, allowed)))
    sender = asking(receiver)
    await send(sender)

    with pytest.raises(AddressBusy) as busy:
        await send(sender)
    clock.advance(busy.value.after)
    await send(sender)

    assert busy.value.after == timedelta(seconds=0.5)
    assert len(receiver.sent) == 2


@pytest.mark.parametrize("rate", ["*", "", "0", "-1", "many", "9" * 5000])
async def test_a_rate_that_is_none_limits_nothing(clock: VirtualClock, rate: str) -> None:
    allowed = [("webhook-allowed-origin", "*"), ("webhook-allowed-rate", rate)]
    receiver = Receiver(clock, outcome_of(Answer(200, allowed)))
    sender = asking(receiver)

    for _ in range(3):
        await send(sender)

    assert len(receiver.sent) == 3


async def test_question_and_delivery_share_one_deadline(clock: VirtualClock) -> None:
    receiver = Receiver(clock, CONSENTS, takes=4)

    await send(asking(receiver))

    assert receiver.deadlines == [timedelta(seconds=15), timedelta(seconds=11)]


async def test_a_question_that_took_all_of_it_leaves_nothing_for_the_delivery(clock: VirtualClock) -> None:
    receiver = Receiver(clock, CONSENTS, takes=15)

    assert await send(asking(receiver)) == TimedOut(Phase.HEADERS)
    assert not receiver.sent


async def test_a_url_that_no_policy_allows_is_not_asked(clock: VirtualClock) -> None:
    receiver = Receiver(clock)

    assert isinstance(await send(asking(receiver), delivery("https://user@ext.example/")), Blocked)


async def test_of_too_many_the_oldest_answer_is_forgotten(clock: VirtualClock) -> None:
    receiver = Receiver(clock, *[CONSENTS] * 4)
    sender = asking(receiver, remembered=2)
    for host in ("a", "b", "c", "c", "b", "a"):
        await send(sender, delivery(f"https://{host}.example/"))

    assert len(receiver.asked) == 4


async def test_one_that_was_asked_again_is_not_the_oldest(clock: VirtualClock) -> None:
    receiver = Receiver(clock, *[CONSENTS] * 5)
    sender = asking(receiver, remembered=2)
    for host in ("a", "b"):
        await send(sender, delivery(f"https://{host}.example/"))
    clock.advance(timedelta(days=1))
    for host in ("a", "c", "a"):
        await send(sender, delivery(f"https://{host}.example/"))

    assert len(receiver.asked) == 4


async def test_closing_it_closes_the_sender_behind_it(clock: VirtualClock) -> None:
    receiver = Receiver(clock)

    await asking(receiver).aclose()

    assert receiver.closed


@pytest.mark.parametrize("origin", ["", "https://api.example", "api.example/x", "api.example:8443", "10.0.0.1", "a b"])
async def test_who_asks_must_be_a_dns_name(clock: VirtualClock, origin: str) -> None:
    with pytest.raises(ConfigurationError, match="DNS name"):
        ConsentingSender(Receiver(clock), origin=origin)


@pytest.mark.parametrize("wrong", [{"keep": timedelta()}, {"keep_refusal": timedelta()}, {"remembered": 0}], ids=str)
async def test_a_limit_that_makes_no_sense_is_refused(clock: VirtualClock, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        asking(Receiver(clock), **wrong)

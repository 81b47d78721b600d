"""This machine's own addresses."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import pytest

from callback_middleware.delivery import Claim, Dead, Delivery, Fence, Retry
from callback_middleware.dispatcher import attempts
from callback_middleware.dispatcher.attempts import Attempter
from callback_middleware.egress import EgressPolicy
from callback_middleware.outcomes import AttemptRequest, Blocked
from callback_middleware.retry import RetryPolicy
from callback_middleware.senders import interfaces
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.senders.interfaces import REFRESH, OwnAddresses, of_linux, of_this_machine
from callback_middleware.testing import VirtualClock
from lacking import lacking

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 93.184.215.0/24 2 0 2
        |-- 93.184.215.0
           /24 link UNICAST
        |-- 93.184.215.14
           /32 host LOCAL
        |-- 93.184.215.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 93.184.215.14
        /32 host LOCAL
Id 100:
  |-- 0.0.0.0
     /0 host LOCAL
"""
IF_INET6 = """\
20010200000000000000000000000005 02 40 00 80     eth0
fe8000000000000000fc00fffe000001 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """An operating system whose answers are scripted, the last of them for ever."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Sequence[str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_linux_lists_single_addresses_and_no_networks() -> None:
    """A transparent proxy declares the whole Internet local: that is nobody's own."""
    assert of_linux(FIB_TRIE, IF_INET6) == {
        *("93.184.215.14", "127.0.0.1"),
        *("2001:200::5", "fe80::fc:ff:fe00:1", "::1"),
    }


def test_a_kernel_without_a_family_lists_the_other() -> None:
    assert of_linux("", IF_INET6) == {"2001:200::5", "fe80::fc:ff:fe00:1", "::1"}
    assert of_linux(FIB_TRIE, "") == {"93.184.215.14", "127.0.0.1"}


def test_a_missing_file_is_a_missing_family(tmp_path: Path) -> None:
    assert interfaces._text(str(tmp_path / "if_inet6")) == ""


def test_this_machine_has_a_loopback_and_every_address_that_it_can_listen_on() -> None:
    if sys.platform != "linux":
        lacking("reads what Linux tells of interfaces")
    found = of_this_machine()
    assert "127.0.0.1" in found
    for address in map(ip_address, found):
        if address.version == 4:
            with socket.socket() as listening:
                listening.bind((str(address), 0))


@pytest.mark.parametrize(
    ("listed", "also"),
    # The second is a kernel that lists one family alone.
    [({}, set()), ({"/proc/net/if_inet6": IF_INET6}, {"2001:200::5", "fe80::fc:ff:fe00:1", "::1"})],
)
def test_where_nothing_lists_them_it_is_what_the_machines_name_resolves_to(
    listed: dict[str, str], also: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interfaces, "_text", lambda path: listed.get(path, ""))
    monkeypatch.setattr(socket, "gethostname", lambda: "web1")

    def getaddrinfo(name: str, port: None, *, type: int) -> Sequence[object]:  # noqa: A002 - the standard library's
        assert name == "web1"
        return [(0, 0, 0, "", ("93.184.215.14", 0)), (0, 0, 0, "", ("fe80::1%en0", 0, 0, 4))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert of_this_machine() == {"93.184.215.14", "fe80::1", *also}


async def test_a_policy_is_completed_with_this_machines_addresses() -> None:
    own = OwnAddresses(Machine(["93.184.215.14"]), Watch())
    policy = await own.refused_by(EgressPolicy(ports=None))
    assert policy == EgressPolicy(ports=None, own_addresses=("93.184.215.14",))


async def test_one_that_says_itself_what_is_its_own_is_left_alone() -> None:
    machine = Machine(["93.184.215.14"])
    own = OwnAddresses(machine, Watch())
    for addresses in ((), ("1.1.1.1",)):
        policy = EgressPolicy(own_addresses=addresses)
        assert await own.refused_by(policy) is policy
    assert machine.asked == 0


async def test_the_system_is_asked_once_and_again_when_time_has_passed() -> None:
    machine, watch = Machine(["1.1.1.1"], ["1.1.1.1"], ["8.8.8.8"]), Watch()
    own = OwnAddresses(machine, watch)
    first = await own.refused_by(EgressPolicy())
    assert await own.refused_by(EgressPolicy()) is first
    assert machine.asked == 1
    watch.now += REFRESH
    # Nothing changed, and whatever was remembered of this policy still holds.
    assert await own.refused_by(EgressPolicy()) is first
    assert machine.asked == 2
    watch.now += REFRESH
    assert (await own.refused_by(EgressPolicy())).own_addresses == {"8.8.8.8"}


@pytest.mark.parametrize("error", [PermissionError(13, "hidden"), ValueError("no address")])
async def test_a_system_that_does_not_tell_is_said_once_and_what_was_known_stays(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    machine, watch = Machine(["1.1.1.1"], error), Watch()
    own = OwnAddresses(machine, watch)
    first = await own.refused_by(EgressPolicy())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watch.now += REFRESH
            assert await own.refused_by(EgressPolicy()) is first
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"this machine's own addresses cannot be read ({type(error).__name__}): callbacks to those that are public "
            "are not refused; name them in EgressPolicy(own_addresses=…)"
        )
    ]
    assert machine.asked == 4


async def test_a_name_that_leads_back_to_this_machine_is_refused_before_a_socket_is_opened() -> None:
    own = OwnAddresses(Machine(["93.184.215.14"]), Watch())
    sender = HttpxSender(lookup=lambda _: [ip_address("93.184.215.14")])
    outcome = await sender.send(
        AttemptRequest("POST", "https://receiver.example/", (), b""),
        egress=await own.refused_by(EgressPolicy()),
        deadline=timedelta(seconds=30),
    )
    assert isinstance(outcome, Blocked)
    assert outcome.rule == "93.184.215.14 is this machine's own"


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        # Its text says it: no later attempt will be another.
        ("https://93.184.215.14/", Dead),
        # A name may lead elsewhere tomorrow.
        ("https://receiver.example/", Retry),
    ],
)
async def test_the_dispatcher_completes_whatever_policy_it_was_given(
    url: str, verdict: type[Dead | Retry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "refusing_own_addresses", OwnAddresses(Machine(["93.184.215.14"])).refused_by)
    now = datetime(2030, 1, 1, tzinfo=UTC)
    delivery = Delivery(
        id=UUID("01890000-0000-7000-8000-000000000001"),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url=url,
        origin=f"{url[:-1]}:443",
        headers=(),
        body=b"",
        created_at=now,
        due_at=now,
        retry=RetryPolicy.fixed(60),
        deadline=timedelta(seconds=30),
    )
    attempter = Attempter(
        sender=HttpxSender(lookup=lambda _: [ip_address("93.184.215.14")]),
        signer=None,
        egress=EgressPolicy(ports=None),
        clock=VirtualClock(now),
        chance=lambda: 0.5,
    )
    settlement = await attempter.attempt(Claim(Fence(delivery.id, 1), delivery))
    assert isinstance(settlement.verdict, verdict)
    assert settlement.attempt is not None
    assert isinstance(settlement.attempt.outcome, Blocked)
    assert settlement.attempt.outcome.rule == "93.184.215.14 is this machine's own"

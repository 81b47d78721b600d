"""The guarded connect against a name server that lies, with the lookup of the system itself.

``hostile_names.py`` plays the cases in a process whose network and ``/etc/resolv.conf`` are its own, with the policy
that is the default; here is what must have come of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hostile_names import ELSEWHERE, METADATA, PUBLIC

from callback_middleware.senders.resolver import ADDRESSES_TRIED
from lacking import lacking

HERE = Path(__file__).parent

# A name of one dot is looked up in the search domains first, unless it is absolute.
RESOLV_CONF = "nameserver 127.0.0.1\nsearch search.example corp.example\noptions ndots:5 timeout:1 attempts:1\n"
NSSWITCH_CONF = "hosts: files dns\n"

MOUNT = """
mount --bind "$1" /etc/resolv.conf || exit 3
if [ -e /etc/nsswitch.conf ]; then mount --bind "$2" /etc/nsswitch.conf || exit 3; fi
shift 2
exec "$@"
"""

Case: TypeAlias = Mapping[str, Any]


@pytest.fixture(scope="module", params=["httpx-asyncio", "httpx-trio", "aiohttp-asyncio"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    """What the process saw, by case."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        lacking("a name server must be put in the system's place: run it on Linux, with util-linux")
    folder = tmp_path_factory.mktemp("etc")
    (folder / "resolv.conf").write_text(RESOLV_CONF)
    (folder / "nsswitch.conf").write_text(NSSWITCH_CONF)
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    alone = ("unshare", *rights, "--mount", "--net", "sh", "-c", MOUNT, "sh")
    alone = (*alone, str(folder / "resolv.conf"), str(folder / "nsswitch.conf"))
    tried = subprocess.run([*alone, "true"], check=False, capture_output=True, text=True)  # noqa: S603 - ours
    if tried.returncode != 0:
        lacking(f"a network must be made: allow user namespaces, or run it as root ({tried.stderr.strip()})")
    library, loop = request.param.split("-")
    played = subprocess.run(  # noqa: S603 - ours
        [*alone, sys.executable, str(HERE / "hostile_names.py"), library, loop],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,  # far beyond what it takes
    )
    assert played.returncode == 0, played.stderr
    found: Mapping[str, Case] = json.loads(played.stdout)
    return found


def kinds(case: Case) -> Sequence[str]:
    return [one["kind"] for one in case["tries"]]


def events(case: Case, what: str) -> Sequence[str]:
    return [address for one in case["tries"] for kind, address in one["events"] if kind == what]


def test_nothing_was_ever_connected_to_that_its_own_attempt_had_not_checked(report: Mapping[str, Case]) -> None:
    connected = 0
    for name, case in report.items():
        for one in case["tries"]:
            checked: set[str] = set()
            for kind, address in one["events"]:
                if kind == "checked":
                    checked.add(address)
                else:
                    connected += 1
                    assert address in checked, name
    assert connected > 10


def test_every_attempt_asked_the_name_server_whatever_it_had_said_before(report: Mapping[str, Case]) -> None:
    for name in ("tls", "rebinding", "moving"):
        case = report[name]
        assert len(case["asked"]) == 2 * len(case["tries"]), case["asked"]  # each for both families


def test_search_domains_never_apply(report: Mapping[str, Case]) -> None:
    asked = [name for case in report.values() for name in case["asked"]]
    assert "nowhere.test." in asked
    assert not [name for name in asked if name.endswith(".example.")]
    assert kinds(report["nowhere"]) == ["Unreachable"]


def test_tls_and_host_are_the_names(report: Mapping[str, Case]) -> None:
    case = report["tls"]
    assert kinds(case) == ["Accepted", "Accepted"]
    assert case["connections"] == 1
    said = {"address": PUBLIC, "port": "443", "server_name": "good.test", "host": "good.test"}
    assert case["requests"] == [
        {**said, "first": "POST /hook?a=b HTTP/1.1"},
        {**said, "first": "POST /hook?a=c HTTP/1.1"},
    ]
    assert kinds(report["plain"]) == ["Accepted"]


def test_a_name_that_is_bound_anew_between_two_attempts_is_refused_with_a_connection_idle(
    report: Mapping[str, Case],
) -> None:
    case = report["rebinding"]
    assert kinds(case) == ["Accepted", "Blocked", "Accepted"]
    assert case["tries"][1]["outcome"]["rule"] == "10.0.0.1 is not global: private use"
    assert [one["address"] for one in case["requests"]] == [PUBLIC, PUBLIC]
    # The connection was idle all the time, and is good again when its address is.
    assert case["connections"] == 1


def test_a_name_that_moves_takes_its_deliveries_along(report: Mapping[str, Case]) -> None:
    case = report["moving"]
    assert kinds(case) == ["Accepted"] * 3
    assert [one["address"] for one in case["requests"]] == [PUBLIC, ELSEWHERE, ELSEWHERE]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("mixed", "10.0.0.1 is not global: private use"),
        ("mixed-families", "fd00::1 is not global: unique local"),
        ("internal", "10.0.0.1 is not global: private use"),
        ("metadata", f"{METADATA} is not global: link local"),
        ("loopback", "is not global: loopback"),
        ("bad-alias", "10.0.0.1 is not global: private use"),
        ("mapped", "is not global"),
        ("nat64", "is not global"),
        ("6to4", "is not global"),
        ("compatible", "is not global"),
        ("many-and-one", f"{METADATA} is not global: link local"),
    ],
)
def test_one_bad_answer_refuses_the_name_and_nothing_is_connected_to(
    report: Mapping[str, Case], name: str, rule: str
) -> None:
    case = report[name]
    assert kinds(case) == ["Blocked"]
    assert rule in case["tries"][0]["outcome"]["rule"]
    assert events(case, "connect") == []


def test_a_chain_of_aliases_is_followed_to_its_end(report: Mapping[str, Case]) -> None:
    case = report["alias"]
    assert kinds(case) == ["Accepted"]
    assert case["requests"][0]["host"] == "alias.test"
    assert case["requests"][0]["server_name"] == "alias.test"


def test_a_name_with_both_families_works_without_ipv6(report: Mapping[str, Case]) -> None:
    assert kinds(report["dual"]) == ["Accepted"]
    assert set(events(report["dual"], "checked")) == {"2606:4700::1111", PUBLIC}


def test_of_a_hundred_addresses_all_are_checked_and_four_are_tried(report: Mapping[str, Case]) -> None:
    case = report["many"]
    assert kinds(case) == ["Unreachable"]
    assert case["tries"][0]["outcome"] == {"phase": "connect", "detail": "Connection refused"}
    assert len(set(events(case, "checked"))) == 100
    assert len(events(case, "connect")) == ADDRESSES_TRIED
    # An answer that long fits no datagram.
    assert case["over_tcp"] >= 1


@pytest.mark.parametrize("name", ["round", "empty", "nobody", "nowhere"])
def test_a_name_that_leads_nowhere_is_unreachable(report: Mapping[str, Case], name: str) -> None:
    case = report[name]
    assert kinds(case) == ["Unreachable"]
    told = case["tries"][0]["outcome"]
    assert told["phase"] == "resolve"
    assert told["detail"].startswith("name not resolved")
    assert name not in told["detail"]


def test_a_name_server_that_does_not_answer_is_cut_off_by_the_deadline(report: Mapping[str, Case]) -> None:
    case = report["silent"]
    assert kinds(case) == ["TimedOut"]
    assert case["tries"][0]["outcome"] == {"phase": "resolve"}


def test_one_that_never_answers_is_given_up_before_a_long_deadline(report: Mapping[str, Case]) -> None:
    told = report["unheard"]["tries"][0]
    assert told["kind"] == "Unreachable"
    assert told["outcome"]["phase"] == "resolve"


def test_and_others_are_still_delivered_to(report: Mapping[str, Case]) -> None:
    assert kinds(report["after all that"]) == ["Accepted"]

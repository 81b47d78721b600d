"""Receivers that misbehave cost a sender neither memory nor sockets nor slots, however often.

``endurance.py`` sends to them, in a process of its own, so that what it grows by is the sender's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from misbehaving import SCRIPTS, TOGETHER, misbehaving

from lacking import lacking

HERE = Path(__file__).parent
MEGABYTES = 32


@pytest.fixture(scope="module", params=["httpx-asyncio", "httpx-trio", "aiohttp-asyncio"])
def combination(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def report(combination: str) -> Mapping[str, Any]:
    if sys.platform != "linux":
        lacking("open descriptors are counted in /proc, which Linux has: run it there")
    with misbehaving() as ports:
        ended = subprocess.run(  # noqa: S603 - ours
            [sys.executable, str(HERE / "endurance.py"), *combination.split("-"), json.dumps(ports)],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,  # far beyond what it takes
        )
    assert ended.returncode == 0, ended.stderr
    found: Mapping[str, Any] = json.loads(ended.stdout)
    return found


# Which phase a reset is heard of in is chance.
RESET = {"Unreachable connect", "Unreachable send", "Unreachable headers"}

CAME_TO: Mapping[str, set[str]] = {
    "endless body": {"Accepted"},
    "endless chunks": {"Accepted"},
    "endless extensions": {"Accepted"},
    "one endless extension": {"Unreachable body"},
    "endless trailers": {"Unreachable body"},
    "endless headers": {"Unreachable headers"},
    "endless header": {"Unreachable headers"},
    "endless status": {"Unreachable headers"},
    "endless hints": {"Unreachable headers"},
    "endless lines": {"Unreachable headers"},
    "a bomb": {"Accepted"},
    "a huge length": {"Accepted"},
    "reset at once": RESET,
    "reset at the body": {"Unreachable body"},
    "silence": {"TimedOut headers"},
    "half an answer": {"TimedOut body"},
    "no handshake": {"TimedOut tls"},
    "unread": {"TimedOut send"},
}

# What surrounds chunks is bounded by the deadline alone, and an error in it may be known before the head is.
WITH_AIOHTTP: Mapping[str, set[str]] = {
    "endless extensions": {"TimedOut body"},
    "one endless extension": {"TimedOut body"},
    "endless trailers": {"Unreachable body", "Unreachable headers"},
    "endless lines": {"TimedOut headers"},
    "no handshake": {"TimedOut connect"},
    "unread": {"TimedOut headers"},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_attempt_ends_as_it_should(report: Mapping[str, Any], combination: str, name: str) -> None:
    expected = CAME_TO[name]
    if combination.startswith("aiohttp"):
        expected = WITH_AIOHTTP.get(name, expected)
    came_to = report["suffered"][name]
    assert sum(came_to.values()) == 16
    assert came_to.keys() <= expected


def test_memory_does_not_grow_with_what_receivers_send(report: Mapping[str, Any]) -> None:
    assert report["kilobytes"] < MEGABYTES * 1024


def test_no_descriptor_stays_open(report: Mapping[str, Any]) -> None:
    before, after = report["descriptors"]
    assert after == before


@pytest.mark.parametrize("phase", ["resolve", "unaccepted", "no handshake", "unread", "silence", "half an answer"])
def test_a_thousand_attempts_cancelled_in_each_phase_leave_nothing(report: Mapping[str, Any], phase: str) -> None:
    before, _ = report["descriptors"]
    assert report["cancelled"][phase] == {"cancelled": 1000, "arrived": TOGETHER, "descriptors": before}

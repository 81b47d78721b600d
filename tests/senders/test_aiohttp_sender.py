"""What is aiohttp's own: the loop it needs, the extra it needs, and the hooks it calls."""

from __future__ import annotations

import importlib
import socket
import sys
from ipaddress import ip_address

import pytest
from scripted_receiver import BODY, HEADERS, LATER, LOOPBACK

from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import AttemptRequest
from callback_middleware.senders import aiohttp as module
from callback_middleware.senders import aiohttp_checks as checks
from callback_middleware.senders.aiohttp import AiohttpSender
from callback_middleware.senders.occupancy import Occupancy
from callback_middleware.senders.progress import AttemptFailed

REQUEST = AttemptRequest("POST", "http://127.0.0.1:1/", HEADERS, BODY)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_says_what_to_use_instead(anyio_backend: str) -> None:
    with pytest.raises(ConfigurationError, match="use HttpxSender on trio"):
        await AiohttpSender().send(REQUEST, egress=LOOPBACK, deadline=LATER)


def test_without_aiohttp_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(ImportError, match=r"callback_middleware\[aiohttp\]"):
        importlib.import_module(module.__name__)


def test_no_socket_is_made_for_an_address_that_was_not_checked() -> None:
    """Of addresses, aiohttp asks no resolver, and may one day ask another one: this is the last gate."""
    attempt = checks.CurrentAttempt(occupancy=Occupancy(1), addresses=[ip_address("127.0.0.1")])
    token = checks.current_attempt.set(attempt)
    try:
        with pytest.raises(AttemptFailed):
            checks.checked_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", 80)))
        assert not attempt.opened
        checks.checked_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))).close()
        assert attempt.opened
    finally:
        checks.current_attempt.reset(token)

"""Each sender on each event loop that it runs on.

A module that wants them all says so by asking ``combination`` for its ``anyio_backend``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from callback_middleware.ports import Sender
from callback_middleware.senders.aiohttp import AiohttpSender
from callback_middleware.senders.httpx import HttpxSender


@pytest.fixture(params=["httpx-asyncio", "httpx-trio", "aiohttp-asyncio"])
def combination(request: pytest.FixtureRequest) -> Sequence[str]:
    return str(request.param).split("-")


@pytest.fixture
def library(combination: Sequence[str]) -> str:
    return combination[0]


@pytest.fixture
async def make_sender(library: str) -> AsyncIterator[Callable[..., Sender]]:
    made: list[Sender] = []

    def make(**settings: Any) -> Sender:
        made.append(AiohttpSender(**settings) if library == "aiohttp" else HttpxSender(**settings))
        return made[-1]

    yield make
    for sender in made:
        await sender.aclose()


@pytest.fixture
def sender(make_sender: Callable[..., Sender]) -> Sender:
    return make_sender()

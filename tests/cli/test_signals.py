"""The signals that end a process; what the second one does is seen in ``tests/acceptance/test_worker.py``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import anyio
import pytest

from callback_middleware.cli.signals import SIGNALS, heeding_signals


@pytest.fixture
def unheard() -> Iterator[list[int]]:
    """The signals that reached whoever listened before: it is not the test run that they end."""
    numbers: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        numbers.append(number)

    before = {one: signal.signal(one, hear) for one in SIGNALS}
    yield numbers
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_first_signal_is_heard_in_the_event_loop(number: int, unheard: list[int]) -> None:
    heard = anyio.Event()

    with heeding_signals(heard.set):
        signal.raise_signal(number)
        assert not heard.is_set()
        with anyio.fail_after(30):
            await heard.wait()

    assert unheard == []


async def test_afterwards_signals_go_where_they_went_before(unheard: list[int]) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]

    with heeding_signals(lambda: None):
        signal.raise_signal(signal.SIGTERM)

    # Only asked: what stands there instead may end the process that asks.
    assert [signal.getsignal(one) for one in SIGNALS] == before

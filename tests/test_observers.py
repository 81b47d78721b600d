"""Several observers are told in turn, and what one raises changes nothing."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from callback_middleware.instrumentation.observers import Observers
from callback_middleware.ports import Observer

EVENTS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]


class Told:
    def __init__(self) -> None:
        self.of: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *what: self.of.append((name, what))


class Raising:
    def __getattr__(self, name: str) -> Any:
        def fail(*what: Any) -> None:
            raise ValueError(name)

        return fail


@pytest.mark.parametrize("event", EVENTS)
def test_each_is_told_of_everything_whatever_another_raises(event: str, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    arguments = tuple(range(len(inspect.signature(getattr(Observer, event)).parameters) - 1))
    getattr(Observers(Raising(), told), event)(*arguments)
    assert told.of == [(event, arguments)]
    assert "an observer raised" in caplog.text
    assert "Raising" in caplog.text


def test_every_event_of_the_port_is_covered() -> None:
    assert set(EVENTS) == {"attempted", "lost", "put", "settled", "skipped"}

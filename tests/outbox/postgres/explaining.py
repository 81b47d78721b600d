"""What plans the statements of an outbox ran by, inner ones of functions included, and how many rows each looked at."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import pytest

from callback_middleware.outbox.postgres.line import Connection, Line

T = TypeVar("T")

SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "client_min_messages": "log",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    # Rows are counted, and no clock is asked for each.
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
}
"""For a database whose sessions tell their clients about every plan. They take a superuser."""


class Scan(NamedTuple):
    """One look at one table.

    Attributes:
        kind: As EXPLAIN calls it.
        table: Which; of a partition its own name.
        rows: That it has looked at, in all its loops.
        statement: Whose it is.
    """

    kind: str
    table: str
    rows: int
    statement: str


class Plans:
    """The plans that were told, as they came."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.scans: list[Scan] = []

    def __call__(self, _connection: object, message: Any) -> None:
        _, _, text = message.message.partition("plan:\n")
        if text:
            told = json.loads(text)
            self.statements.append(told["Query Text"])
            self.scans += _scans(told["Plan"], told["Query Text"])


def _scans(node: dict[str, Any], statement: str) -> Iterator[Scan]:
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by "))
        looked_at = (node["Actual Rows"] + removed) * node["Actual Loops"]
        yield Scan(node["Node Type"], node.get("Relation Name", ""), looked_at, statement)
    for inner in node.get("Plans", ()):
        yield from _scans(inner, statement)


@contextmanager
def explained() -> Iterator[Plans]:
    """The plans of all that outboxes do on a database with these settings."""
    plans = Plans()
    run = Line.run

    async def listened(self: Line, work: Callable[[Connection], Awaitable[T]], *, seconds: float) -> T:
        async def told(connection: Connection) -> T:
            connection.add_log_listener(plans)
            try:
                return await work(connection)
            finally:
                connection.remove_log_listener(plans)

        return await run(self, told, seconds=seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Line, "run", listened)
        yield plans

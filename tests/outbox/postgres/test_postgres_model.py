"""Two processes on one database, whatever they do, against a model of what the ports promise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from postgres_setting import TABLES

from callback_middleware.backlog import BacklogLimits
from callback_middleware.delivery import Claim, Delivery, Fence, Settlement
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.postgres.claims import Claims
from callback_middleware.outbox.postgres.log import Log
from callback_middleware.outbox.postgres.puts import Puts
from callback_middleware.outbox.postgres.reading import Reading
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.outbox.postgres.settles import settle
from callback_middleware.ports import Batch, PutReport
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from outbox_model import BOUNDS, ORIGINS, Claimed, Processes

T = TypeVar("T")

KEYS = {origin_key(origin): origin for origin in ORIGINS}
BURIED = "SELECT delivery FROM callback_middleware.result WHERE latest AND reason = 'killed its worker'"
EMPTY = [f"DELETE FROM callback_middleware.{table}" for table in TABLES]  # noqa: S608 - names of ours


class Process(Log):
    """What one process knows, and its only connection."""

    def __init__(self, connection: Any, clock: VirtualClock, limits: BacklogLimits | None) -> None:
        self.connection = connection
        self._schema = Schema()
        self._retries = Retries(self._schema)
        self._reading = Reading(self._schema, self._retries)
        self.claims = Claims(self._schema, self._retries, limits, clock)
        self.puts = Puts(self._schema, self._retries, limits)

    async def settle(self, settlements: Sequence[Settlement], now: datetime) -> frozenset[Fence]:
        return (await settle(self.connection, self._schema, settlements, now)).applied

    async def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        return await question(self.connection)

    def _changed(self) -> None:
        """Nobody waits."""


class TwoProcesses:
    """Two connections to one database: an ``Engine`` of the model."""

    blur = timedelta(minutes=1)

    def __init__(
        self, runner: asyncio.Runner, connections: Sequence[Any], clock: VirtualClock, limits: BacklogLimits | None
    ) -> None:
        self.runner = runner
        self.connections = connections
        self.clock = clock
        self.limits = limits
        self.processes = [self.begun(0), self.begun(1)]
        for statement in EMPTY:
            self.ask(statement)
        self.let_pass(timedelta())

    def begun(self, number: int) -> Process:
        return Process(self.connections[number], self.clock, self.limits)

    def ask(self, statement: str, *values: object) -> list[Any]:
        return self.runner.run(self.connections[0].fetch(statement, *values))

    def put(self, process: int, batch: Batch) -> PutReport:
        puts = self.processes[process].puts
        # What another has put since it looked last, it learns a little later: that is not what this is about.
        puts._room.forget()
        (report,) = self.runner.run(puts.put_all(self.connections[process], [batch], self.clock.now()))
        assert isinstance(report, PutReport)
        return report

    def claim(self, process: int, limit: int, lease: timedelta, per_origin: int, busy: Mapping[Origin, int]) -> Claimed:
        return self.runner.run(self._claim(process, limit, lease, per_origin, busy))

    async def _claim(self, process: int, limit: int, lease: timedelta, per_origin: int, busy: Any) -> Claimed:
        connection, claims = self.connections[process], self.processes[process].claims
        before = {row[0] for row in await connection.fetch(BURIED)}
        leased = await claims.lease(connection, limit, lease, per_origin, busy)
        after = {row[0] for row in await connection.fetch(BURIED)}
        return Claimed(await claims.read(connection, leased), after - before, leased)

    def unclaim(self, process: int, claimed: Claimed) -> None:
        self.runner.run(self.processes[process].claims.unclaim(self.connections[process], claimed.own))

    def settle(self, process: int, settlements: Sequence[Settlement]) -> frozenset[Fence]:
        return self.runner.run(self.processes[process].settle(settlements, self.clock.now()))

    def extend(self, process: int, claim: Claim, lease: timedelta) -> frozenset[Fence]:
        return self.runner.run(self.processes[process].claims.extend(self.connections[process], [claim], lease))

    def cancel(self, process: int, delivery: UUID) -> Delivery:
        return self.runner.run(self.processes[process].cancel(delivery))

    def replay(self, process: int, delivery: UUID) -> Delivery:
        return self.runner.run(self.processes[process].replay(delivery))

    def prune(self, process: int, before: datetime) -> int:
        return self.runner.run(self.processes[process].prune(before))

    def counts(self, process: int) -> Mapping[State, int]:
        return self.runner.run(self.processes[process].counts())

    def deliveries(self, process: int, known: Collection[UUID]) -> Mapping[UUID, Delivery]:
        page = self.runner.run(self.processes[process].search(Selection(), limit=len(known) + 1))
        return {delivery.id: delivery for delivery in page.deliveries}

    def queued(self) -> Mapping[UUID, tuple[int, int]]:
        return {row[0]: (row[1], row[2]) for row in self.ask("SELECT id, fence, claims FROM callback_middleware.queue")}

    def tried(self) -> Mapping[UUID, Collection[int]]:
        tried: dict[UUID, list[int]] = {}
        for one, fence in self.ask("SELECT delivery, fence FROM callback_middleware.attempt"):
            tried.setdefault(one, []).append(fence)
        return tried

    def live(self) -> Mapping[Origin, int]:
        rows = self.ask("SELECT key, callback_middleware.live(key, 1000) FROM unnest($1::bigint[]) key", list(KEYS))
        return {KEYS[key]: live for key, live in rows if live}

    def accepted(self) -> Mapping[Origin, datetime]:
        rows = self.ask("SELECT origin_key, accepted_at FROM callback_middleware.origin WHERE accepted_at IS NOT NULL")
        return {KEYS[key]: at for key, at in rows}

    def let_pass(self, time: timedelta) -> None:
        """The database has a clock of its own, which stands still."""
        assert time >= timedelta()
        self.ask("UPDATE test.clock SET now = $1", self.clock.now())

    def die(self, process: int) -> None:
        self.processes[process] = self.begun(process)

    def close(self) -> None:
        """Its connections are the test's."""


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def connections(runner: asyncio.Runner, database: str) -> Iterator[Sequence[Any]]:
    connections = [runner.run(asyncpg.connect(database)) for _ in range(2)]
    # What is called from outside sets it for all that it calls; the test calls what is inside.
    for connection in connections:
        runner.run(connection.execute("SET search_path TO callback_middleware"))
    yield connections
    for connection in connections:
        runner.run(connection.close())


@pytest.mark.parametrize("limits", [None, BOUNDS], ids=["unbounded", "bounded"])
def test_two_processes_do_as_the_ports_promise(
    runner: asyncio.Runner, connections: Sequence[Any], limits: BacklogLimits | None
) -> None:
    def machine() -> Processes:
        clock = VirtualClock()
        return Processes(TwoProcesses(runner, connections, clock, limits), clock, limits)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type] # any factory will do
        settings=settings(max_examples=10, stateful_step_count=40, deadline=None),
    )

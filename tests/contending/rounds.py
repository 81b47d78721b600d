"""A round: all contend, what is left is delivered, and what was told is looked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import anyio

from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Dead, Delivered, Fence, Settlement, Verdict
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.outbox.postgres.migrations import steps
from callback_middleware.states import State
from callback_middleware.verdicts import KILLED_ITS_WORKER
from contending.crowd import A_DAY, Contender, Told
from contending.witness import WITNESS, broken_rules, history
from postgres_server import DatabaseServer

CONTENDERS: Final = 6

ENDING: Final[Mapping[type[Verdict], str]] = {Delivered: "delivered", Dead: "dead"}


class Result(NamedTuple):
    """A row of what the outbox keeps of a run that has ended."""

    delivery: UUID
    run: int
    latest: bool
    state: str
    fence: int
    reason: str


def contend(server: DatabaseServer, url: str, *, seed: int, operations: int) -> Sequence[str]:
    """Have all do so many things at once. What is wrong afterwards, in sentences."""
    # Read where no event loop waits for the disk.
    steps()
    anyio.run(migrate, url)
    server.execute(WITNESS, database=url)
    told = Told()
    anyio.run(_all_at_once, url, seed, operations, told)
    return [*broken_rules(history(server, url)), *_lost(server, url, told), *_deadlocks(server, url)]


async def _all_at_once(url: str, seed: int, operations: int, told: Told) -> None:
    contenders = [Contender(url, seed * CONTENDERS + number, told) for number in range(CONTENDERS)]
    async with anyio.create_task_group() as tasks:
        for contender in contenders:
            tasks.start_soon(contender.run, operations)
    await _deliver_the_rest(contenders[0].outbox, told)
    for contender in contenders:
        await contender.outbox.aclose()


async def _deliver_the_rest(outbox: PostgresOutbox, told: Told) -> None:
    with anyio.fail_after(60):
        while True:
            claims = await outbox.claim(100, timedelta(seconds=30), per_origin=100, busy={})
            for fence in await outbox.settle([Settlement(claim.fence, Delivered()) for claim in claims]):
                told.ended[fence] = Delivered()
            counts = await outbox.counts()
            if not counts[State.PENDING] + counts[State.SENDING]:
                return
            if not claims:
                await outbox.wait(timedelta(seconds=1))


def _deadlocks(server: DatabaseServer, url: str) -> Iterator[str]:
    """Of any two that waited for each other."""
    ((count,),) = server.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", (urlsplit(url).path[1:],))
    if count:
        yield f"the server broke {count} deadlocks"


def _lost(server: DatabaseServer, url: str, told: Told) -> Iterator[str]:
    """What was told and is not there, and what is there and should not be."""
    there = {id_ for (id_,) in server.execute("SELECT id FROM callback_middleware.delivery", database=url)}
    columns = ", ".join(Result._fields)
    rows = server.execute(f"SELECT {columns} FROM callback_middleware.result", database=url)  # noqa: S608 - names of ours
    results = [Result(*row) for row in rows]
    latest = Counter(one.delivery for one in results if one.latest)
    runs = Counter(one.delivery for one in results)
    yield from (f"{id_} was stored, and never ended" for id_ in (told.stored & there) - latest.keys())
    yield from (f"{id_} has {count} latest results" for id_, count in latest.items() if count > 1)
    yield from (f"{id_} is there, and nobody was told" for id_ in there - told.stored)
    yield from (f"{id_} is there, and was rolled back" for id_ in there & told.rolled_back)
    for one in results:
        if one.latest and one.run != runs[one.delivery]:
            yield f"{one.delivery} is in its run {one.run}, and {runs[one.delivery]} ended"
    ended = {Fence(one.delivery, one.fence): one for one in results if one.state in ENDING.values()}
    for fence, verdict in told.ended.items():
        found = ended.pop(fence, None)
        if fence.delivery in there and (found is None or found.state != ENDING[type(verdict)]):
            yield f"{fence} was settled as {verdict}, and is {found}"
    yield from (
        f"{fence} is settled, and nobody was told"
        for fence, one in ended.items()
        if one.reason != KILLED_ITS_WORKER.reason
    )
    tried = server.execute("SELECT delivery, fence FROM callback_middleware.attempt", database=url)
    known = {Fence(*row) for row in tried}
    yield from (f"the attempt of {fence} is not there" for fence in told.tried - known if fence.delivery in there)
    # Those of days that were dropped are no more than the others of these days.
    today = {id_ for id_ in told.stored - there if not _is_old(id_)}
    if len(today) > told.forgotten:
        yield f"{len(today)} deliveries of today are not there, and {told.forgotten} were forgotten"


def _is_old(id_: UUID) -> bool:
    """Whether its day is one of those that were dropped, by the time in a UUIDv7 (RFC 9562, 5.7)."""
    return SystemClock().now() - datetime.fromtimestamp((id_.int >> 80) / 1000, tz=UTC) > A_DAY

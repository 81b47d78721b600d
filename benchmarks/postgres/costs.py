"""What one delivery costs: statements, bytes of write-ahead log, and bytes on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.claims import LEASE, PER_ORIGIN, delivered
from benchmarks.deliveries import ROOMY, deliveries, origins
from benchmarks.postgres.server import TABLES, Database
from benchmarks.puts import Commits, produce
from callback_middleware.delivery import Claim
from callback_middleware.outbox.postgres import PostgresOutbox
from postgres_server import DatabaseServer

SETTINGS: Final[Mapping[str, str | int]] = {"shared_preload_libraries": "pg_stat_statements"}
"""Which counts statements, those of functions not among them: what is left are round trips."""

BATCHES: Final = {1: 640, 64: 19_200}
"""How many are put, claimed and settled at once, and how many in all."""

KEPT: Final = 19_200

BODY: Final = b'{"description": "' + 1005 * b"x" + b'"}'

_ORIGINS: Final = origins(300)

_CALLS: Final = """SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%make_part%'"""

_SIZES: Final = """SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid))
FROM (SELECT %s::regclass AS relid UNION SELECT relid FROM pg_partition_tree(%s)) AS part"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one delivery: statements, and bytes of write-ahead log."""

    statements: float
    log: float


def measure(server: DatabaseServer, _rounds: int) -> None:
    """Print one table for each size of batch, and what is kept of a delivery."""
    for batch, count in BATCHES.items():
        database = Database(server)
        database.execute("CREATE EXTENSION pg_stat_statements")
        database.welcome(_ORIGINS)
        costs = asyncio.run(_costs(database, batch, count))
        print(f"one delivery of {len(BODY)} bytes, {batch} at once")
        costs["together"] = Cost(sum(one.statements for one in costs.values()), sum(one.log for one in costs.values()))
        for name, cost in costs.items():
            print(f"  {name:12}{cost.statements:8.3f} round trips{cost.log:10,.0f} bytes of log")
    print("bytes on disk of one delivery that has ended, after one attempt")
    database = Database(server)
    database.welcome(_ORIGINS)
    sizes = asyncio.run(_sizes(database))
    for table, (rows, indexes) in sizes.items():
        print(f"  {table:12}{rows:8,.0f} and {indexes:6,.0f} of indexes")
    print(f"  {'kept':12}{sum(rows + indexes for table, (rows, indexes) in sizes.items() if table != 'queue'):8,.0f}")
    print("what stands in queue is used again", flush=True)


async def _sizes(database: Database) -> Mapping[str, tuple[float, float]]:
    """Bytes that one delivery takes of each table, and of its indexes."""
    outbox = PostgresOutbox(database.url, backlog=ROOMY)
    await outbox.start()
    await _put(outbox, KEPT, 64)
    queued = await asyncio.to_thread(_size, database, "queue")
    await _settle(outbox, await _claim(outbox, KEPT, 64), 64)
    kept = {table: await asyncio.to_thread(_size, database, table) for table in TABLES}
    await outbox.aclose()
    return {table: (one[0] / KEPT, one[1] / KEPT) for table, one in {**kept, "queue": queued}.items()}


def _size(database: Database, table: str) -> tuple[int, int]:
    """Bytes that a table takes with all its partitions, and its indexes."""
    ((rows, indexes),) = database.execute(_SIZES, [f"callback_middleware.{table}"] * 2)
    return int(rows), int(indexes)


async def _costs(database: Database, batch: int, count: int) -> dict[str, Cost]:
    outbox = PostgresOutbox(database.url, backlog=ROOMY)
    await outbox.start()
    # Whatever is done for the first time.
    await _put(outbox, 1280, 64)
    await _settle(outbox, await _claim(outbox, 1280, 64), 64)
    claims: list[Claim] = []

    async def claim() -> None:
        claims.extend(await _claim(outbox, count, batch))

    phases: Mapping[str, Callable[[], Awaitable[None]]] = {
        "put": lambda: _put(outbox, count, batch),
        "claim": claim,
        "settle": lambda: _settle(outbox, claims, batch),
    }
    costs = {name: await _cost(database, phase, count) for name, phase in phases.items()}
    await outbox.aclose()
    return costs


async def _cost(database: Database, phase: Callable[[], Awaitable[None]], count: int) -> Cost:
    await asyncio.to_thread(database.execute, "SELECT pg_stat_statements_reset()")
    ((before,),) = await asyncio.to_thread(
        database.execute, "SELECT pg_current_wal_insert_lsn() /* pg_stat_statements */"
    )
    await phase()
    ((log,),) = await asyncio.to_thread(
        database.execute, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn /* pg_stat_statements */", [before]
    )
    ((calls,),) = await asyncio.to_thread(database.execute, _CALLS)
    return Cost(int(calls) / count, int(log) / count)


async def _put(outbox: PostgresOutbox, count: int, batch: int) -> None:
    await produce(outbox, [replace(one, body=BODY) for one in deliveries(count, _ORIGINS)], batch, Commits())


async def _claim(outbox: PostgresOutbox, count: int, batch: int) -> list[Claim]:
    claims: list[Claim] = []
    while len(claims) < count:
        claims += await outbox.claim(batch, LEASE, per_origin=PER_ORIGIN, busy={})
    return claims


async def _settle(outbox: PostgresOutbox, claims: list[Claim], batch: int) -> None:
    for start in range(0, len(claims), batch):
        await outbox.settle([delivered(claim) for claim in claims[start : start + batch]])

"""Every statement that a claim, a put and a settle run finds its rows through an index, whatever is known of tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import psycopg
import pytest
from explaining import SETTINGS, Plans, explained
from postgres_setting import PostgresSetting

from callback_middleware.backlog import BACKLOG, BacklogLimits, Bound
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import Claim, Dead, Delivered, Released, Retry, Settlement, Verdict
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.claims import Leased
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import ELSEWHERE, HERE, KEY, THERE, OutboxSetting
from postgres_server import DatabaseServer

ROUNDS = 7
"""More than the five executions after which PostgreSQL may keep a plan for all values."""

MOST_LOOKED_AT = 600
"""Rows in one scan. What a claim looks at has bounds: 256 origins, 500 of what is asked for, and some."""

SMALL = {"retry", "probe", "migration"}
"""Tables of a few rows, whatever is kept."""

PARKED = """
INSERT INTO callback_middleware.retry (policy, digest)
  VALUES ('{}', 'parked');
INSERT INTO callback_middleware.delivery
  (id, operation, callback, method, url, origin, origin_key, created_at, due_at, retry, deadline)
SELECT (left(callback_middleware.lowest_id(now())::text, 13) || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
  'POST /invoices/', 'parked', 'POST', 'https://parked.example/', 'https://parked.example:443',
  CASE WHEN n % 4 = 0 THEN 7 ELSE n % 300 END, now(), now() + interval '10 days', 1, 1000000
FROM generate_series(1, 20000) AS n;
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready)
SELECT id, origin_key, due_at, false FROM callback_middleware.delivery WHERE callback = 'parked';
INSERT INTO callback_middleware.result (delivery, run, latest, state, ended_at, attempts, fence, reason)
SELECT (left(callback_middleware.lowest_id(now())::text, 13) || '-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid,
  1, true, 'delivered', now(), 1, 1, '' FROM generate_series(1, 20000) AS n;
INSERT INTO callback_middleware.attempt (delivery, fence, run, number, started_at, duration, outcome)
SELECT delivery, 1, 1, 1, now(), 1, 'accepted' FROM callback_middleware.result ON CONFLICT DO NOTHING;
INSERT INTO callback_middleware.origin (origin_key, accepted_at) SELECT n, now() FROM generate_series(1, 20000) AS n;
INSERT INTO callback_middleware.dedupe (digest, until)
  SELECT sha256(n::text::bytea), now() + interval '1 day' FROM generate_series(1, 20000) AS n;
INSERT INTO callback_middleware.subscription
  (digest, callback, key, generation, operation, method, url, origin, origin_key, created_at, retry, deadline)
SELECT sha256(n::text::bytea), 'parked', n::text, 1, '', 'POST', '', '', 7, now(), 1, 1
FROM generate_series(1, 20000) AS n
"""

WAITING = """
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready)
SELECT gen_random_uuid(), $1, callback_middleware.instant(), true FROM generate_series(1, $2)
"""
DONE = "DELETE FROM callback_middleware.queue WHERE id NOT IN (SELECT id FROM callback_middleware.delivery)"

NEVER_ANALYSED = """
DO $$
DECLARE
  one regclass;
BEGIN
  FOR one IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'callback_middleware'::regnamespace LOOP
    EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', one);
  END LOOP;
END $$
"""


def tell_plans(url: str, **settings: str) -> None:
    """Have all sessions of a database, from now on, tell about their plans."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in {**SETTINGS, **settings}.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")


@pytest.fixture(scope="module", params=["auto", "force_custom_plan", "force_generic_plan"])
def mode(request: pytest.FixtureRequest) -> str:
    """How PostgreSQL plans what it is asked again and again."""
    return str(request.param)


@pytest.fixture(scope="module", params=["empty", "parked"])
def filled(request: pytest.FixtureRequest, mode: str, postgres_server: DatabaseServer) -> Iterator[str]:
    """A database that nobody has ever analysed, whose sessions tell about their plans."""
    url = postgres_server.create_database()
    anyio.run(migrate, url)
    postgres_server.execute(NEVER_ANALYSED, database=url)
    if request.param == "parked":
        postgres_server.execute(PARKED, database=url)
    tell_plans(url, plan_cache_mode=mode)
    yield url
    postgres_server.drop_database(url)


class Planned(PostgresSetting, OutboxSetting):
    @pytest.fixture
    def clock(self) -> Any:
        return SystemClock()

    @pytest.fixture
    async def outbox(self, filled: str, clock: Any) -> AsyncIterator[PostgresOutbox]:
        # One connection: plans are remembered by each.
        outbox = PostgresOutbox(filled, backlog=BACKLOG, connections=1)
        yield outbox
        await outbox.aclose()

    async def put_all_kinds(self, outbox: PostgresOutbox, clock: Any, number: int) -> None:
        now = clock.now()
        plain = [self.delivery(clock, origin=origin) for origin in (HERE, THERE, ELSEWHERE)]
        await self.put(outbox, *plain)
        await self.put(outbox, *plain)
        subscribed = self.subscription(clock, expires_in=timedelta(days=1))
        await self.subscribe(outbox, subscribed)
        keyed = self.delivery(clock, dedupe=f"key {number}")
        await outbox.put(Batch([keyed], notify=[self.notification(clock)]))
        await outbox.put(Batch([replace(keyed, id=self.delivery(clock).id)], end=[KEY]))
        assert (await outbox.get(plain[0].id)).created_at - now < timedelta(seconds=60)

    async def claim_and_settle(self, outbox: PostgresOutbox, clock: Any) -> None:
        nobodys = await self.claim(outbox, 3)
        assert nobodys
        await outbox._ask(lambda connection: outbox._claims.unclaim(connection, leased(nobodys)))
        verdicts: list[Verdict] = [Delivered(), Retry(timedelta(), "busy"), Released(), Dead("gone", gone=True)]
        for verdict in verdicts:
            claims = await self.claim(outbox, 3)
            assert await outbox.extend(claims, timedelta(seconds=30))
            said = [Settlement(one.fence, verdict, self.attempt(one, clock.now())) for one in claims]
            assert await outbox.settle(said) == {one.fence for one in claims}
            assert await outbox.settle(said) == frozenset()

    async def cancel_one(self, outbox: PostgresOutbox, clock: Any) -> None:
        unwanted = self.delivery(clock, due_in=timedelta(days=1))
        await self.put(outbox, unwanted)
        await outbox.cancel(unwanted.id)
        await outbox.replay(unwanted.id)
        await outbox.cancel(unwanted.id)

    async def bury_a_suspect(self, outbox: PostgresOutbox, clock: Any) -> None:
        suspect = self.delivery(clock, origin="https://suspect.example:443")
        await self.put(outbox, suspect)
        while not (await outbox.get(suspect.id)).state.terminal:
            await self.claim(outbox, lease=timedelta())

    def assert_found_by_index(self, plans: Plans) -> None:
        scans = [one for one in plans.scans if one.table not in SMALL and not one.table.startswith("pg_")]
        assert [one for one in scans if one.kind == "Seq Scan"] == []
        assert [one for one in scans if one.rows > MOST_LOOKED_AT] == []


def leased(claims: Sequence[Claim]) -> Leased:
    return Leased([one.fence.delivery for one in claims], [one.fence.number for one in claims])


class TestPlans(Planned):
    async def test_puts_claims_extensions_and_settlements_look_at_few_rows_and_at_no_table_from_end_to_end(
        self, outbox: PostgresOutbox, clock: Any
    ) -> None:
        with explained() as plans:
            for number in range(ROUNDS):
                await self.put_all_kinds(outbox, clock, number)
                await self.claim_and_settle(outbox, clock)
            await self.bury_a_suspect(outbox, clock)

        self.assert_found_by_index(plans)
        said = " ".join(plans.statements)
        for function in ("put_each", "standing", "claim", "extend", "settle", "unclaim"):
            assert f"callback_middleware.{function}(" in said
        for inner in ("INSERT INTO callback_middleware.delivery", "FOR UPDATE OF held", "WITH RECURSIVE turn"):
            assert inner in said


class TestGrown(Planned):
    @pytest.fixture
    def filled(self, mode: str, postgres_server: DatabaseServer) -> Iterator[str]:
        """A database that was analysed when it had next to nothing, and whose sessions tell about their plans."""
        url = postgres_server.create_database()
        anyio.run(migrate, url)
        postgres_server.execute(NEVER_ANALYSED, database=url)
        tell_plans(url, plan_cache_mode=mode)
        yield url
        postgres_server.drop_database(url)

    @pytest.mark.parametrize("few", [0, 3])
    async def test_a_backlog_that_has_come_since_its_tables_were_analysed_is_not_read_by_plans_that_are_kept(
        self, outbox: PostgresOutbox, clock: Any, filled: str, postgres_server: DatabaseServer, few: int
    ) -> None:
        await self.put(outbox, *[self.delivery(clock, origin=HERE) for _ in range(few)])
        postgres_server.execute("ANALYZE", database=filled)
        for number in range(ROUNDS):
            await self.put_all_kinds(outbox, clock, number)
            await self.claim_and_settle(outbox, clock)
            await self.cancel_one(outbox, clock)
        await self.bury_a_suspect(outbox, clock)
        postgres_server.execute(PARKED, database=filled)

        with explained() as plans:
            await self.put_all_kinds(outbox, clock, ROUNDS)
            await self.claim_and_settle(outbox, clock)
            await self.cancel_one(outbox, clock)
            await self.bury_a_suspect(outbox, clock)
        # Of functions alone, which name no schema: operators ask about what is there now.
        plans.scans = [scan for scan in plans.scans if "callback_middleware." not in scan.statement]
        self.assert_found_by_index(plans)


class TestLongBacklogs(PostgresSetting, OutboxSetting):
    async def test_one_is_counted_once_and_not_for_each_that_is_put(self, fresh: str, clock: VirtualClock) -> None:
        tell_plans(fresh)
        limits = BacklogLimits(per_origin=2503, per_owner=None, newcomer=None)
        outbox = PostgresOutbox(fresh, clock=clock, backlog=limits, connections=1)
        await self.wait_for_here(outbox, 1500)
        one, two, three, four, five = (Batch([self.delivery(clock, dedupe=str(number))]) for number in range(5))

        with explained() as plans:
            for batch in (one, two, three):
                assert (await outbox.put(batch)).stored
        assert len([scan for scan in plans.scans if scan.table == "queue" and scan.rows >= 1500]) == 1

        # Of others, which is not seen at once; but near the bound everybody is counted.
        await self.wait_for_here(outbox, 1000)
        assert (await outbox.put(four)).stored
        assert [refusal.bound for refusal in (await outbox.put(five)).refused.values()] == [Bound.PER_ORIGIN]
        await outbox._ask(lambda connection: connection.execute(DONE))
        assert (await outbox.put(five)).stored
        await outbox.aclose()

    async def wait_for_here(self, outbox: PostgresOutbox, count: int) -> None:
        """Have so many more deliveries wait for a receiver."""
        await outbox._ask(lambda connection: connection.execute(WAITING, origin_key(HERE), count))

"""``pgbench``: what a client that does nothing else gets out of the same server, with statements written by hand.

Its statements do what ours do, to the same tables with all their indexes, and are as durable: what is put and what is
settled is on disk, what is claimed need not be. They know neither fences nor turns, bounds, suspects or newcomers, and
the rows that they put are made by the server, so that nothing but the statement's name comes over the wire.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.deliveries import EVENT
from benchmarks.postgres.server import COLUMNS, ID, Database
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from postgres_programs import find_programs

RECEIVERS: Final = 300

PUT: Final = rf"""
WITH wanted AS MATERIALIZED (
  SELECT g AS number, 'https://receiver-' || g % {RECEIVERS} || '.example' AS origin, statement_timestamp() AS now,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS millisecond
  FROM generate_series(1, :rows) g
), stored AS (
  INSERT INTO callback_middleware.delivery ({COLUMNS})
  SELECT {ID}, 'POST /invoices/', 'invoice_notification', 'POST', origin || '/events/invoices/' || number, origin,
    (number % {RECEIVERS}) * 30744573456182586 - 4611686018427387904, '[["content-type","application/json"]]',
    '{EVENT.decode()}'::bytea, now, now, NULL, 1, 30000000
  FROM wanted ON CONFLICT (id) DO NOTHING RETURNING id, origin_key, created_at, due_at
)
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready)
SELECT id, origin_key, due_at, due_at <= created_at FROM stored RETURNING id;
"""  # noqa: S608 - names of ours

WORK: Final = rf"""
WITH due AS (
  SELECT id FROM callback_middleware.queue WHERE ready AND NOT suspect ORDER BY origin_key, due_at LIMIT :rows
  FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE callback_middleware.queue q SET ready = false, leased = true, due_at = statement_timestamp() + '30 seconds',
    claims = q.claims + 1, fence = q.fence + 1
  FROM due WHERE q.id = due.id RETURNING q.id
)
SELECT array_agg(id)::text AS ids FROM claimed, (SELECT set_config('synchronous_commit', 'off', true)) AS soon \gset
SELECT {", ".join(DELIVERY_COLUMNS)} FROM callback_middleware.delivery WHERE id = ANY (:ids::uuid[]);
WITH ended AS (
  DELETE FROM callback_middleware.queue WHERE id = ANY (:ids::uuid[]) AND leased RETURNING id, run, fence, attempts
), told AS (
  INSERT INTO callback_middleware.result (delivery, run, state, ended_at, attempts, fence, reason)
  SELECT id, run, 'delivered', statement_timestamp(), attempts + 1, fence, '' FROM ended
)
INSERT INTO callback_middleware.attempt
  (delivery, fence, run, number, started_at, duration, outcome, status, detail, body)
SELECT id, fence, run, 1, statement_timestamp(), 20000, 'accepted', 200, '[["content-type","application/json"]]',
  '{{"ok": true}}'::bytea
FROM ended;
"""  # noqa: S608 - names of ours

BOTH: Final = PUT + WORK

_OPTIONS: Final = "-c enable_seqscan=off -c jit=off"
"""As the outbox' own functions have it: without statistics a planner reads whole tables."""


def run(database: Database, script: str, *, rows: int, transactions: int, clients: int) -> float:
    """Run a script so often, shared out among so many clients. Deliveries a second.

    Raises:
        SystemExit: It said something else than a rate; its message says what.
    """
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".sql"))
        file.write(script)
        file.flush()
        arguments: Sequence[str] = [
            *("--no-vacuum", "--protocol=prepared", f"--file={file.name}", f"--define=rows={rows}"),
            *(f"--client={clients}", f"--jobs={min(clients, os.cpu_count() or 1)}"),
            f"--transactions={max(transactions // clients, 1)}",
        ]
        ended = subprocess.run(  # noqa: S603 - our own arguments
            [_program(), *arguments, database.url],
            capture_output=True,
            text=True,
            env={**os.environ, "PGOPTIONS": _OPTIONS},
            check=False,
        )
    rate = re.search(r"^tps = ([\d.]+)", ended.stdout, re.MULTILINE)
    if ended.returncode or rate is None:
        raise SystemExit(f"pgbench said: {ended.stdout}{ended.stderr}")
    return float(rate[1]) * rows


def _program() -> str:
    programs = find_programs()
    found = shutil.which("pgbench", path=None if programs is None else str(programs)) or shutil.which("pgbench")
    if found is None:
        raise SystemExit("this needs pgbench, which comes with PostgreSQL: apt-get install postgresql-contrib")
    return found

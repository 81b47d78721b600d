"""A private server that syncs what it commits, and databases on it that hold what is to be measured."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.deliveries import EVENT, HEADERS, RETRY, disk
from callback_middleware.delivery import DEADLINE
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import microseconds, origin_key, pairs_text
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.outbox.postgres.rows import max_age, retry_text
from postgres_server import DatabaseServer, PostgresLackingError, PostgresServer

SETTINGS: Final[Mapping[str, str | int]] = {
    "shared_buffers": "1GB",
    # No checkpoint falls into one side's turn: they are asked for between turns.
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}

TABLES: Final = ("result", "attempt", "delivery", "queue")
"""As an outbox that forgets what is old takes them: it may be at it."""

ID: Final = """(overlay(overlay(gen_random_uuid()::text PLACING lpad(to_hex(millisecond >> 16), 8, '0') FROM 1 FOR 8)
  PLACING lpad(to_hex(millisecond & 65535), 4, '0') || '-7' FROM 10 FOR 6))::uuid"""
"""A UUIDv7 of a ``millisecond``, in SQL."""

COLUMNS: Final = (
    "id, operation, callback, method, url, origin, origin_key, headers, body, created_at, due_at, expires_at, retry, "
    "deadline"
)

_FILL: Final = f"""
WITH receiver AS MATERIALIZED (
  SELECT * FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY r(origin, key, place)
), wanted AS MATERIALIZED (
  SELECT g AS number, origin, key, (extract(epoch FROM now()) * 1000)::bigint + g / 16 AS millisecond
  FROM generate_series(1, %s) g JOIN receiver ON place = g %% %s + 1
), stored AS (
  INSERT INTO callback_middleware.delivery ({COLUMNS})
  SELECT {ID}, 'POST /invoices/', 'invoice_notification', 'POST', origin || '/events/invoices/' || number, origin, key,
    %s, %s, now(), now() + %s, NULL, %s, %s
  FROM wanted RETURNING id, origin_key, created_at, due_at
)
INSERT INTO callback_middleware.queue (id, origin_key, due_at, ready)
SELECT id, origin_key, due_at, due_at <= created_at FROM stored
"""  # noqa: S608 - names of ours

_ACCEPTED: Final = """
INSERT INTO callback_middleware.origin (origin_key, accepted_at) SELECT unnest(%s::bigint[]), now()
ON CONFLICT (origin_key) DO NOTHING
"""


class Database:
    """A fresh database with the schema.

    Args:
        server: On which it is made.
    """

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self.url = server.create_database()
        asyncio.run(migrate(self.url))
        learn = "SELECT callback_middleware.learn_retry(%s, %s)"
        ((self._retry,),) = self.execute(learn, (retry_text(RETRY), max_age(RETRY)))

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._server.execute(statement, arguments, database=self.url)

    def fill(self, count: int, to: Sequence[Origin], *, due: timedelta = timedelta()) -> None:
        """So many deliveries to these receivers in turn, which have all accepted some before.

        They are the same as those of :func:`benchmarks.deliveries.deliveries`, and made by the server.
        """
        self.welcome(to)
        request = (pairs_text(HEADERS), EVENT, due, self._retry, microseconds(DEADLINE))
        self.execute(_FILL, [list(to), [origin_key(origin) for origin in to], count, len(to), *request])

    def welcome(self, to: Sequence[Origin]) -> None:
        """Have these receivers accepted something: of one that never did a single delivery is out at a time."""
        self.execute(_ACCEPTED, [[origin_key(origin) for origin in to]])

    def empty(self) -> None:
        """Forget all deliveries."""
        self.execute(f"TRUNCATE {', '.join(f'callback_middleware.{table}' for table in TABLES)}")

    def settle_down(self) -> None:
        """Have done now what the server would do by itself soon, in the middle of a turn."""
        self.execute("VACUUM (ANALYZE)")
        self.execute("CHECKPOINT")


@contextmanager
def measured_server(settings: Mapping[str, str | int] | None = None) -> Iterator[PostgresServer]:
    """A server, with these settings beside :data:`SETTINGS`."""
    try:
        with PostgresServer(fsync=True, settings={**SETTINGS, **(settings or {})}) as server:
            yield server
    except PostgresLackingError as error:
        raise SystemExit(str(error)) from None


def described(server: DatabaseServer) -> str:
    """Which server it is, and what it lies on."""
    ((version,),) = server.execute("SHOW server_version")
    settings = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
    return f"PostgreSQL {version}, fsync on, {settings}; {disk(Path(tempfile.gettempdir()))}"

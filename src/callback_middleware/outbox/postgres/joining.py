"""Storing in the transaction of somebody else: on their connection, with their driver, in two statements.

The first asks which transaction this is, and the second stores only if it is still the same: where every statement
commits by itself, nothing is stored. What becomes of it is known to the server by its number, whatever becomes of the
connection (``pg_xact_status``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final
from uuid import UUID

from callback_middleware.backlog import BacklogLimits
from callback_middleware.errors import ConfigurationError, OutboxUnavailable, OutboxUncertain
from callback_middleware.outbox.postgres.fates import Transaction
from callback_middleware.outbox.postgres.guests import KINDS, AnotherDatabase, Kind, cause_of, code_of, kind_of
from callback_middleware.outbox.postgres.line import Connection, Line
from callback_middleware.outbox.postgres.puts import bounds_text, reports
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.rows import batches_text
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.ports import Batch, Joined
from callback_middleware.retry import RetryPolicy

_REFUSALS: Final[Mapping[str, str]] = {
    "no transaction": "no transaction is open on it, and every statement commits by itself; {begin}",
    "synchronous_commit": "synchronous_commit is off there, and what is committed may be lost in a crash; "
    "SET LOCAL synchronous_commit TO on, in this transaction",
    "read only": "it may only read: its transaction is READ ONLY, or its server is a standby; give one that writes",
    "elsewhere": "it is to another outbox, whose schema has the same name; connect it to the outbox' own database",
    "no outbox": "the schema {schema} of its database has no outbox, or an older one; connect it to the outbox' own "
    "database, and see that `callback-middleware migrate` was run there",
    "no grants": "its user may not store there; as the schema's owner: GRANT USAGE ON SCHEMA {schema} TO {user}; "
    "GRANT EXECUTE ON FUNCTION {schema}.put_joined TO {user}",
}

_REMEDIES: Final[Sequence[tuple[str, str]]] = (
    ("25P02", "a statement before it has failed: roll the transaction back, and begin again"),
    ("40", "another transaction was in its way: try yours again, from its beginning"),
    ("55P03", "somebody holds a lock for longer than this connection waits (pg_stat_activity)"),
    ("57014", "somebody holds a lock for longer than this connection waits (pg_stat_activity)"),
    ("", "see that the connection is open, and that nobody else uses it"),
)

_WHICH: Final = """
SELECT coalesce((
  SELECT CASE
    WHEN pg_catalog.current_setting('transaction_read_only') = 'on' THEN 'read only'
    WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
      THEN 'no grants: ' || pg_catalog.quote_ident(current_user)
    ELSE CAST(pg_catalog.pg_current_xact_id() AS text) END
  FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
  WHERE n.nspname = '{schema}' AND p.proname = 'put_joined'
), 'no outbox')
"""
"""Which transaction this is, by its number, or why nothing can be stored in it. Leaves it usable either way."""


class Joining:
    """Stores batches on connections of others.

    Args:
        schema: Where.
        name: How the outbox is called in errors.
        limits: How many deliveries may be live; None for as many as come.
        retries: The numbers of retry policies.

    Attributes:
        identity: Which outbox this is, as soon as its database was asked.
    """

    def __init__(self, schema: Schema, name: str, limits: BacklogLimits | None, retries: Retries) -> None:
        self.identity: UUID | None = None
        self._schema = schema
        self._name = name
        self._limits = limits
        self._retries = retries
        self._which = _WHICH.format(schema=schema.name)
        self._put = (
            f"SELECT CAST({schema.name}.put_joined(CAST(CAST({{0}} AS text) AS json), "
            "CAST(CAST({1} AS text) AS timestamptz), CAST(CAST({2} AS text) AS json), CAST({3} AS text), "
            "CAST(CAST({4} AS text) AS uuid)) AS text)"
        )

    async def learn(
        self, batch: Batch, ask: Callable[[Callable[[Connection], Awaitable[None]]], Awaitable[None]]
    ) -> None:
        """Find out what must be known before this batch is stored, unless it is.

        A retry policy is not to be remembered by a transaction of others: until that ends, everybody who puts with the
        same policy would wait for it.

        Args:
            batch: What is to be stored.
            ask: Does something on a connection of the outbox' own.

        Raises:
            OutboxUnavailable: The database does not say.
        """
        policies = _policies(batch)

        async def work(connection: Connection) -> None:
            self.identity = await connection.fetchval(self._schema.identity)
            await self._retries.ids(connection, policies)

        if self.identity is None or not self._retries.know(policies):
            try:
                await ask(work)
            except OutboxUncertain as error:
                # What was asked may have been done, and be done again; of the batch nothing was.
                raise OutboxUnavailable(*error.args) from error

    def learn_alone(self, batch: Batch, line: Line) -> None:
        """As :meth:`learn`, while this thread waits, whatever runs in it. Uses nothing of the line but its address."""
        if self.identity is None or not self._retries.know(_policies(batch)):
            with ThreadPoolExecutor(1, "callback_middleware joining") as threads:
                threads.submit(asyncio.run, self.learn(batch, line.run_alone)).result()

    async def put(self, connection: object, batch: Batch, now: datetime) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in`, when what it needs was learnt."""
        kind = self._kind(connection, blocks=False)
        try:
            which = await kind.ask(connection, self._which, ())
            number = self._number(which, kind)
            told = await kind.ask(connection, self._put, self._parameters(batch, now, number))
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            cause = cause_of(error)
            raise self._meaning(cause) from cause
        return self._joined(told, batch, number, kind)

    def put_sync(self, connection: object, batch: Batch, now: datetime) -> Joined:
        """As :meth:`~callback_middleware.ports.TransactionalOutbox.put_in_sync`, when what it needs was learnt."""
        kind = self._kind(connection, blocks=True)
        try:
            which = kind.ask(connection, self._which, ())
            number = self._number(which, kind)
            told = kind.ask(connection, self._put, self._parameters(batch, now, number))
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            cause = cause_of(error)
            raise self._meaning(cause) from cause
        return self._joined(told, batch, number, kind)

    def _kind(self, connection: object, *, blocks: bool) -> Kind:
        kind = kind_of(connection)
        if kind is not None and kind.blocks is blocks:
            return kind
        name = f"{type(connection).__module__}.{type(connection).__qualname__}"
        call = "commit_with_sync" if blocks else "commit_with"
        raise ConfigurationError(f"{call}: PostgresOutbox cannot use a {name} there: {KINDS}")

    def _number(self, which: str, kind: Kind) -> str:
        if which.isdecimal():
            return which
        raise self._refused(kind, *which.split(": ", 1))

    def _parameters(self, batch: Batch, now: datetime, number: str) -> Sequence[str | None]:
        (whole,) = json.loads(batches_text([batch]))
        for told, policy in zip(whole["deliveries"] + whole["subscribe"], _policies(batch), strict=True):
            told["retry_id"] = self._retries.number(policy)
        return json.dumps(whole), now.isoformat(), bounds_text(self._limits), number, str(self.identity)

    def _joined(self, told: str, batch: Batch, number: str, kind: Kind) -> Joined:
        answer = json.loads(told)
        if "refused" in answer:
            raise self._refused(kind, answer["refused"])
        (result,) = reports(json.dumps([answer["report"]]), [batch], self._limits)
        if isinstance(result, Exception):
            raise result
        return Joined(result, Transaction(number, answer["within"] or number))

    def _refused(self, kind: Kind, why: str, user: str = "") -> ConfigurationError:
        told = _REFUSALS[why].format(begin=kind.begin, schema=self._schema.name, user=user)
        return ConfigurationError(f"commit_with cannot store on this connection, for the outbox {self._name}: {told}")

    def _meaning(self, error: Exception) -> Exception:
        if isinstance(error, AnotherDatabase):
            return ConfigurationError(
                f"commit_with cannot store on this connection, for the outbox {self._name}: it is to {error}, and no "
                "PostgreSQL; connect it to the outbox' own database"
            )
        code = code_of(error)
        remedy = next(remedy for prefix, remedy in _REMEDIES if code.startswith(prefix))
        # Its first line: what follows may show what was to be stored.
        said = str(error).strip().partition("\n")[0].rstrip(". ")
        return OutboxUnavailable(
            f"nothing was stored in the outbox {self._name} through the connection that was given: {said}; {remedy}"
        )


def _policies(batch: Batch) -> Sequence[RetryPolicy]:
    return [*(one.retry for one in batch.deliveries), *(one.retry for one in batch.subscribe)]

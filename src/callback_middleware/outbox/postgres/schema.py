"""The schema by its name: what every statement of ours is written against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.postgres.rows import PLAIN_COLUMNS, PLAIN_TYPES
from callback_middleware.outbox.records import ATTEMPT_COLUMNS, DELIVERY_COLUMNS, SUBSCRIPTION_COLUMNS

SCHEMA: Final = "callback_middleware"
"""Where an outbox keeps its tables, unless it is told otherwise."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")

_SHIFTED: Final = {"created_at", "due_at", "expires_at"}

_TOLD: Final = {"due_at": "coalesce(due_at, created_at)"}


class Schema:
    """Statements that name everything by its schema: whatever a session's search path is, they mean the same.

    Args:
        name: Lower-case letters, digits and underscores, at most 40.

    Raises:
        ConfigurationError: Any other name.
    """

    put: str
    put_each: str
    known: str
    standing: str
    retry_id: str
    retries: str
    claim: str
    read: str
    unclaim: str
    extend: str
    settle: str
    cancel: str
    replay: str
    prune: str
    attempts: str
    subscriptions: str
    probe: str
    identity: str

    def __init__(self, name: str = SCHEMA) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"PostgresOutbox(schema={name!r}): a schema's name has lower-case letters, digits and underscores, "
                "begins with no digit, and is at most 40 long"
            )
        self.name = name
        for attribute, statement in _STATEMENTS.items():
            setattr(self, attribute, statement.replace("~", f"{name}."))

    @property
    def channel(self) -> str:
        """Where news are told (``LISTEN``)."""
        return self.name


def _columns(names: Sequence[str]) -> str:
    return ", ".join(names)


def _put() -> str:
    """Stores plain deliveries, and queues those that are new: their ids, or null if all are.

    Columns of ``as_columns``, and the process' own time.
    """
    columns = _columns(PLAIN_COLUMNS)
    given = _columns([f"~spread(${number}::{kind}[], cardinality($1))" for number, kind in enumerate(PLAIN_TYPES, 1)])
    taken = _columns([f"{_TOLD.get(name, name)} + skew" if name in _SHIFTED else name for name in PLAIN_COLUMNS])
    return (
        f"WITH stored AS (INSERT INTO ~delivery ({columns}) SELECT {taken} FROM unnest({given}) AS given({columns}), "  # noqa: S608 - names of ours
        f"(SELECT ~skew(${len(PLAIN_COLUMNS) + 1}::timestamptz) AS skew) AS clock "
        "ON CONFLICT (id) DO NOTHING RETURNING id, origin_key, created_at, due_at), "
        "queued AS (INSERT INTO ~queue (id, origin_key, due_at, ready) "
        "SELECT id, origin_key, due_at, due_at <= greatest(created_at, ~instant()) FROM stored RETURNING id) "
        "SELECT nullif(coalesce(array_agg(id), '{}'), $1) FROM queued"
    )


_STATEMENTS: Final = {
    "put": _put(),
    "put_each": "SELECT ~put_each($1::json, $2::timestamptz, $3::json)",
    "known": "SELECT id FROM ~delivery WHERE id = ANY ($1::uuid[])",
    "standing": "SELECT * FROM ~standing($1, $2, $3)",
    "retry_id": "SELECT ~learn_retry($1, $2)",
    "retries": "SELECT id, policy FROM ~retry",
    "claim": "SELECT * FROM ~claim($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    "read": f"SELECT {_columns(DELIVERY_COLUMNS)} FROM ~asked_for($1, $2, $3)",  # noqa: S608 - names of ours
    "unclaim": "SELECT ~unclaim($1, $2)",
    "extend": "SELECT id, fence FROM ~extend($1, $2, $3)",
    "settle": f"SELECT * FROM ~settle({_columns([f'${number}' for number in range(1, 17)])})",  # noqa: S608
    "cancel": "SELECT ~cancel($1)",
    "replay": "SELECT origin_key, begun FROM ~replay($1, $2, $3, $4)",
    "prune": "SELECT ~prune($1, $2)",
    "attempts": f"SELECT {_columns(ATTEMPT_COLUMNS)} FROM ~attempt WHERE delivery = $1 ORDER BY started_at, fence",  # noqa: S608
    "subscriptions": f"SELECT {_columns(SUBSCRIPTION_COLUMNS)} FROM ~subscription "  # noqa: S608 - names of ours
    "WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > ~instant()) AND callback = coalesce($1, callback) "
    'AND ($2::text IS NULL OR (callback COLLATE "C", key COLLATE "C") > ($2, $3::text)) '
    'ORDER BY callback COLLATE "C", key COLLATE "C" LIMIT $4',
    "probe": "UPDATE ~probe SET checked = checked + 1",
    "identity": "SELECT identity FROM ~probe",
}
"""By the attributes of a :class:`Schema`; ``~`` stands for its name and a full stop."""

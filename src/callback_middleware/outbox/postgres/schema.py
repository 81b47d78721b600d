"""The schema by its name: what every statement of ours is written against."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.postgres.rows import (
    ATTEMPT_COLUMNS,
    DELIVERY_COLUMNS,
    DELIVERY_TYPES,
    SUBSCRIPTION_COLUMNS,
)

SCHEMA: Final = "callback_middleware"
"""Where an outbox keeps its tables, unless it is told otherwise."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")

_SHIFTED: Final = {"created_at", "due_at", "expires_at"}


class Schema:
    """Statements that name everything by its schema: whatever a session's search path is, they mean the same.

    Args:
        name: Lower-case letters, digits and underscores, at most 40.

    Raises:
        ConfigurationError: Any other name.
    """

    def __init__(self, name: str = SCHEMA) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"PostgresOutbox(schema={name!r}): a schema's name has lower-case letters, digits and underscores, "
                "begins with no digit, and is at most 40 long"
            )
        self.name = name

    @cached_property
    def put(self) -> str:
        """Stores plain deliveries, and queues those that are new. The columns as arrays, and the process' own time."""
        columns = ", ".join(DELIVERY_COLUMNS)
        given = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(DELIVERY_TYPES, 1))
        told = f"${len(DELIVERY_COLUMNS) + 1}::timestamptz"
        taken = ", ".join(f"{name} + skew" if name in _SHIFTED else name for name in DELIVERY_COLUMNS)
        return (
            f"WITH stored AS (INSERT INTO {self.name}.delivery ({columns}) SELECT {taken} "  # noqa: S608 - names of ours
            f"FROM unnest({given}) AS given({columns}), (SELECT {self.name}.instant() - {told} AS skew) AS clock "
            "ON CONFLICT (id) DO NOTHING RETURNING id, origin_key, created_at, due_at) "
            f"INSERT INTO {self.name}.queue (id, origin_key, due_at, ready) "
            "SELECT id, origin_key, due_at, due_at <= created_at FROM stored RETURNING id"
        )

    @cached_property
    def put_each(self) -> str:
        return f"SELECT {self.name}.put_each($1::json, $2::timestamptz, $3::json)"

    @cached_property
    def known(self) -> str:
        return f"SELECT id FROM {self.name}.delivery WHERE id = ANY ($1::uuid[])"  # noqa: S608 - a name of ours

    @cached_property
    def standing(self) -> str:
        return f"SELECT * FROM {self.name}.standing($1, $2, $3)"  # noqa: S608 - a name of ours

    @cached_property
    def retry_id(self) -> str:
        return f"SELECT {self.name}.learn_retry($1, $2)"

    @cached_property
    def retries(self) -> str:
        return f"SELECT id, policy FROM {self.name}.retry"  # noqa: S608 - a name of ours

    @cached_property
    def claim(self) -> str:
        return f"SELECT * FROM {self.name}.claim($1, $2, $3, $4, $5, $6, $7, $8, $9)"  # noqa: S608 - a name of ours

    @cached_property
    def read(self) -> str:
        """What was asked for, by ids: apart from the claim, because one plan for both would look at every payload."""
        return (
            f"SELECT {', '.join(DELIVERY_COLUMNS)} FROM {self.name}.delivery "  # noqa: S608 - names of ours
            # Between which ids they are: of all days only those are looked at.
            "WHERE id = ANY ($1::uuid[]) AND id BETWEEN $2 AND $3"
        )

    @cached_property
    def unclaim(self) -> str:
        return f"SELECT {self.name}.unclaim($1, $2)"

    @cached_property
    def extend(self) -> str:
        return f"SELECT id, fence FROM {self.name}.extend($1, $2, $3)"  # noqa: S608 - a name of ours

    @cached_property
    def settle(self) -> str:
        parameters = ", ".join(f"${number}" for number in range(1, 20))
        return f"SELECT id, fence, freed FROM {self.name}.settle({parameters})"  # noqa: S608 - a name of ours

    @cached_property
    def cancel(self) -> str:
        return f"SELECT {self.name}.cancel($1)"

    @cached_property
    def replay(self) -> str:
        return f"SELECT origin_key, begun FROM {self.name}.replay($1, $2, $3, $4)"  # noqa: S608 - a name of ours

    @cached_property
    def prune(self) -> str:
        return f"SELECT {self.name}.prune($1, $2)"

    @cached_property
    def attempts(self) -> str:
        return (
            f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM {self.name}.attempt WHERE delivery = $1 "  # noqa: S608
            "ORDER BY started_at, fence"
        )

    @cached_property
    def subscriptions(self) -> str:
        return (
            f"SELECT {', '.join(SUBSCRIPTION_COLUMNS)} FROM {self.name}.subscription "  # noqa: S608 - names of ours
            f"WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > {self.name}.instant()) "
            "AND callback = coalesce($1, callback) AND ($2::text IS NULL "
            'OR (callback COLLATE "C", key COLLATE "C") > ($2, $3::text)) '
            'ORDER BY callback COLLATE "C", key COLLATE "C" LIMIT $4'
        )

    @cached_property
    def probe(self) -> str:
        return f"UPDATE {self.name}.probe SET checked = checked + 1"  # noqa: S608 - a name of ours

    @cached_property
    def identity(self) -> str:
        return f"SELECT identity FROM {self.name}.probe"  # noqa: S608 - a name of ours

    @property
    def channel(self) -> str:
        """Where news are told (``LISTEN``)."""
        return self.name

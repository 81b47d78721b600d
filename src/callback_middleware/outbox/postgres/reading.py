"""What the database says of deliveries: the statements that operators' questions become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.retries import Retries
from callback_middleware.outbox.postgres.rows import delivery_of
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from callback_middleware.selection import Selection
from callback_middleware.states import State

MOST_AT_ONCE: Final = 500
"""Rows that one statement reads."""

_WIDTH: Final = len(DELIVERY_COLUMNS)
_COLUMNS: Final = (
    f"{', '.join(f'd.{name}' for name in DELIVERY_COLUMNS)}, "
    "q.due_at, q.leased, q.attempts, q.run, q.reason, r.state, r.attempts, r.run, r.reason"
)
_QUEUED: Final = frozenset({State.PENDING, State.SENDING})
_STATE: Final = "CASE WHEN q.id IS NULL THEN r.state WHEN q.leased THEN 'sending' ELSE 'pending' END"


class Reading:
    """Asks for deliveries as they stand.

    Args:
        schema: Where.
        retries: The numbers of retry policies.
    """

    def __init__(self, schema: Schema, retries: Retries) -> None:
        self._schema = schema
        self._retries = retries

    async def get(self, connection: Connection, delivery: UUID) -> Delivery:
        """One delivery. Raises :class:`DeliveryNotFound`."""
        rows = await connection.fetch(f"{self._select()} WHERE d.id = $1", delivery)
        if not rows:
            raise not_found(delivery)
        (found,) = await self._deliveries(connection, rows)
        return found

    async def counts(self, connection: Connection) -> dict[State, int]:
        """How many deliveries are in each state, all at one moment."""
        name = self._schema.name
        rows = await connection.fetch(
            f"SELECT CASE WHEN leased THEN 'sending' ELSE 'pending' END, count(*) FROM {name}.queue "  # noqa: S608
            f"GROUP BY leased UNION ALL SELECT state, count(*) FROM {name}.result WHERE latest GROUP BY state"
        )
        return {**dict.fromkeys(State, 0), **{State(state): count for state, count in rows}}

    async def select(
        self, connection: Connection, selection: Selection, after: UUID | None, *, at_once: int
    ) -> AsyncIterator[Delivery]:
        """The selected deliveries, the newest first: by statements that each read so many rows. It may be left.

        What the statement leaves in, :meth:`Selection.matches` decides: a tag's way of writing is not to be relied on.
        """
        fixed, values = _conditions(selection)
        before = after
        while True:
            conditions, parameters = [*fixed], [*values]
            if before is not None:
                parameters.append(before)
                conditions.append(f"d.id < ${len(parameters)}")
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            statement = f"{self._select(selection)}{where} ORDER BY d.id DESC LIMIT {at_once}"
            rows = await connection.fetch(statement, *parameters)
            for delivery in await self._deliveries(connection, rows):
                if selection.matches(delivery):
                    yield delivery
            if len(rows) < at_once:
                return
            before = rows[-1][0]
            # Few were what was looked for.
            at_once = MOST_AT_ONCE

    def _select(self, selection: Selection | None = None) -> str:
        name = self._schema.name
        states = frozenset(selection.states) if selection is not None else frozenset()
        # Where all that is looked for stands in one of them, the way to it begins there.
        queue = "JOIN" if states and states <= _QUEUED else "LEFT JOIN"
        result = "JOIN" if states and not states & _QUEUED else "LEFT JOIN"
        return (
            f"SELECT {_COLUMNS} FROM {name}.delivery d {queue} {name}.queue q ON q.id = d.id "  # noqa: S608
            f"{result} {name}.result r ON r.delivery = d.id AND r.latest"
        )

    async def _deliveries(self, connection: Connection, rows: Sequence[Any]) -> Sequence[Delivery]:
        policies = await self._retries.policies(connection, {row[12] for row in rows})
        found = []
        for row in rows:
            due_at, leased, attempts, run, reason = row[_WIDTH : _WIDTH + 5]
            changing: dict[str, Any] = {"state": State.SENDING if leased else State.PENDING, "due_at": due_at}
            if due_at is None:
                state, attempts, run, reason = row[_WIDTH + 5 :]
                changing = {"state": State(state)}
            found.append(delivery_of(row, policies[row[12]], attempts=attempts, run=run, reason=reason, **changing))
        return found


def not_found(delivery: UUID) -> DeliveryNotFound:
    return DeliveryNotFound(f"no delivery has the id {delivery}")


def _conditions(selection: Selection) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []

    def condition(text: str, value: Any) -> None:
        parameters.append(value)
        conditions.append(text % f"${len(parameters)}")

    if selection.states:
        ended = [state for state in selection.states if state.terminal]
        if len(ended) == len(selection.states):
            condition("r.state = ANY (%s::text[])", ended)
        else:
            condition(f"{_STATE} = ANY (%s::text[])", list(selection.states))
    if selection.callback is not None:
        condition("d.callback = %s", selection.callback)
    if selection.host is not None:
        condition("strpos(d.origin, %s) > 0", selection.host)
    if selection.since is not None:
        condition("d.created_at >= %s", selection.since)
    if selection.until is not None:
        condition("d.created_at < %s", selection.until)
    if selection.text is not None and _is_plain(selection.text):
        condition(
            "strpos(lower((d.url || ' ' || d.operation || ' ' || coalesce(d.tags, '') || ' ' || "
            "coalesce(q.reason, r.reason, '')) COLLATE \"C\"), %s) > 0",
            selection.text.lower(),
        )
    return conditions, parameters


def _is_plain(text: str) -> bool:
    """Whether a text is written in JSON as it is, and every database knows its lower case."""
    return text.isascii() and text.isprintable() and not set(text) & {'"', "\\"}

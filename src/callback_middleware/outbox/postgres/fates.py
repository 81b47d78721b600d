"""What became of a transaction, by the server's numbers: whatever became of its connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.ports import Fate

_STATUS: Final = "SELECT pg_xact_status(CAST($1::text AS xid8)), pg_xact_status(CAST($2::text AS xid8))"

_FATES: Final[Mapping[str | None, Fate]] = {
    "in progress": Fate.OPEN,
    "committed": Fate.COMMITTED,
    "aborted": Fate.ROLLED_BACK,
}


class Transaction(NamedTuple):
    """A transaction in which something was stored.

    Attributes:
        number: The transaction's (``xid8``, in digits).
        within: That of the part of it that has stored, which a savepoint may take back alone; the same where nothing
            was changed.
    """

    number: str
    within: str


async def ask_fate(connection: Connection, transaction: Transaction) -> Fate:
    """``UNKNOWN`` for one that is forgotten. Raises what asyncpg does."""
    ((status, within),) = await connection.fetch(_STATUS, *transaction)
    fate = _FATES.get(status, Fate.UNKNOWN)
    return _FATES.get(within, Fate.UNKNOWN) if fate is Fate.COMMITTED else fate

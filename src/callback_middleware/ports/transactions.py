"""An outbox that can store in its user's own transaction: what it stores there exists if, and only if, that commits."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol, runtime_checkable

from callback_middleware.ports.outbox import Batch, Outbox, PutReport


class Fate(enum.Enum):
    """What became of a transaction that was joined."""

    OPEN = enum.auto()
    """It has not ended. It may yet commit, or not."""

    COMMITTED = enum.auto()
    """What was stored in it is there, and durable."""

    ROLLED_BACK = enum.auto()
    """What was stored in it is not there, and never was for anybody else."""

    UNKNOWN = enum.auto()
    """The database cannot be asked, or does not remember."""


class Joined(NamedTuple):
    """A batch that was stored in somebody else's transaction.

    Attributes:
        report: What the put changed, as that transaction sees it.
        transaction: Which transaction it was, for :meth:`TransactionalOutbox.fate` of the same outbox alone.
    """

    report: PutReport
    transaction: object


@runtime_checkable
class TransactionalOutbox(Outbox, Protocol):
    """An :class:`~callback_middleware.ports.Outbox` that can also store in a transaction of its user's."""

    async def put_in(self, connection: object, batch: Batch) -> Joined:
        """Store a batch whole in the transaction that is open on a connection of the user's.

        As :meth:`~callback_middleware.ports.Outbox.put`, but durable when, and only when, the user commits; until then
        nobody else sees it. It neither commits nor rolls back. Whatever it raises, nothing of the batch is stored, and
        the transaction can go on, unless the connection itself is of no more use.

        Args:
            connection: One of the kinds that the outbox knows, used by nobody else meanwhile.
            batch: What is stored.

        Raises:
            ConfigurationError: It is no connection that can keep the promise: of a kind that is not known, to another
                database, without a transaction, or one whose commits are not durable. The message says which, and what
                to do.
            SubscriptionExists: A key of ``batch.subscribe`` is another owner's.
            OutboxUnavailable: The database refused; the transaction may be of no more use.
        """
        ...

    def put_in_sync(self, connection: object, batch: Batch) -> Joined:
        """As :meth:`put_in`, for a connection that blocks. Called in the thread that uses the connection."""
        ...

    async def fate(self, transaction: object) -> Fate:
        """What became of a transaction, ``Joined.transaction``, whatever became of its connection.

        Asked in any task of any event loop, also more than once. It raises nothing: what it cannot find out is
        ``UNKNOWN``. Its caller bounds how long it may take.
        """
        ...

    async def committed(self) -> None:
        """A hint: a transaction that was joined has been committed. Wakes those who wait for something to be due.

        Polling alone is correct without it. Nobody waits for it, and it raises nothing.
        """
        ...

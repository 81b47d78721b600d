"""What a put asks and does, on whichever connection it is, in a transaction that somebody has begun."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from callback_middleware.backlog import BacklogLimits
from callback_middleware.outbox.plenty import Plenty
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.retry import RetryPolicy

POLICY: Final = "SELECT policy FROM retry WHERE id = ?"


class Statements:
    """One connection to the file, and what is remembered of the file between two statements. Of one thread.

    Attributes:
        path: The file, as it was given.
        connection: What is asked.
        ground: Says what time it is.
        limits: How many deliveries may be live; None for as many as come.
        plenty: Where many more find room.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, ground: Ground, limits: BacklogLimits | None
    ) -> None:
        self.path = path
        self.connection = connection
        self.ground = ground
        self.limits = limits
        self.plenty = Plenty()
        self._retry_ids: dict[RetryPolicy, int] = {}
        self._policies: dict[int, RetryPolicy] = {}
        # Made by the transaction that is under way. If that is rolled back, their numbers become others'.
        self._unsure: set[int] = set()

    def fetch(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows at once: a cursor left open would keep the write-ahead log from being reset."""
        return self.connection.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement, parameters)

    def retry_id(self, policy: RetryPolicy) -> int:
        """The row of a retry policy, made if there is none."""
        number = self._retry_ids.get(policy)
        if number is not None:
            return number
        text = json.dumps(policy.as_dict(), sort_keys=True)
        found = self.fetch("SELECT id FROM retry WHERE policy = ?", (text,))
        if found:
            ((number,),) = found
        else:
            number = self.run("INSERT INTO retry (policy) VALUES (?)", (text,)).lastrowid or 0
            if self.connection.in_transaction:
                self._unsure.add(number)
        if number not in self._unsure:
            self._retry_ids[policy] = number
        return number

    def policy(self, number: int) -> RetryPolicy:
        """The retry policy of a row."""
        policy = self._policies.get(number)
        if policy is None:
            policy = policy_of(self.fetch(POLICY, (number,)))
            if number not in self._unsure:
                self._policies[number] = policy
        return policy


def policy_of(rows: Sequence[Sequence[str]]) -> RetryPolicy:
    """The retry policy that :data:`POLICY` has found."""
    ((text,),) = rows
    return RetryPolicy.from_dict(json.loads(text))

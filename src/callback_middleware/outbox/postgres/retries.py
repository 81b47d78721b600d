"""Retry policies by their numbers: deliveries share a few."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from callback_middleware.outbox.postgres.line import Connection
from callback_middleware.outbox.postgres.rows import max_age, retry_text
from callback_middleware.outbox.postgres.schema import Schema
from callback_middleware.retry import RetryPolicy


class Retries:
    """Remembers which policy has which number. A number never changes its meaning."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._ids: dict[RetryPolicy, int] = {}
        self._policies: dict[int, RetryPolicy] = {}

    def know(self, policies: Collection[RetryPolicy]) -> bool:
        """Whether each of these has a number that is known."""
        return self._ids.keys() >= set(policies)

    def number(self, policy: RetryPolicy) -> int:
        """The number of one that is known."""
        return self._ids[policy]

    async def ids(self, connection: Connection, policies: Collection[RetryPolicy]) -> Mapping[RetryPolicy, int]:
        """The number of each of these at least; new ones get one."""
        for policy in policies:
            if policy not in self._ids:
                self._ids[policy] = await connection.fetchval(
                    self._schema.retry_id, retry_text(policy), max_age(policy)
                )
        return self._ids

    async def policies(self, connection: Connection, numbers: Collection[int]) -> Mapping[int, RetryPolicy]:
        """What each of these numbers at least stands for."""
        if not self._policies.keys() >= set(numbers):
            for number, policy in await connection.fetch(self._schema.retries):
                self._policies[number] = RetryPolicy.from_dict(json.loads(policy))
        return self._policies

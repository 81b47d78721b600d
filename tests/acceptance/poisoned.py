"""A worker whose sender is killed by one of the deliveries that it gets; run as ``python poisoned.py FILE-OR-URL``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

import anyio

from callback_middleware import Dispatcher, EgressPolicy, SQLiteOutbox
from callback_middleware.delivery import Claim
from callback_middleware.destinations import Origin
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outcomes import AttemptRequest, Outcome
from callback_middleware.senders.httpx import HttpxSender

POISON = b"poison"
LEASE = timedelta(seconds=0.3)


class Brief:
    """With leases that end before a test is tired of waiting for those of a dead worker."""

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        claims: Sequence[Claim] = await super().claim(  # type: ignore[misc]  # the outbox beside it has it
            limit, LEASE, per_origin=per_origin, busy=busy
        )
        return claims


class BriefSQLiteOutbox(Brief, SQLiteOutbox): ...


class BriefPostgresOutbox(Brief, PostgresOutbox): ...


class FragileSender(HttpxSender):
    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        if request.body == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().send(request, egress=egress, deadline=deadline)


async def work(address: str) -> None:
    """Deliver until nothing is pending or sending: a state to which no lease that is running counts as ended."""
    # Neighbours are to be in flight beside it.
    kind = BriefPostgresOutbox if "://" in address else BriefSQLiteOutbox
    outbox, sender = kind(address, backlog=None), FragileSender()
    dispatcher = Dispatcher(outbox, sender, egress=EgressPolicy.development())
    while any(count for state, count in (await outbox.counts()).items() if not state.terminal):
        await dispatcher.deliver_due()
        await outbox.wait(timedelta(seconds=1))
    await sender.aclose()
    await outbox.aclose()


if __name__ == "__main__":
    anyio.run(work, sys.argv[1])

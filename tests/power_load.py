"""A process that works an SQLite outbox, and says what it was promised: what a power cut must not take back.

    python power_load.py outbox.db acknowledged

Producers put, some plainly and some with keys and subscriptions, and a worker claims and settles. As soon as the outbox
has said that something is durable, one line of ``acknowledged`` says so: ``put <batch>`` or ``<verdict> <delivery>``.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, ClassVar, Final

import anyio

from callback_middleware import SQLiteOutbox
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Claim, Dead, Delivered, Delivery, Released, Retry, Settlement
from callback_middleware.identifiers import uuid7
from callback_middleware.outcomes import Accepted, Answer, Attempt
from callback_middleware.ports import Batch
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import Notification, Subscription, SubscriptionKey

PRODUCERS: Final = 8
CLAIMED_AT_ONCE: Final = 64
LEASE: Final = timedelta(seconds=60)
OPERATION: Final = "POST /invoices/"
ORIGIN: Final = "https://receiver.example:443"
POLICY: Final = RetryPolicy.fixed(60, 600)


class Load:
    """What the producers and the worker share.

    Args:
        outbox: Under load.
        acknowledge: Told what the outbox has promised; it must be on its way when this returns.
        seed: Of everything that chance decides. No two loads on one file may have the same.
    """

    def __init__(self, outbox: SQLiteOutbox, acknowledge: Callable[[str], object], seed: int) -> None:
        self._outbox = outbox
        self._acknowledge = acknowledge
        self._seed = seed
        self._chance = Random(seed)  # noqa: S311 - chance that repeats

    async def run(self, puts: int | None) -> None:
        """Put this many batches, None for without end, and attempt whatever is due once."""
        async with anyio.create_task_group() as worker:
            worker.start_soon(self._work)
            async with anyio.create_task_group() as producers:
                for producer in range(PRODUCERS):
                    producers.start_soon(self._produce, producer, puts)
            worker.cancel_scope.cancel()
        while await self._attempt():
            pass

    async def _produce(self, producer: int, puts: int | None) -> None:
        number = producer
        while puts is None or number < puts:
            name = f"{self._seed}-{number}"
            await self._outbox.put(self._batch(name))
            self._acknowledge(f"put {name}")
            number += PRODUCERS

    async def _work(self) -> None:
        while True:
            if not await self._attempt():
                await self._outbox.wait(timedelta(seconds=1))

    async def _attempt(self) -> bool:
        """Claim and settle what is due; False if nothing was."""
        claims = await self._outbox.claim(CLAIMED_AT_ONCE, LEASE, per_origin=CLAIMED_AT_ONCE, busy={})
        settlements = [self._settlement(claim) for claim in claims]
        applied = await self._outbox.settle(settlements)
        for settlement in settlements:
            if settlement.fence in applied and isinstance(settlement.verdict, Delivered | Dead):
                verdict = type(settlement.verdict).__name__.lower()
                self._acknowledge(f"{verdict} {settlement.fence.delivery}")
        return bool(claims)

    def _batch(self, name: str) -> Batch:
        """One to four deliveries; their tags say of which batch they are, and how many it has."""
        chance, now = self._chance, SystemClock().now()
        kind = chance.choice(("plain", "plain", "plain", "keyed", "notified"))
        count = chance.choice((1, 1, 2, 3))
        tags = {"batch": name, "of": str(count + (kind == "notified"))}
        deliveries = [self._delivery(now, tags) for _ in range(count)]
        if kind == "plain":
            return Batch(deliveries)
        if kind == "keyed":
            return Batch([replace(delivery, dedupe=str(delivery.id)) for delivery in deliveries])
        key = SubscriptionKey("invoice_paid", str(chance.randrange(20)), "owner")
        return Batch(deliveries, subscribe=[_subscription(key, now)], notify=[self._notification(key, now, tags)])

    def _delivery(self, now: datetime, tags: dict[str, str]) -> Delivery:
        return Delivery(
            id=uuid7(now, self._chance.randbytes(10)),
            operation=OPERATION,
            callback="invoice_paid",
            method="POST",
            url=f"{ORIGIN}/events",
            origin=ORIGIN,
            headers=(("content-type", "application/json"),),
            body=self._chance.randbytes(self._chance.randrange(3000)),
            created_at=now,
            due_at=now,
            retry=POLICY,
            deadline=DEADLINE,
            tags=tags,
        )

    def _notification(self, key: SubscriptionKey, now: datetime, tags: dict[str, str]) -> Notification:
        id_, body = uuid7(now, self._chance.randbytes(10)), self._chance.randbytes(300)
        return Notification(id=id_, key=key, body=body, created_at=now, due_at=now, tags=tags)

    def _settlement(self, claim: Claim) -> Settlement:
        verdict = self._chance.choice((Delivered(), Delivered(), Dead("given up"), Retry(LEASE), Released(LEASE)))
        attempt = Attempt(
            delivery=claim.delivery.id,
            run=claim.delivery.run,
            number=claim.attempt,
            started_at=SystemClock().now(),
            duration=timedelta(milliseconds=20),
            outcome=Accepted(Answer(200, (), b"said")),
        )
        return Settlement(claim.fence, verdict, None if isinstance(verdict, Released) else attempt)


def _subscription(key: SubscriptionKey, now: datetime) -> Subscription:
    return Subscription(
        key=key,
        operation=OPERATION,
        method="POST",
        url=f"{ORIGIN}/later",
        origin=ORIGIN,
        created_at=now,
        retry=POLICY,
        deadline=DEADLINE,
    )


class Tuned(sqlite3.Connection):
    """Whatever is asked of it, these settings are as they stand here."""

    settings: ClassVar[dict[str, str]] = {}

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        for name, value in self.settings.items():
            statement = re.sub(rf"(?i)(PRAGMA {name} = )\w+", rf"\g<1>{value}", statement)
        return super().execute(statement, *parameters)


async def main(arguments: argparse.Namespace) -> None:
    acknowledged = os.open(arguments.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for life in range(arguments.lives):
        outbox = SQLiteOutbox(arguments.path, backlog=None)
        load = Load(outbox, lambda line: os.write(acknowledged, f"{line}\n".encode()), arguments.seed + life)
        await load.run(arguments.puts)
        await outbox.aclose()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("acknowledged")
    parser.add_argument("--seed", type=int, default=0, help="the lives of one file need different ones")
    parser.add_argument("--puts", type=int, help="batches of one life; without end if it is not given")
    parser.add_argument("--lives", type=int, default=1, help="how often the outbox is opened and closed")
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    parser.add_argument("--setting", action="append", default=[], help="of SQLite's, name=value, whatever is asked for")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    Tuned.settings = dict(setting.split("=") for setting in arguments.setting)
    sqlite3.connect = partial(sqlite3.connect, factory=Tuned)  # type: ignore[assignment]
    anyio.run(main, arguments, backend=arguments.backend)

"""An invoice service that leaves sending to workers: its outbox is the file that ``OUTBOX`` names."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, SQLiteOutbox
from callback_middleware.delivery import Claim
from callback_middleware.destinations import Origin
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class Invoice(BaseModel):
    id: str


class BriefOutbox(SQLiteOutbox):
    """With leases of at most ``LEASE`` seconds, if that is set: a test waits until those of a dead worker end."""

    async def claim(
        self, limit: int, lease: timedelta, *, per_origin: int, busy: Mapping[Origin, int]
    ) -> Sequence[Claim]:
        longest = timedelta(seconds=float(os.environ.get("LEASE", "3600")))
        return await super().claim(limit, min(lease, longest), per_origin=per_origin, busy=busy)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    note_lifespan()
    yield


def note_lifespan() -> None:
    with Path(os.environ["LIFESPANS"]).open("a") as lifespans:
        lifespans.write(f"{os.getpid()}\n")


notifications = APIRouter()


@notifications.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: Invoice) -> None: ...


app = FastAPI(lifespan=lifespan)
# Where bounds are not what a test is about, it may put more than a receiver that is new has room for.
bounds: Mapping[str, Any] = {} if "BOUNDED" in os.environ else {"backlog": None}
app.add_middleware(
    CallbackMiddleware,
    outbox=BriefOutbox(os.environ["OUTBOX"], **bounds),
    egress=EgressPolicy.development(),
    retry=RetryPolicy.fixed(0.1, max_attempts=1000),
    dispatch=False,
)


@app.post("/invoices/", callbacks=notifications.routes)
async def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    callbacks.send(invoice_notification, invoice)
    return {"id": invoice.id}

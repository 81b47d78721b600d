"""The external developer's own service: it implements the callback that the API documents, and believes no other.

Of ``callback_middleware`` it uses what verifies a signature, and any library for Standard Webhooks would do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from callback_middleware.receiver import Verified, signed_by

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="   · %(name)s: %(message)s")
logger = logging.getLogger("the developer's service")

# As the API's author has shown them: one for what the API sends to this origin, and one for what this developer
# subscribed. Any one of them may have signed.
Signed = Annotated[Verified, Depends(signed_by(os.environ["WEBHOOK_SECRETS"].split()))]


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


class Notification(BaseModel):
    """One notification, as it came and as it was answered."""

    method: str
    path: str
    id: str
    signed_at: datetime
    body: dict[str, Any]
    answer: dict[str, Any]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.notifications = []
    app.state.arrived = asyncio.Condition()
    app.state.working = True
    yield


app = FastAPI(title="The external developer's service", lifespan=lifespan)


@app.post("/events/invoices/{invoice_id}")
async def invoice_paid(invoice_id: str, event: InvoiceEvent, signed: Signed) -> dict[str, bool]:
    """The callback: "the path that your service has to have", as the API's documentation says."""
    logger.info("the signature of %s is right, and was made at %s", signed.id, signed.timestamp.isoformat())
    heard = Notification(
        method="POST",
        path=f"/events/invoices/{invoice_id}",
        # The same at every attempt: by it a receiver knows a repetition.
        id=signed.id,
        signed_at=signed.timestamp,
        body=event.model_dump(),
        answer={"ok": True} if app.state.working else {"detail": "under maintenance"},
    )
    async with app.state.arrived:
        app.state.notifications.append(heard)
        app.state.arrived.notify_all()
    if not app.state.working:
        raise HTTPException(503, "under maintenance")
    return {"ok": True}


@app.put("/maintenance")
async def maintenance(*, under: bool) -> None:
    """Have a bad day, or a good one again."""
    app.state.working = not under


@app.get("/notifications/{number}")
async def notification(number: int, wait: float = 10) -> Notification:
    """The notification of this number, from 0; waited for, at most this many seconds."""
    notifications: list[Notification] = app.state.notifications
    try:
        async with asyncio.timeout(wait), app.state.arrived:
            await app.state.arrived.wait_for(lambda: len(notifications) > number)
    except TimeoutError:
        raise HTTPException(404, f"{len(notifications)} notifications came, number {number} did not") from None
    return notifications[number]

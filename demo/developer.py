"""The external developer's own service: it implements the callback that the API documents.

It knows nothing of ``callback_middleware``, as no receiver has to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


class Notification(BaseModel):
    """One notification, as it came and as it was answered."""

    method: str
    path: str
    body: dict[str, Any]
    answer: dict[str, Any]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.notifications = []
    app.state.arrived = asyncio.Condition()
    yield


app = FastAPI(title="The external developer's service", lifespan=lifespan)


@app.post("/events/invoices/{invoice_id}")
async def invoice_paid(invoice_id: str, event: InvoiceEvent) -> dict[str, bool]:
    """The callback: "the path that your service has to have", as the API's documentation says."""
    answer = {"ok": True}
    path = f"/events/invoices/{invoice_id}"
    async with app.state.arrived:
        app.state.notifications.append(Notification(method="POST", path=path, body=event.model_dump(), answer=answer))
        app.state.arrived.notify_all()
    return answer


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

"""An invoice service whose outbox is the file that ``OUTBOX`` names; with ``DISPATCH=no`` it sends nothing itself."""

from __future__ import annotations

import logging
import os

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, SQLiteOutbox
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class Invoice(BaseModel):
    id: str
    text: str = ""


notifications = APIRouter()


@notifications.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: Invoice) -> None: ...


app = FastAPI()
app.add_middleware(
    CallbackMiddleware,
    outbox=SQLiteOutbox(os.environ["OUTBOX"], backlog=None),
    egress=EgressPolicy.development(),
    retry=RetryPolicy.fixed(0.1, max_attempts=1000),
    dispatch=os.environ.get("DISPATCH") != "no",
)
handled = 0


@app.post("/invoices/", callbacks=notifications.routes)
async def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    global handled  # noqa: PLW0603 - what the business has done
    handled += 1
    callbacks.send(invoice_notification, invoice)
    return {"id": invoice.id}


@app.get("/handled")
async def count() -> int:
    """How many invoices there are. Documents no callback."""
    return handled

"""An invoice service that leaves sending to workers: its outbox is in the database that ``DATABASE`` names."""

from __future__ import annotations

import logging
import os

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy
from callback_middleware.fastapi import Callbacks
from callback_middleware.outbox.postgres import PostgresOutbox

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class Invoice(BaseModel):
    id: str


notifications = APIRouter()


@notifications.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: Invoice) -> None: ...


app = FastAPI()
app.add_middleware(
    CallbackMiddleware,
    outbox=PostgresOutbox(os.environ["DATABASE"], schema=os.environ.get("SCHEMA", "callback_middleware"), backlog=None),
    egress=EgressPolicy.development(),
    retry=RetryPolicy.fixed(0.1, max_attempts=1000),
    dispatch=False,
)


@app.post("/invoices/", callbacks=notifications.routes)
async def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    callbacks.send(invoice_notification, invoice)
    return {"id": invoice.id}

"""The API: external developers create invoices, and are told when one is paid.

It documents its callback as any FastAPI application may; the one line that makes it happen is ``add_middleware``.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from base64 import b64encode
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Header, HTTPException
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, SQLiteOutbox, StandardWebhooksSigner
from callback_middleware.fastapi import Callbacks

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="   · %(name)s: %(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)

DIRECT_DEBIT_LIMIT = 10_000


class Invoice(BaseModel):
    id: str
    title: str | None = None
    customer: str
    total: float


class InvoiceState(BaseModel):
    invoice: Invoice
    developer: str
    state: Literal["open", "paid"]


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


class InvoiceEventReceived(BaseModel):
    ok: bool


class Received(BaseModel):
    msg: str


# Whoever your authentication says is calling; here, whoever says so.
Developer = Annotated[str, Header(alias="developer")]

PAID = InvoiceEvent(description="Payment celebration", paid=True)

invoice_callbacks = APIRouter()


@invoice_callbacks.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
def invoice_notification(body: InvoiceEvent) -> None:
    """Sent when the customer has paid."""


app = FastAPI(title="Invoices")
app.add_middleware(
    CallbackMiddleware,
    outbox=SQLiteOutbox(os.environ.get("CALLBACKS_DB") or f"{tempfile.mkdtemp()}/callbacks.db"),
    # Everybody who is called gets signatures of their own, by a secret that is derived from this one.
    signer=StandardWebhooksSigner(master=os.environ.get("CALLBACKS_MASTER") or b64encode(os.urandom(32)).decode()),
    # The developer's service of this demo is on this very machine, which the default policy rightly refuses.
    egress=EgressPolicy.development(),
    # The default waits for hours between the later attempts, and nobody watches a demo for so long.
    retry=RetryPolicy.fixed(2, 2, 2, 5, 5, 10),
)

invoices: dict[str, InvoiceState] = {}


@app.post("/invoices/", callbacks=invoice_callbacks.routes)
def create_invoice(
    invoice: Invoice, developer: Developer, callbacks: Callbacks, callback_url: HttpUrl | None = None
) -> Received:
    """Create an invoice. Up to 10,000 it is collected at once, by direct debit; a larger one stays open."""
    collected = invoice.total <= DIRECT_DEBIT_LIMIT
    state: Literal["open", "paid"] = "paid" if collected else "open"
    invoices[invoice.id] = InvoiceState(invoice=invoice, developer=developer, state=state)
    if collected:
        callbacks.send(invoice_notification, PAID)
    else:
        callbacks.subscribe(invoice_notification, key=invoice.id, owner=developer)
    return Received(msg="Invoice received")


@app.post("/invoices/{invoice_id}/payment")
def pay_invoice(invoice_id: str, callbacks: Callbacks) -> InvoiceState:
    """The bank's: an open invoice is paid. Whoever created it said then where to hear of it."""
    found = _find(invoice_id)
    if found.state == "paid":
        raise HTTPException(409, f"invoice {invoice_id} is paid")
    invoices[invoice_id] = found.model_copy(update={"state": "paid"})
    callbacks.notify(invoice_notification, PAID, key=invoice_id, owner=found.developer)
    return invoices[invoice_id]


@app.get("/invoices/{invoice_id}")
def read_invoice(invoice_id: str) -> InvoiceState:
    return _find(invoice_id)


def _find(invoice_id: str) -> InvoiceState:
    if invoice_id not in invoices:
        raise HTTPException(404, f"there is no invoice {invoice_id}")
    return invoices[invoice_id]

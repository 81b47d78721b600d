"""The API: external developers create invoices, and are told when one is paid.

It documents its callback as any FastAPI application may; the one line that makes it happen is ``add_middleware``.
"""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.INFO, format="   · %(name)s: %(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)

DIRECT_DEBIT_LIMIT = 10_000


class Invoice(BaseModel):
    id: str
    title: str | None = None
    customer: str
    total: float


class InvoiceState(BaseModel):
    invoice: Invoice
    state: Literal["open", "paid"]


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


class InvoiceEventReceived(BaseModel):
    ok: bool


class Received(BaseModel):
    msg: str


created = APIRouter()
paid = APIRouter()


@created.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
def invoice_notification(body: InvoiceEvent) -> None:
    """Sent when the customer has paid."""


@paid.post("{$callback_url}/invoices/{$request.path.invoice_id}", response_model=InvoiceEventReceived)
def payment_notification(body: InvoiceEvent) -> None:
    """Sent when the customer has paid an invoice that was open."""


app = FastAPI(title="Invoices")
# The developer's service of this demo is on this very machine, which the default policy rightly refuses.
app.add_middleware(CallbackMiddleware, egress=EgressPolicy.development())

invoices: dict[str, InvoiceState] = {}


@app.post("/invoices/", callbacks=created.routes)
def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> Received:
    """Create an invoice. Up to 10,000 it is collected at once, by direct debit; a larger one stays open."""
    collected = invoice.total <= DIRECT_DEBIT_LIMIT
    invoices[invoice.id] = InvoiceState(invoice=invoice, state="paid" if collected else "open")
    if collected:
        callbacks.send(invoice_notification, InvoiceEvent(description="Payment celebration", paid=True))
    return Received(msg="Invoice received")


@app.post("/invoices/{invoice_id}/payment", callbacks=paid.routes)
def pay_invoice(invoice_id: str, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> InvoiceState:
    """Pay an open invoice."""
    found = _find(invoice_id)
    if found.state == "paid":
        raise HTTPException(409, f"invoice {invoice_id} is paid")
    invoices[invoice_id] = found.model_copy(update={"state": "paid"})
    callbacks.send(payment_notification, InvoiceEvent(description="Payment celebration", paid=True))
    return invoices[invoice_id]


@app.get("/invoices/{invoice_id}")
def read_invoice(invoice_id: str) -> InvoiceState:
    return _find(invoice_id)


def _find(invoice_id: str) -> InvoiceState:
    if invoice_id not in invoices:
        raise HTTPException(404, f"there is no invoice {invoice_id}")
    return invoices[invoice_id]

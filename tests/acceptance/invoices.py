"""The invoice service of FastAPI's documentation: ``app`` with the middleware, ``bare`` without it."""

from __future__ import annotations

import logging

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, deliver
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class Invoice(BaseModel):
    id: str
    title: str | None = None
    customer: str
    total: float


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


class InvoiceEventReceived(BaseModel):
    ok: bool


PAID = InvoiceEvent(description="Payment celebration", paid=True)

documented = APIRouter()
braced = APIRouter()
standard = APIRouter()
declared = APIRouter()
hasty = APIRouter()


@documented.post(
    "${callback_url}/invoices/${request.body.id}",  # noqa: FAST003 - an expression, and no path parameter
    response_model=InvoiceEventReceived,
)
def invoice_notification(body: InvoiceEvent) -> None: ...


@braced.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
def braced_notification(body: InvoiceEvent) -> None: ...


@standard.post(
    "{$request.query.callback_url}/invoices/{$request.body#/id}",
    response_model=InvoiceEventReceived,
)
def standard_notification(body: InvoiceEvent) -> None: ...


@declared.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
@deliver(payload=PAID.model_dump())
def declared_notification(body: InvoiceEvent) -> None: ...


@hasty.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
@deliver(payload=PAID.model_dump(), deadline=0.5)
def hasty_notification(body: InvoiceEvent) -> None: ...


app = FastAPI()
app.add_middleware(
    CallbackMiddleware,
    egress=EgressPolicy.development(),
    # As often as a test needs, and without a wait that a person would notice.
    retry=RetryPolicy.fixed(0.1, max_attempts=1000),
)


@app.post("/invoices/", callbacks=documented.routes)
def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> dict[str, str]:
    callbacks.send(invoice_notification, PAID)
    return answer(invoice)


@app.post("/braced/", callbacks=braced.routes)
async def create_braced(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> dict[str, str]:
    callbacks.send(braced_notification, PAID)
    return answer(invoice)


@app.post("/standard/", callbacks=standard.routes)
def create_standard(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> dict[str, str]:
    callbacks.send(standard_notification, PAID)
    return answer(invoice)


@app.post("/declared/", callbacks=declared.routes)
@app.post("/hasty/", callbacks=hasty.routes)
def create_declared(invoice: Invoice, callback_url: HttpUrl | None = None) -> dict[str, str]:
    """Nothing in here knows of the middleware."""
    return answer(invoice)


bare = FastAPI()


@bare.post("/invoices/", callbacks=documented.routes)
@bare.post("/braced/", callbacks=braced.routes)
@bare.post("/standard/", callbacks=standard.routes)
@bare.post("/declared/", callbacks=declared.routes)
@bare.post("/hasty/", callbacks=hasty.routes)
def create_bare(invoice: Invoice, callback_url: HttpUrl | None = None) -> dict[str, str]:
    return answer(invoice)


def answer(invoice: Invoice) -> dict[str, str]:
    if invoice.total < 0:
        raise HTTPException(402, "an invoice is no gift")
    return {"msg": "Invoice received"}

"""The documentation's own example, in three spellings, and on a router that gets its callbacks when it is included."""

import logging
from contextlib import asynccontextmanager

from document import statement
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, HttpUrl

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.INFO)


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

documented, braced, standard, included, statements = (APIRouter() for _ in range(5))


@documented.post("${callback_url}/invoices/${request.body.id}", response_model=InvoiceEventReceived)
def invoice_notification(body: InvoiceEvent): ...


@braced.post("{$callback_url}/invoices/{$request.body.id}", response_model=InvoiceEventReceived)
def braced_notification(body: InvoiceEvent): ...


@standard.post("{$request.query.callback_url}/invoices/{$request.body#/id}", response_model=InvoiceEventReceived)
def standard_notification(body: InvoiceEvent): ...


@included.post("{$callback_url}/invoices/{$request.body#/id}", response_model=InvoiceEventReceived)
def included_notification(body: InvoiceEvent): ...


@statements.post("{$callback_url}/statements/{$request.body#/id}", response_model=InvoiceEventReceived)
def statement_notification(body: InvoiceEvent): ...


@asynccontextmanager
async def lifespan(app):
    yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(CallbackMiddleware, egress=EgressPolicy.development())


@app.post("/invoices/", callbacks=documented.routes)
def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None):
    callbacks.send(invoice_notification, PAID)
    return answer(invoice)


@app.post("/braced/", callbacks=braced.routes)
async def create_braced(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None):
    callbacks.send(braced_notification, PAID)
    return answer(invoice)


@app.post("/standard/", callbacks=standard.routes)
def create_standard(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None):
    callbacks.send(standard_notification, PAID)
    return answer(invoice)


router = APIRouter()


@router.post("/included/")
def create_included(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None):
    callbacks.send(included_notification, PAID)
    return answer(invoice)


app.include_router(router, prefix="/v1", callbacks=included.routes)


@app.post("/statements/", callbacks=statements.routes)
def create_statement(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None):
    callbacks.send(statement_notification, PAID)
    answer(invoice)
    return StreamingResponse(statement(invoice.model_dump()), media_type="text/plain")


def answer(invoice):
    if invoice.total < 0:
        raise HTTPException(402, "an invoice is no gift")
    return {"msg": "Invoice received"}

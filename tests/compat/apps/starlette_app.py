import logging
from contextlib import asynccontextmanager

from document import EVENT, statement
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.starlette import callback, callbacks_of

logging.basicConfig(level=logging.INFO)


@callback("invoiceEvent", "POST", "{$request.query.callback_url}/invoices/{$request.body#/id}", payload=EVENT)
async def create_invoice(request):
    invoice = await request.json()
    if invoice["total"] < 0:
        raise HTTPException(402, "an invoice is no gift")
    return JSONResponse({"msg": "Invoice received"})


@callback("statementEvent", "POST", "{$request.query.callback_url}/statements/{$request.body#/id}", body={})
async def create_statement(request):
    callbacks_of(request).send("statementEvent", EVENT)
    invoice = await request.json()
    if invoice["total"] < 0:
        raise HTTPException(402, "an invoice is no gift")
    return StreamingResponse(statement(invoice), media_type="text/plain")


@asynccontextmanager
async def lifespan(app):
    yield


app = Starlette(
    routes=[
        Route("/invoices/", create_invoice, methods=["POST"]),
        Route("/statements/", create_statement, methods=["POST"]),
    ],
    middleware=[Middleware(CallbackMiddleware, egress=EgressPolicy.development())],
    lifespan=lifespan,
)

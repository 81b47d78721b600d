import logging
from typing import Any

from document import DOCUMENT, EVENT, statement
from litestar import Litestar, Request, post
from litestar.exceptions import HTTPException
from litestar.response import Stream

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.staging import callbacks_of

logging.basicConfig(level=logging.INFO)


@post("/invoices/", status_code=200)
async def create_invoice(data: dict[str, Any]) -> dict[str, str]:
    check(data)
    return {"msg": "Invoice received"}


@post("/statements/", status_code=200)
async def create_statement(request: Request, data: dict[str, Any]) -> Stream:
    callbacks_of(request.scope).send("statementEvent", EVENT)
    check(data)
    return Stream(statement(data))


def check(invoice):
    if invoice["total"] < 0:
        raise HTTPException(status_code=402, detail="an invoice is no gift")


# Litestar's own logging writes in a thread, and loses what is logged last.
service = Litestar([create_invoice, create_statement], logging_config=None)

app = CallbackMiddleware(service, openapi=DOCUMENT, egress=EgressPolicy.development())

import logging

from document import DOCUMENT, EVENT, statement
from quart import Quart, Response, abort, request

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.staging import callbacks_of

logging.basicConfig(level=logging.INFO)

app = Quart(__name__)
app.asgi_app = CallbackMiddleware(app.asgi_app, openapi=DOCUMENT, egress=EgressPolicy.development())


@app.post("/invoices/")
async def create_invoice():
    check(await request.get_json())
    return {"msg": "Invoice received"}


@app.post("/statements/")
async def create_statement():
    callbacks_of(request.scope).send("statementEvent", EVENT)
    invoice = await request.get_json()
    check(invoice)

    async def lines():
        for line in statement(invoice):
            yield line

    return Response(lines(), mimetype="text/plain")


def check(invoice):
    if invoice["total"] < 0:
        abort(Response("an invoice is no gift", 402))

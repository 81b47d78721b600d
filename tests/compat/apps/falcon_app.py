import logging

import falcon.asgi
from document import DOCUMENT, EVENT, statement

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.staging import callbacks_of

logging.basicConfig(level=logging.INFO)


class Invoices:
    async def on_post(self, request, response):
        check(await request.get_media())
        response.media = {"msg": "Invoice received"}


class Statements:
    async def on_post(self, request, response):
        callbacks_of(request.scope).send("statementEvent", EVENT)
        invoice = await request.get_media()
        check(invoice)
        response.content_type = falcon.MEDIA_TEXT
        response.stream = lines(invoice)


async def lines(invoice):
    for line in statement(invoice):
        yield line.encode()


def check(invoice):
    if invoice["total"] < 0:
        raise falcon.HTTPError(falcon.HTTP_402, title="an invoice is no gift")


service = falcon.asgi.App()
service.add_route("/invoices/", Invoices())
service.add_route("/statements/", Statements())

app = CallbackMiddleware(service, openapi=DOCUMENT, egress=EgressPolicy.development())

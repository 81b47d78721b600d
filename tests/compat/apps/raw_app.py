"""No framework at all. It serves no lifespan either."""

import json
import logging

from document import DOCUMENT, EVENT, statement

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.staging import callbacks_of

logging.basicConfig(level=logging.INFO)


async def invoices(scope, receive, send):
    assert scope["type"] == "http"
    invoice = json.loads(await whole_body(receive))
    if scope["path"] == "/statements/":
        callbacks_of(scope).send("statementEvent", EVENT)
    if invoice["total"] < 0:
        await answer(send, 402, b"an invoice is no gift")
    elif scope["path"] == "/statements/":
        await start(send, 200)
        for line in statement(invoice):
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await answer(send, 200, b'{"msg": "Invoice received"}')


async def whole_body(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send, status, content):
    await start(send, status, (b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.body", "body": content})


async def start(send, status, *headers):
    await send({"type": "http.response.start", "status": status, "headers": headers})


app = CallbackMiddleware(invoices, openapi=DOCUMENT, egress=EgressPolicy.development())

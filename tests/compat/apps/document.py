"""The OpenAPI document of the invoice service, for frameworks that know no callbacks of their own."""

EVENT = {"description": "Payment celebration", "paid": True}

_EVENT_SCHEMA = {
    "type": "object",
    "required": ["description", "paid"],
    "properties": {"description": {"type": "string"}, "paid": {"type": "boolean"}},
}


def _operation(callback, expression, **extension):
    notification = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": _EVENT_SCHEMA}}},
        "responses": {"200": {"description": "Received"}},
        **extension,
    }
    return {
        "post": {
            "parameters": [{"name": "callback_url", "in": "query", "schema": {"type": "string", "format": "uri"}}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {"200": {"description": "Successful Response"}},
            "callbacks": {callback: {expression: {"post": notification}}},
        }
    }


DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Invoices", "version": "1"},
    "paths": {
        # Sent by itself.
        "/invoices/": _operation(
            "invoiceEvent",
            "{$request.query.callback_url}/invoices/{$request.body#/id}",
            **{"x-callback": {"payload": EVENT}},
        ),
        # Sent by its handler.
        "/statements/": _operation("statementEvent", "{$request.query.callback_url}/statements/{$request.body#/id}"),
    },
}


def statement(invoice):
    """What a statement is streamed as, piece by piece."""
    yield f"invoice {invoice['id']}\n"
    yield f"total {invoice['total']}\n"
    yield "paid\n"

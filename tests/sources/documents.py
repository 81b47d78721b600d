"""Documents as the tests of the sources need them."""

from __future__ import annotations

from typing import Any

import pytest
from invoicing import only_callback

from callback_middleware.errors import InvalidConfiguration
from callback_middleware.sources.discovery import discover

JSON = "application/json"
EVENT = {
    "type": "object",
    "required": ["paid"],
    "properties": {"paid": {"type": "boolean"}, "total": {"type": "number"}},
}


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An application of which nothing is known."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def callback_operation(schema: Any = None, *, media_type: str = JSON, **more: Any) -> dict[str, Any]:
    """A callback's operation, with a required body if it has a schema."""
    body = {} if schema is None else {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
    return {**body, "responses": {"200": {"description": "ok"}}, **more}


def documented(operation: Any, *, version: str = "3.1.0", expression: str = "{$request.query.url}", **more: Any) -> Any:
    """A document with ``POST /invoices``, which has one callback with this operation."""
    post = {
        "parameters": [{"in": "query", "name": "url", "schema": {"type": "string"}}],
        "callbacks": {"event": {expression: {"post": operation}}},
        "responses": {"200": {"description": "ok"}},
    }
    return {"openapi": version, "paths": {"/invoices": {"post": post}}, **more}


def body_of(schema: Any, *, version: str = "3.1.0", components: Any = None, media_type: str = JSON) -> Any:
    document = documented(
        callback_operation(schema, media_type=media_type), version=version, components={"schemas": components or {}}
    )
    return only_callback(discover(raw, document)).body


def errors_of(document: Any) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        discover(raw, document)
    return str(caught.value)

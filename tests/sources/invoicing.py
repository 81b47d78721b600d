"""An application about invoices, as the tests of the sources need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from callback_middleware.operations import Body, Callback, Operation
from callback_middleware.sources.discovery import Directory, discover


class Invoice(BaseModel):
    id: str


class Event(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    description: str = Field(alias="desc")
    total: float | None = None


class Filters(BaseModel):
    page_size: int = Field(10, alias="pageSize")


class Meta(BaseModel):
    trace_id: str = ""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class AuditedEvent(Event):
    auditor: str = "secret"


def notifies(name: str, expression: str = "{$callback_url}/events") -> APIRouter:
    """A callback router with one callback that takes no body."""
    router = APIRouter()

    def function() -> None: ...

    function.__name__ = name
    router.post(expression)(function)
    return router


def only(directory: Directory) -> Operation:
    (operation,) = directory.operations
    return operation


def only_callback(directory: Directory) -> Callback:
    (found,) = only(directory).callbacks
    return found


def app_with_callback(
    function: Callable[..., Any], expression: str = "{$callback_url}/events", **route: Any
) -> FastAPI:
    """One operation, one callback."""
    router = APIRouter()
    router.post(expression, **route)(function)
    app = FastAPI()

    @app.post("/invoices/", callbacks=router.routes)
    def create(invoice: Invoice, callback_url: str | None = None) -> None: ...

    return app


def declared_body(annotation: Any) -> Body:
    """The body of a callback whose function has a parameter of this type."""

    def notify(body: Any) -> None: ...

    notify.__annotations__["body"] = annotation
    body = only_callback(discover(app_with_callback(notify), None)).body
    assert body is not None
    return body

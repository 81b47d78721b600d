"""The applications that are measured: the seed's invoice route, bare and with every way to call back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from fastapi import APIRouter, BackgroundTasks, FastAPI
from pydantic import BaseModel, HttpUrl

from benchmarks.deliveries import ROOMY
from callback_middleware import CallbackMiddleware, EgressPolicy, deliver
from callback_middleware.fastapi import Callbacks
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.senders.aiohttp import AiohttpSender

RECEIVED = {"msg": "Invoice received"}
EVENT = {"description": "Payment celebration", "paid": True}
WAIT_SECONDS = 0.001


class Invoice(BaseModel):
    id: str
    title: str | None = None
    customer: str
    total: float


class InvoiceEvent(BaseModel):
    description: str
    paid: bool


router = APIRouter()


@router.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: InvoiceEvent) -> None: ...


declaring = APIRouter()


@declaring.post("{$callback_url}/invoices/{$request.body.id}")
@deliver(payload=EVENT)
def declared_notification(body: InvoiceEvent) -> None: ...


def bare() -> FastAPI:
    """No callback at all: what every way to call back is measured against."""
    app = FastAPI()

    @app.post("/invoices/")
    async def create_invoice(invoice: Invoice, callback_url: HttpUrl | None = None) -> dict[str, str]:
        return RECEIVED

    return app


def waiting() -> FastAPI:
    """No callback either, but a handler that waits for something, as one that asks a database does."""
    app = FastAPI()

    @app.post("/invoices/")
    async def create_invoice(invoice: Invoice, callback_url: HttpUrl | None = None) -> dict[str, str]:
        await asyncio.sleep(WAIT_SECONDS)
        return RECEIVED

    return app


def mounted() -> FastAPI:
    """The middleware is mounted, and the measured route documents no callback."""
    app = bare()
    app.add_middleware(CallbackMiddleware, egress=EgressPolicy.development())

    @app.post("/other/", callbacks=router.routes)
    async def other(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
        return RECEIVED

    return app


def default_sender() -> FastAPI:
    return _with_middleware()


def aiohttp_sender() -> FastAPI:
    return _with_middleware(sender=AiohttpSender())


def durable(path: Path) -> FastAPI:
    """What is sent is on disk before the response is complete; another process delivers it."""
    return _with_middleware(outbox=SQLiteOutbox(path, backlog=ROOMY), dispatch=False)


def durable_declared(path: Path) -> FastAPI:
    """The same without a line in the handler: its callback declares what it carries."""
    app = FastAPI()
    outbox = SQLiteOutbox(path, backlog=ROOMY)
    app.add_middleware(CallbackMiddleware, egress=EgressPolicy.development(), outbox=outbox, dispatch=False)

    @app.post("/invoices/", callbacks=declaring.routes)
    async def create_invoice(invoice: Invoice, callback_url: HttpUrl) -> dict[str, str]:
        return RECEIVED

    return app


def durable_postgres(url: str = "postgresql://127.0.0.1/") -> FastAPI:
    """What is sent is in a database before the response is complete; workers deliver it, wherever they are told to."""
    return _with_middleware(outbox=PostgresOutbox(url, backlog=ROOMY), dispatch=False)


def durable_default_sender(path: Path) -> FastAPI:
    """Stored, and delivered by the application itself."""
    return _with_middleware(outbox=SQLiteOutbox(path))


def durable_aiohttp_sender(path: Path) -> FastAPI:
    """Stored, and delivered by the application itself, with the other sender."""
    return _with_middleware(outbox=SQLiteOutbox(path), sender=AiohttpSender())


def _with_middleware(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware, egress=EgressPolicy.development(), **options)

    @app.post("/invoices/", callbacks=router.routes)
    async def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
        callbacks.send(invoice_notification, InvoiceEvent(description="Payment celebration", paid=True))
        return RECEIVED

    return app


def background_new_httpx() -> FastAPI:
    """``BackgroundTasks`` with an httpx client of its own for every call, as most tutorials have it."""

    async def notify(url: str) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(url, json=EVENT)

    return _with_background_tasks(lambda _: notify)


def background_shared_httpx() -> FastAPI:
    """``BackgroundTasks`` with one httpx client for the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient() as app.state.client:
            yield

    async def notify(app: FastAPI, url: str) -> None:
        await app.state.client.post(url, json=EVENT)

    return _with_background_tasks(lambda app: partial(notify, app), lifespan)


def background_shared_aiohttp() -> FastAPI:
    """``BackgroundTasks`` with one aiohttp session for the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as app.state.client:
            yield

    async def notify(app: FastAPI, url: str) -> None:
        async with app.state.client.post(url, json=EVENT) as response:
            await response.read()

    return _with_background_tasks(lambda app: partial(notify, app), lifespan)


def _with_background_tasks(notifier: Callable[[FastAPI], Callable[[str], Any]], lifespan: Any = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    notify = notifier(app)

    @app.post("/invoices/")
    async def create_invoice(invoice: Invoice, tasks: BackgroundTasks, callback_url: HttpUrl) -> dict[str, str]:
        tasks.add_task(notify, f"{callback_url}/invoices/{invoice.id}")
        return RECEIVED

    return app

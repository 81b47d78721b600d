"""The invoice service that is killed: every shape of a response, and one callback that tells which request it is of."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import anyio.lowlevel
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, HttpUrl
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, deliver
from callback_middleware.asgi import ASGIApp, Receive, Scope, Send
from callback_middleware.fastapi import Callbacks
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.senders.httpx import HttpxSender
from crashing.doom import Doom
from crashing.journal import Journal
from crashing.mortality import AnswersFirst, LateOutbox, MortalApplication, MortalOutbox, MortalSender
from crashing.settings import Settings
from crashing.stores import outbox_at

DEADLINE: Final = timedelta(seconds=1)
"""An attempt's: well within its lease."""

AGE: Final = timedelta(hours=1)
"""A delivery's: longer than a round, and shorter than a clock is off."""

RECEIVERS: Final = ReceiverLimits(start=8, failures=None)
"""As many at once from the first moment; and who is kept from answering is not left alone for half a minute."""

EGRESS: Final = EgressPolicy.development()

# Nothing is heard of a service that works.
logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(name)s: %(message)s")


class Invoice(BaseModel):
    id: str


class InvoiceEvent(BaseModel):
    invoice: str


router = APIRouter()


@router.post("{$request.query.callback_url}/invoices/{$request.body#/id}")
@deliver(deadline=DEADLINE)
def invoice_notification(body: InvoiceEvent) -> None: ...


service = FastAPI()


@service.post("/single", callbacks=router.routes)
@service.post("/wrapped", callbacks=router.routes)
async def single(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    _send(callbacks, invoice)
    return {"msg": "Invoice received"}


@service.post("/chunked", callbacks=router.routes)
async def chunked(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> StreamingResponse:
    _send(callbacks, invoice)
    return StreamingResponse(_lines(invoice.id))


@service.post("/sized", callbacks=router.routes)
async def sized(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> StreamingResponse:
    _send(callbacks, invoice)
    length = 3 * len(invoice.id)
    return StreamingResponse(_lines(invoice.id), headers={"content-length": str(length)})


def _send(callbacks: Callbacks, invoice: Invoice) -> None:
    callbacks.send(invoice_notification, InvoiceEvent(invoice=invoice.id), delay=settings.delay)


async def _lines(line: str) -> AsyncIterator[str]:
    for _ in range(3):
        yield line
        await anyio.lowlevel.checkpoint()


class _WrapsOne:
    """Starlette's ``BaseHTTPMiddleware`` around one path, whose responses it makes into streams."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._wrapped = BaseHTTPMiddleware(app, _pass_on)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wraps = scope["type"] == "http" and scope["path"] == "/wrapped"
        await (self._wrapped if wraps else self.app)(scope, receive, send)


async def _pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


settings = Settings.from_environment()
journal = Journal(Path(settings.journal))
doom = Doom(settings, journal)
doom.trace_statements()

sender = MortalSender(HttpxSender(), doom, journal)
outbox = (LateOutbox if settings.answers_first else MortalOutbox)(
    outbox_at(settings.outbox), doom, journal, path=settings.outbox
)
service.add_middleware(_WrapsOne)
service.add_middleware(
    CallbackMiddleware,
    outbox=outbox,
    sender=sender,
    egress=EGRESS,
    retry=RetryPolicy.fixed(0.1, max_attempts=1000, max_age=AGE),
    dispatch=settings.dispatch,
    receivers=RECEIVERS,
)
application: ASGIApp = MortalApplication(service, doom)
if isinstance(outbox, LateOutbox):
    application = AnswersFirst(application, outbox)

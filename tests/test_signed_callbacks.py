"""The whole way: a handler, a middleware with a signer, its dispatcher, a socket, and a receiver that verifies."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, HttpUrl

from callback_middleware import (
    CallbackMiddleware,
    EgressPolicy,
    MemoryOutbox,
    RetryPolicy,
    StandardWebhooksSigner,
)
from callback_middleware.fastapi import Callbacks
from callback_middleware.receiver import verify
from callback_middleware.testing import VirtualClock
from receivers import receiving

MASTER, NEXT = b64encode(b"m" * 32).decode(), b64encode(b"n" * 32).decode()

invoice_callbacks = APIRouter()


class InvoiceEvent(BaseModel):
    paid: bool


@invoice_callbacks.post("{$callback_url}/invoices/{$request.query.id}")
def invoice_notification(body: InvoiceEvent) -> None: ...


app = FastAPI()


@app.post("/invoices/", callbacks=invoice_callbacks.routes)
def create_invoice(id: str, callbacks: Callbacks, callback_url: HttpUrl | None = None) -> None:  # noqa: A002 - its query's name
    callbacks.send(invoice_notification, InvoiceEvent(paid=True))


async def test_every_attempt_is_signed_with_its_own_time_and_the_secret_of_the_moment() -> None:
    clock = VirtualClock()
    outbox = MemoryOutbox(clock=clock)

    def deployed(signer: StandardWebhooksSigner) -> CallbackMiddleware:
        parts: Any = {"egress": EgressPolicy.development(), "retry": RetryPolicy.fixed(60, 60), "dispatch": False}
        return CallbackMiddleware(app, outbox=outbox, clock=clock, signer=signer, **parts)

    before = deployed(StandardWebhooksSigner(master=MASTER))
    rotated = StandardWebhooksSigner(master=[NEXT, MASTER])
    with receiving(500, 500, 200) as receiver:
        old = StandardWebhooksSigner(master=MASTER).secret_of(url=receiver.url)
        new = rotated.secret_of(url=receiver.url)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(before), base_url="http://api.example") as client:
            query = {"id": "7", "callback_url": receiver.url}
            assert (await client.post("/invoices/", params=query)).status_code == 200

        # Two attempts, and a third after a deploy that has brought another master.
        for middleware, secrets in ((before, [old]), (before, [old]), (deployed(rotated), [old, new])):
            assert await middleware.dispatcher().deliver_due() == 1
            heard = receiver.heard[-1]
            for secret in secrets:
                # The raw bytes, and the headers as they came: this is all that a receiver does.
                made = verify(heard.headers, heard.body, secret, now=clock.now()).timestamp
                assert made == clock.now()
            clock.advance(timedelta(seconds=100))

        first, second, third = receiver.heard
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == third.headers["webhook-id"]
    stamps = [int(heard.headers["webhook-timestamp"]) for heard in (first, second, third)]
    assert stamps == [stamps[0], stamps[0] + 100, stamps[0] + 200]
    assert first.body == second.body == third.body == b'{"paid":true}'
    await before.aclose()

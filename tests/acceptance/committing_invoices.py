"""An invoice service that keeps its invoices in the outbox' own file, and may die around their commit.

``OUTBOX`` names the file; an invoice's id says at which moment the process kills itself: ``before`` its commit, or
``after``.
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel, HttpUrl
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy, SQLiteOutbox
from callback_middleware.fastapi import Callbacks

logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")

FILE = os.environ["OUTBOX"]


class Invoice(BaseModel):
    id: str


notifications = APIRouter()


@notifications.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: Invoice) -> None: ...


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """A connection whose transaction is committed at the end, or rolled back."""
    with closing(sqlite3.connect(FILE)) as connection, connection:
        yield connection


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The middleware has opened the outbox by now: the file is there.
    with transaction() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS invoice (id TEXT PRIMARY KEY)")
    yield
    engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    CallbackMiddleware,
    outbox=SQLiteOutbox(FILE, backlog=None),
    egress=EgressPolicy.development(),
    retry=RetryPolicy.fixed(0.1, max_age=timedelta(minutes=5), max_attempts=1000),
)


def die(invoice: Invoice, moment: str) -> None:
    if invoice.id == moment:
        os.kill(os.getpid(), signal.SIGKILL)


def store(connection: sqlite3.Connection, invoice: Invoice, callbacks: Callbacks) -> None:
    connection.execute("INSERT INTO invoice VALUES (?)", (invoice.id,))
    callbacks.send(invoice_notification, invoice)


@app.post("/threaded/", callbacks=notifications.routes)
def create_in_a_thread(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    with transaction() as connection:
        store(connection, invoice, callbacks)
        callbacks.commit_with_sync(connection)
        die(invoice, "before")
    die(invoice, "after")
    if invoice.id == "raises":
        raise RuntimeError("after the commit")
    return {"id": invoice.id}


@app.post("/async/", callbacks=notifications.routes)
async def create_on_the_loop(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    with transaction() as connection:
        store(connection, invoice, callbacks)
        await callbacks.commit_with(connection)
        die(invoice, "before")
        if invoice.id == "refused":
            raise HTTPException(409)
    die(invoice, "after")
    return {"id": invoice.id}


async def late() -> AsyncIterator[sqlite3.Connection]:
    with transaction() as connection:
        yield connection


@app.post("/late/", callbacks=notifications.routes)
async def create_and_commit_late(
    invoice: Invoice,
    callbacks: Callbacks,
    callback_url: HttpUrl,
    connection: Annotated[sqlite3.Connection, Depends(late)],
) -> dict[str, str]:
    store(connection, invoice, callbacks)
    await callbacks.commit_with(connection)
    return {"id": invoice.id}


@app.post("/in-time/", callbacks=notifications.routes)
async def create_and_commit_in_time(
    invoice: Invoice,
    callbacks: Callbacks,
    callback_url: HttpUrl,
    connection: Annotated[sqlite3.Connection, Depends(late, scope="function")],
) -> dict[str, str]:
    store(connection, invoice, callbacks)
    await callbacks.commit_with(connection)
    return {"id": invoice.id}


engine = create_engine(f"sqlite:///{FILE}")


@event.listens_for(engine, "connect")
def survive_power_cuts(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")


@app.post("/sqlalchemy/", callbacks=notifications.routes)
def create_with_sqlalchemy(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> dict[str, str]:
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO invoice VALUES (:id)"), {"id": invoice.id})
        callbacks.send(invoice_notification, invoice)
        callbacks.commit_with_sync(session)
        die(invoice, "before")
    die(invoice, "after")
    return {"id": invoice.id}

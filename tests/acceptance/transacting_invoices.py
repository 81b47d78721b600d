"""An invoice service in whose database its outbox is, with a handler for every driver. It may die around a commit.

``DATABASE`` names the database; with ``DISPATCH=no`` it leaves sending to a worker. An invoice's id says when the
process kills itself: one that begins with ``before`` ahead of its commit, or with ``after`` behind it.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import asyncpg
import psycopg
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, HttpUrl
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from callback_middleware import CallbackMiddleware, EgressPolicy, RetryPolicy
from callback_middleware.fastapi import Callbacks
from callback_middleware.outbox.postgres import PostgresOutbox

logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")

DATABASE = os.environ["DATABASE"]
ADDRESS = DATABASE.partition("://")[2]

engine = create_engine(f"postgresql+psycopg://{ADDRESS}")
async_engine = create_async_engine(f"postgresql+asyncpg://{ADDRESS}")
psycopg_engine = create_async_engine(f"postgresql+psycopg://{ADDRESS}")

INSERT = text("INSERT INTO public.invoice VALUES (:id)")


class Invoice(BaseModel):
    id: str


notifications = APIRouter()


@notifications.post("{$callback_url}/invoices/{$request.body.id}")
def invoice_notification(body: Invoice) -> None: ...


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    for one in (async_engine, psycopg_engine):
        await one.dispose()
    engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    CallbackMiddleware,
    outbox=PostgresOutbox(DATABASE, backlog=None),
    egress=EgressPolicy.development(),
    retry=RetryPolicy.fixed(0.1, max_age=timedelta(minutes=5), max_attempts=1000),
    dispatch=os.environ.get("DISPATCH") != "no",
)


def die(invoice: Invoice, moment: str) -> None:
    if invoice.id.startswith(moment):
        os.kill(os.getpid(), signal.SIGKILL)


# The drivers themselves


@app.post("/asyncpg/", callbacks=notifications.routes)
async def create_with_asyncpg(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    connection = await asyncpg.connect(DATABASE)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO public.invoice VALUES ($1)", invoice.id)
            callbacks.send(invoice_notification, invoice)
            await callbacks.commit_with(connection)
            die(invoice, "before")
        die(invoice, "after")
    finally:
        await connection.close()
    return invoice


@app.post("/asyncpg-pool/", callbacks=notifications.routes)
async def create_with_a_pool(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    async with asyncpg.create_pool(DATABASE, min_size=1) as pool, pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("INSERT INTO public.invoice VALUES ($1)", invoice.id)
            callbacks.send(invoice_notification, invoice)
            await callbacks.commit_with(connection)
            die(invoice, "before")
        die(invoice, "after")
    return invoice


@app.post("/psycopg-async/", callbacks=notifications.routes)
async def create_with_psycopg(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    async with await psycopg.AsyncConnection.connect(DATABASE) as connection:
        await connection.execute("INSERT INTO public.invoice VALUES (%s)", [invoice.id])
        callbacks.send(invoice_notification, invoice)
        await callbacks.commit_with(connection)
        die(invoice, "before")
    die(invoice, "after")
    return invoice


@app.post("/psycopg/", callbacks=notifications.routes)
def create_in_a_thread(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    with psycopg.connect(DATABASE) as connection:
        connection.execute("INSERT INTO public.invoice VALUES (%s)", [invoice.id])
        callbacks.send(invoice_notification, invoice)
        callbacks.commit_with_sync(connection)
        die(invoice, "before")
    die(invoice, "after")
    return invoice


# SQLAlchemy


async def store(connection: AsyncSession | AsyncConnection, invoice: Invoice, callbacks: Callbacks) -> None:
    await connection.execute(INSERT, {"id": invoice.id})
    callbacks.send(invoice_notification, invoice)
    await callbacks.commit_with(connection)


def store_sync(connection: Session | Connection, invoice: Invoice, callbacks: Callbacks) -> None:
    connection.execute(INSERT, {"id": invoice.id})
    callbacks.send(invoice_notification, invoice)
    callbacks.commit_with_sync(connection)


@app.post("/async-session/", callbacks=notifications.routes)
async def create_with_a_session(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    async with AsyncSession(async_engine) as session:
        await store(session, invoice, callbacks)
        die(invoice, "before")
        await session.commit()
        die(invoice, "after")
    return invoice


@app.post("/async-session-psycopg/", callbacks=notifications.routes)
async def create_with_psycopgs_session(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    async with AsyncSession(psycopg_engine) as session:
        await store(session, invoice, callbacks)
        die(invoice, "before")
        await session.commit()
        die(invoice, "after")
    return invoice


@app.post("/async-connection/", callbacks=notifications.routes)
async def create_with_a_connection(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    async with async_engine.begin() as connection:
        await store(connection, invoice, callbacks)
        die(invoice, "before")
    die(invoice, "after")
    return invoice


@app.post("/session/", callbacks=notifications.routes)
def create_with_a_session_in_a_thread(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    with Session(engine) as session:
        store_sync(session, invoice, callbacks)
        die(invoice, "before")
        session.commit()
        die(invoice, "after")
    return invoice


@app.post("/connection/", callbacks=notifications.routes)
def create_with_a_connection_in_a_thread(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl) -> Invoice:
    with engine.begin() as connection:
        store_sync(connection, invoice, callbacks)
        die(invoice, "before")
    die(invoice, "after")
    return invoice


# Dependencies


async def async_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(async_engine) as session, session.begin():
        yield session


def session() -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


@app.post("/late/", callbacks=notifications.routes)
async def create_and_commit_late(
    invoice: Invoice,
    callbacks: Callbacks,
    callback_url: HttpUrl,
    session: Annotated[AsyncSession, Depends(async_session)],
) -> Invoice:
    await store(session, invoice, callbacks)
    return invoice


@app.post("/late-in-a-thread/", callbacks=notifications.routes)
def create_in_a_thread_and_commit_late(
    invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl, session: Annotated[Session, Depends(session)]
) -> Invoice:
    store_sync(session, invoice, callbacks)
    return invoice


@app.post("/in-time/", callbacks=notifications.routes)
async def create_and_commit_in_time(
    invoice: Invoice,
    callbacks: Callbacks,
    callback_url: HttpUrl,
    session: Annotated[AsyncSession, Depends(async_session, scope="function")],
) -> Invoice:
    await store(session, invoice, callbacks)
    return invoice


@app.post("/in-time-in-a-thread/", callbacks=notifications.routes)
def create_in_a_thread_and_commit_in_time(
    invoice: Invoice,
    callbacks: Callbacks,
    callback_url: HttpUrl,
    session: Annotated[Session, Depends(session, scope="function")],
) -> Invoice:
    store_sync(session, invoice, callbacks)
    return invoice

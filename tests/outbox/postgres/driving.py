"""Every driver whose transactions can be joined, in the words of one: what a handler does, whatever it does it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import anyio.to_thread
import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext import asyncio as sqlalchemy_async
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.ports import Batch, Joined


class Mine(NamedTuple):
    """A connection of the user's.

    Attributes:
        connection: What is given to the outbox.
        blocks: Whether it is a driver that blocks: everything is done in a thread then.
        run: A statement.
        begin: The transaction, where the driver begins none by itself.
    """

    connection: Any
    blocks: bool
    run: Callable[[str], Awaitable[Any]]
    begin: Callable[[], Awaitable[Any]]
    commit: Callable[[], Awaitable[Any]]
    rollback: Callable[[], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]

    async def put_in(self, outbox: PostgresOutbox, batch: Batch) -> Joined:
        if self.blocks:
            return await anyio.to_thread.run_sync(outbox.put_in_sync, self.connection, batch)
        return await outbox.put_in(self.connection, batch)


Opening = Callable[..., AbstractAsyncContextManager[Mine]]


@asynccontextmanager
async def asyncpg_connection(url: str, **options: Any) -> AsyncIterator[Mine]:
    connection = await asyncpg.connect(url, **options)
    try:
        yield _of_asyncpg(connection, connection.close)
    finally:
        await connection.close()


@asynccontextmanager
async def asyncpg_proxy(url: str, **options: Any) -> AsyncIterator[Mine]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1, **options) as pool:
        connection = await pool.acquire()
        try:
            yield _of_asyncpg(connection, partial(pool.release, connection))
        finally:
            await pool.release(connection)


@asynccontextmanager
async def psycopg_async(url: str, **options: Any) -> AsyncIterator[Mine]:
    connection = await psycopg.AsyncConnection.connect(url, **options)

    async def run(statement: str) -> None:
        await psycopg.AsyncCursor(connection).execute(statement.encode())

    try:
        yield Mine(connection, False, run, _nothing, connection.commit, connection.rollback, connection.close)
    finally:
        await connection.close()


@asynccontextmanager
async def psycopg_sync(url: str, **options: Any) -> AsyncIterator[Mine]:
    connection = await anyio.to_thread.run_sync(partial(psycopg.connect, url, **options))

    def run(statement: str) -> None:
        psycopg.Cursor(connection).execute(statement.encode())

    try:
        yield Mine(connection, True, _threaded(run), _nothing, *map(_threaded, _ends(connection)))
    finally:
        connection.close()


@asynccontextmanager
async def sqlalchemy_async_connection(url: str, driver: str, **options: Any) -> AsyncIterator[Mine]:
    async with _async_engine(url, driver, options) as engine, engine.connect() as connection:
        yield _of_sqlalchemy(connection)


@asynccontextmanager
async def sqlalchemy_async_session(url: str, driver: str, **options: Any) -> AsyncIterator[Mine]:
    async with _async_engine(url, driver, options) as engine, sqlalchemy_async.AsyncSession(engine) as session:
        yield _of_sqlalchemy(session)


@asynccontextmanager
async def sqlalchemy_connection(url: str, driver: str, **options: Any) -> AsyncIterator[Mine]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, driver), poolclass=NullPool, **options)
    connection = await anyio.to_thread.run_sync(engine.connect)
    try:
        yield _of_sqlalchemy_sync(connection)
    finally:
        await anyio.to_thread.run_sync(connection.close)


@asynccontextmanager
async def sqlalchemy_session(url: str, driver: str, **options: Any) -> AsyncIterator[Mine]:
    session = Session(sqlalchemy.create_engine(sqlalchemy_url(url, driver), poolclass=NullPool, **options))
    try:
        yield _of_sqlalchemy_sync(session)
    finally:
        await anyio.to_thread.run_sync(session.close)


ASYNC: Final[Mapping[str, Opening]] = {
    "asyncpg": asyncpg_connection,
    "asyncpg pool": asyncpg_proxy,
    "psycopg async": psycopg_async,
    "AsyncConnection, asyncpg": partial(sqlalchemy_async_connection, driver="asyncpg"),
    "AsyncConnection, psycopg": partial(sqlalchemy_async_connection, driver="psycopg"),
    "AsyncSession, asyncpg": partial(sqlalchemy_async_session, driver="asyncpg"),
    "AsyncSession, psycopg": partial(sqlalchemy_async_session, driver="psycopg"),
}

SYNC: Final[Mapping[str, Opening]] = {
    "psycopg": psycopg_sync,
    "Connection, psycopg": partial(sqlalchemy_connection, driver="psycopg"),
    "Connection, psycopg2": partial(sqlalchemy_connection, driver="psycopg2"),
    "Session, psycopg": partial(sqlalchemy_session, driver="psycopg"),
    "Session, psycopg2": partial(sqlalchemy_session, driver="psycopg2"),
}

DRIVERS: Final[Mapping[str, Opening]] = {**ASYNC, **SYNC}

AUTOCOMMIT: Final[Mapping[str, Mapping[str, Any]]] = {
    "asyncpg": {},
    "asyncpg pool": {},
    "psycopg async": {"autocommit": True},
    "psycopg": {"autocommit": True},
}
"""How a driver is asked to commit every statement by itself; SQLAlchemy by an isolation level."""


def autocommit(name: str) -> Mapping[str, Any]:
    return AUTOCOMMIT.get(name, {"isolation_level": "AUTOCOMMIT"})


def _of_asyncpg(connection: Any, close: Callable[[], Awaitable[Any]]) -> Mine:
    begin, commit, rollback = (partial(connection.execute, word) for word in ("BEGIN", "COMMIT", "ROLLBACK"))
    return Mine(connection, False, connection.execute, begin, commit, rollback, close)


def _of_sqlalchemy(connection: Any) -> Mine:
    async def run(statement: str) -> None:
        await connection.execute(sqlalchemy.text(statement))

    return Mine(connection, False, run, _nothing, *_ends(connection))


def _of_sqlalchemy_sync(connection: Any) -> Mine:
    def run(statement: str) -> None:
        connection.execute(sqlalchemy.text(statement))

    return Mine(connection, True, _threaded(run), _nothing, *map(_threaded, _ends(connection)))


def _ends(connection: Any) -> tuple[Any, Any, Any]:
    return connection.commit, connection.rollback, connection.close


def _threaded(work: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    return partial(anyio.to_thread.run_sync, work)


async def _nothing() -> None:
    pass


def sqlalchemy_url(url: str, driver: str) -> str:
    """A URL as SQLAlchemy takes it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}+{driver}://{rest}"


@asynccontextmanager
async def _async_engine(
    url: str, driver: str, options: Mapping[str, Any]
) -> AsyncIterator[sqlalchemy_async.AsyncEngine]:
    engine = sqlalchemy_async.create_async_engine(sqlalchemy_url(url, driver), poolclass=NullPool, **options)
    try:
        yield engine
    finally:
        await engine.dispose()

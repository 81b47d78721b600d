"""The proxy between a process and PostgreSQL: what it passes on, what it keeps, and what it loses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from fleet.proxy import Packet, Proxy, proxying
from postgres_server import DatabaseServer

INSERT = "INSERT INTO invoices VALUES ($1)"


@pytest.fixture
async def proxy(postgres: str, postgres_server: DatabaseServer) -> AsyncIterator[Proxy]:
    postgres_server.execute("CREATE TABLE invoices (id text)", database=postgres)
    parts = urlsplit(postgres)
    async with proxying((parts.hostname or "", parts.port or 0)) as proxy:
        yield proxy


@pytest.fixture
async def connection(proxy: Proxy, postgres: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(proxy.through(postgres))
    yield connection
    proxy.heal()
    connection.terminate()


@pytest.fixture
async def direct(postgres: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


async def invoices(connection: asyncpg.Connection) -> list[str]:
    return [row["id"] for row in await connection.fetch("SELECT id FROM invoices ORDER BY id")]


async def test_a_connection_through_it_is_like_any_other(connection: asyncpg.Connection, proxy: Proxy) -> None:
    await connection.execute("INSERT INTO invoices VALUES ('one')")
    await connection.executemany(INSERT, [("two",), ("x" * 1_000_000,)])
    async with connection.transaction():
        await connection.execute(INSERT, "three")

    assert len(await invoices(connection)) == 4
    assert proxy.backends == {connection.get_server_pid()}
    await connection.close()
    await proxy.news.until(lambda: not proxy.backends, "the connection has ended")


async def test_the_answer_to_one_statement_is_lost_and_the_statement_is_done(
    connection: asyncpg.Connection, direct: asyncpg.Connection, proxy: Proxy
) -> None:
    await connection.execute(INSERT, "one")
    proxy.lose_answer("INTO invoices")

    await connection.fetch("SELECT 1")
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await connection.execute(INSERT, "two")

    assert proxy.lost == [INSERT]
    assert await invoices(direct) == ["one", "two"]


async def test_the_answer_to_a_commit_is_lost_and_the_transaction_is_committed(
    connection: asyncpg.Connection, direct: asyncpg.Connection, proxy: Proxy
) -> None:
    proxy.lose_answer("COMMIT")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, "one")

    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await transaction.commit()

    assert proxy.lost == ["COMMIT;"]
    assert await invoices(direct) == ["one"]


async def test_what_ends_the_connection_may_be_the_server(
    connection: asyncpg.Connection, direct: asyncpg.Connection, proxy: Proxy
) -> None:
    async def terminate(backend: int) -> None:
        await direct.execute("SELECT pg_terminate_backend($1)", backend)

    proxy.lose_answer("INTO invoices", ends=terminate)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError) as raised:
        await connection.execute(INSERT, "one")

    assert isinstance(raised.value.__cause__, asyncpg.AdminShutdownError)
    assert await invoices(direct) == ["one"]


async def test_in_the_black_hole_nobody_is_answered_and_nobody_is_refused(
    connection: asyncpg.Connection, direct: asyncpg.Connection, postgres: str, proxy: Proxy
) -> None:
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        await connection.execute(INSERT, "one", timeout=0.2)
    with pytest.raises(TimeoutError):
        await asyncpg.connect(proxy.through(postgres), timeout=0.2)
    assert await invoices(direct) == []


async def test_what_a_black_hole_has_kept_arrives_when_it_is_healed(
    connection: asyncpg.Connection, direct: asyncpg.Connection, postgres: str, proxy: Proxy
) -> None:
    proxy.black_hole()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.execute, INSERT, "one")
        tasks.start_soon(_insert_on_another, proxy.through(postgres))
        await anyio.wait_all_tasks_blocked()
        assert await invoices(direct) == []
        proxy.heal()
    assert await invoices(direct) == ["one", "two"]


async def test_who_is_forgotten_hears_nothing_any_more_and_others_do(
    connection: asyncpg.Connection, direct: asyncpg.Connection, postgres: str, proxy: Proxy
) -> None:
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        await asyncpg.connect(proxy.through(postgres), timeout=0.1)
    proxy.heal(forget=True)

    with pytest.raises(TimeoutError):
        await connection.execute(INSERT, "one", timeout=0.1)
    await _insert_on_another(proxy.through(postgres))
    assert await invoices(direct) == ["two"]


async def _insert_on_another(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(INSERT, "two")
    await connection.close()


async def test_every_packet_is_told_before_it_is_passed_on(connection: asyncpg.Connection, proxy: Proxy) -> None:
    packets: list[Packet] = []
    before = proxy.number
    with proxy.watched(packets.append):
        await connection.execute("SELECT 1")
    await connection.execute("SELECT 2")

    assert (packets[0].client, packets[0].kind, packets[0].statement) == (True, b"Q", "SELECT 1")
    assert {one.backend for one in packets} == {connection.get_server_pid()}
    assert [one.kind for one in packets if not one.client] == [b"T", b"D", b"C", b"Z"]
    assert [one.number for one in packets] == list(range(before + 1, before + 6))


async def test_where_there_is_no_server_nobody_is_let_in() -> None:
    async with proxying(("127.0.0.1", 1)) as proxy:
        with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
            await asyncpg.connect(proxy.through("postgresql://callbacks@127.0.0.1:1/postgres"))

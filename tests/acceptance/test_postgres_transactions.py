"""Invoice and callback in one transaction of PostgreSQL's, with every driver: both, or neither. Real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest
from invoicing_requests import create

from callback_middleware.outbox.postgres.migrating import script
from postgres_server import DatabaseServer
from receivers import Receiver, receiving
from servers import PATIENCE, UVICORN, Server, serving

HERE = Path(__file__).parent
APPLICATION = "transacting_invoices:app"

DRIVERS = (
    *("asyncpg", "asyncpg-pool", "psycopg-async", "psycopg"),
    *("async-session", "async-session-psycopg", "async-connection", "session", "connection"),
)


@contextmanager
def migrated(server: DatabaseServer) -> Iterator[str]:
    """The URL of a database with an outbox, and a table of the service's. It is the one that processes use."""
    url = server.create_database()
    server.execute(script(), database=url)
    server.execute("CREATE TABLE public.invoice (id text PRIMARY KEY)", database=url)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE", url)
        yield url
    server.drop_database(url)


@pytest.fixture(scope="module")
def database(postgres_server: DatabaseServer) -> Iterator[str]:
    with migrated(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def web(database: str) -> Iterator[Server]:
    with serving(UVICORN, APPLICATION, directory=HERE) as web:
        yield web


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def kept(url: str, number: str) -> tuple[int, list[str]]:
    """How many invoices, and the states of which deliveries, the database has for a number."""
    with psycopg.connect(url) as connection:
        ((invoices,),) = connection.execute("SELECT count(*) FROM public.invoice WHERE id = %s", [number])
        rows = connection.execute(
            "SELECT coalesce(state, 'queued') FROM callback_middleware.delivery LEFT JOIN callback_middleware.result "
            "ON delivery = id WHERE url LIKE %s",
            [f"%/invoices/{number}"],
        )
        return invoices, [state for (state,) in rows]


def heard_once(receiver: Receiver, url: str, number: str) -> None:
    """One callback of this invoice has come, and its database has one delivery: none comes after it."""
    assert [one.target for one in receiver.wait()] == [f"/invoices/{number}"]
    invoices, deliveries = kept(url, number)
    assert (invoices, len(deliveries)) == (1, 1)


def deliver() -> None:
    """Have a worker deliver what is due, and end."""
    command = [sys.executable, "-m", "callback_middleware", "work", APPLICATION, "--once"]
    subprocess.run(command, cwd=HERE, check=True, timeout=PATIENCE)  # noqa: S603 - an interpreter of ours


@pytest.mark.parametrize("path", [*DRIVERS, "in-time", "in-time-in-a-thread"])
def test_committed_it_is_delivered_once(web: Server, receiver: Receiver, database: str, path: str) -> None:
    assert create(web, path, receiver, path).json() == {"id": path}
    heard_once(receiver, database, path)


@pytest.mark.parametrize("path", [*DRIVERS, "in-time", "in-time-in-a-thread"])
def test_rolled_back_there_is_neither(web: Server, receiver: Receiver, database: str, path: str) -> None:
    number = f"twice-by-{path}"
    assert create(web, path, receiver, number).status_code == 200
    # Its key is there already.
    assert create(web, path, receiver, number).status_code == 500
    heard_once(receiver, database, number)


@pytest.mark.parametrize("path", ["late", "late-in-a-thread"])
def test_a_dependency_that_commits_after_the_response_is_a_500_and_the_log_says_how_to_do_better(
    web: Server, receiver: Receiver, database: str, path: str
) -> None:
    answer = create(web, path, receiver, path)
    assert answer.status_code == 500
    assert "nobody can say yet" in answer.json()["detail"]
    web.wait_for(f"POST /{path}/: its response is complete", "is still open", 'Depends(…, scope="function")')
    # What it does after the response it does all the same.
    heard_once(receiver, database, path)


@pytest.fixture
def kept_database(postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database from which web processes do not send."""
    monkeypatch.setenv("DISPATCH", "no")
    with migrated(postgres_server) as url:
        yield url


@pytest.mark.parametrize(("moment", "both"), [("after", 1), ("before", 0)])
def test_killed_around_the_commit_there_are_both_or_neither(
    receiver: Receiver, kept_database: str, moment: str, both: int
) -> None:
    """What is there is sent once, by the worker that comes after those who were killed."""
    numbers = [f"{moment}-{driver}" for driver in DRIVERS]
    for driver, number in zip(DRIVERS, numbers, strict=True):
        with serving(UVICORN, APPLICATION, directory=HERE) as doomed:
            with suppress(httpx.TransportError):
                create(doomed, driver, receiver, number)
            assert doomed.wait() == -signal.SIGKILL
    assert [kept(kept_database, number) for number in numbers] == [(both, ["queued"] * both)] * len(numbers)

    deliver()
    assert sorted(one.target for one in receiver.heard) == sorted(f"/invoices/{number}" for number in numbers * both)
    assert [kept(kept_database, number) for number in numbers] == [(both, ["delivered"] * both)] * len(numbers)

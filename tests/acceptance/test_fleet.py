"""A web process and a fleet of workers on one PostgreSQL, from an empty database on: real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from postgres_server import DatabaseServer
from receivers import Heard, Receiver, receiving
from servers import STOPPING, UVICORN, Kind, Server, serving

HERE = Path(__file__).parent
APPLICATION = "fleet_invoices:app"
SECRET = "correct-horse"  # noqa: S105 - of a server that asks for none
"""The password in the URL: it may be told to nobody."""
OLD = "run `callback-middleware migrate"


@pytest.fixture
def database(postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database, with a password, which the application's environment knows."""
    parts = urlsplit(postgres)
    if not parts.password:
        user, _, where = parts.netloc.rpartition("@")
        postgres = parts._replace(netloc=f"{user}:{SECRET}@{where}").geturl()
    monkeypatch.setenv("DATABASE", postgres)
    monkeypatch.delenv("CALLBACK_OUTBOX", raising=False)
    return postgres


def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "callback_middleware", "migrate", *arguments],
        cwd=HERE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def migrated(database: str) -> str:
    assert migrate(database).returncode == 0
    return database


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def worker(*options: str, ready: str = "delivers what") -> AbstractContextManager[Server]:
    """A worker process, from when it has said ``ready`` until the block ends."""
    kind = Kind(
        "worker",
        lambda application, *_: ["callback_middleware", "work", application, *options],
        ready=ready,
        status=0,
    )
    return serving(kind, APPLICATION, directory=HERE)


def probe(working: Server) -> httpx.Response:
    """What the worker says of itself."""
    working.wait_for("readiness: http")
    (url,) = re.findall(r"readiness: (\S+)", working.output)
    return httpx.get(url, trust_env=False, timeout=30)


def create_invoices(web: Server, receiver: Receiver, *numbers: str) -> None:
    for number in numbers:
        answer = httpx.post(
            f"{web.url}/invoices/", params={"callback_url": receiver.url}, json={"id": number}, trust_env=False
        )
        assert answer.json() == {"id": number}


def targets(callbacks: Sequence[Heard]) -> list[str]:
    return sorted(callback.target for callback in callbacks)


# The schema


def test_the_schema_is_made_step_by_step_and_then_up_to_date(database: str) -> None:
    dry, first, again, after = (
        migrate(database, "--dry-run"),
        migrate(database),
        migrate(database),
        migrate(database, "--dry-run"),
    )
    lacking = [line.removeprefix("lacking: ") for line in dry.stdout.splitlines()]
    assert (dry.returncode, lacking[0]) == (1, "0001_tables")
    *applied, last = first.stdout.splitlines()
    assert (first.returncode, [line.removeprefix("applied: ") for line in applied]) == (0, lacking)
    assert last.startswith("up to date: postgresql://")
    for one in (again, after):
        assert (one.returncode, one.stdout) == (0, f"{last}\n")
    assert SECRET not in first.stdout + first.stderr + dry.stdout + dry.stderr


def test_the_sql_that_is_printed_makes_the_same_schema(database: str, postgres_server: DatabaseServer) -> None:
    postgres_server.execute(migrate("--sql", "--schema", "shop").stdout, database=database)
    told = migrate(database, "--schema", "shop", "--dry-run")
    assert (told.returncode, told.stdout.splitlines()[0][:11]) == (0, "up to date:")


def test_an_application_says_where_its_schema_is(
    database: str, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA", "shop")
    assert migrate("--app", APPLICATION).returncode == 0
    rows = postgres_server.execute("SELECT count(*) FROM shop.migration", database=database)
    assert rows[0][0] > 0


def test_a_database_that_is_not_there_is_told_without_the_password(database: str) -> None:
    told = migrate(database + "_not")
    assert (told.returncode, told.stdout) == (1, "")
    assert "create that database" in told.stderr
    assert SECRET not in told.stderr
    assert "Traceback" not in told.stderr


# What is refused


def test_a_worker_refuses_an_old_schema_with_the_command_to_run(database: str) -> None:
    with worker(ready=OLD) as working:
        assert working.wait() == 2
        assert working.output.splitlines()[-1].startswith(f"Error: {APPLICATION}: ")
        assert SECRET not in working.output
        assert "Traceback" not in working.output


def test_a_web_process_refuses_an_old_schema_with_the_command_to_run(database: str) -> None:
    kind = Kind(UVICORN.name, UVICORN.arguments, ready=OLD, status=0)
    with serving(kind, APPLICATION, directory=HERE) as web:
        assert web.wait() != 0
        assert "Application startup failed" in web.output
        assert SECRET not in web.output


def test_a_database_that_is_out_of_reach_keeps_no_worker_from_starting(database: str) -> None:
    with worker("--health-port", "0", "--outbox", f"postgresql://shop:{SECRET}@127.0.0.1:1/shop") as working:
        working.wait_for("is out of reach")
        told = probe(working)
        assert (told.status_code, told.json()["status"]) == (503, "failing")
        assert "is out of reach" in told.json()["reason"]
        working.terminate()
        assert working.wait() == 0
        assert SECRET not in working.output + told.text


def test_a_worker_says_that_its_database_needs_asyncio(database: str) -> None:
    with worker("--loop", "trio", ready="needs asyncio") as working:
        assert working.wait() == 2
        assert "Traceback" not in working.output


# The fleet


@pytest.fixture
def web(migrated: str) -> Iterator[Server]:
    with serving(UVICORN, APPLICATION, directory=HERE) as web:
        yield web


def test_workers_share_what_the_web_process_puts(web: Server, receiver: Receiver) -> None:
    """And nothing is sent twice; each ends in order, and no password is told."""
    numbers = [str(number) for number in range(40)]
    with worker("--concurrency", "2", "--health-port", "0") as one, worker("--concurrency", "2") as other:
        create_invoices(web, receiver, *numbers)
        callbacks = receiver.wait(len(numbers))
        told = probe(one)
        for working in (one, other):
            working.terminate()
            assert working.wait() == 0
            assert "Traceback" not in working.output
            assert SECRET not in working.output
    assert (told.status_code, told.json()["status"]) == (200, "ready")
    assert targets(callbacks) == sorted(f"/invoices/{number}" for number in numbers)
    assert len(receiver.heard) == len(numbers)


def test_a_worker_that_is_told_to_stop_lets_its_attempts_end(web: Server, receiver: Receiver) -> None:
    receiver.hold()
    create_invoices(web, receiver, "held")
    with worker("--health-port", "0") as working:
        receiver.wait()
        working.terminate()
        working.wait_for(STOPPING)
        draining = probe(working)
        receiver.release()
        assert working.wait() == 0
        assert "is delivered, at attempt 1" in working.output
    assert (draining.status_code, draining.json()["in_flight"]) == (503, 1)
    assert len(receiver.heard) == 1


def test_a_worker_takes_the_outbox_that_its_environment_names(
    web: Server, receiver: Receiver, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where the application itself would look elsewhere."""
    create_invoices(web, receiver, "1", "2")
    monkeypatch.setenv("DATABASE", "postgresql://127.0.0.1:1/nowhere")
    monkeypatch.setenv("CALLBACK_OUTBOX", migrated)
    with worker("--once") as working:
        assert working.wait() == 0
        assert SECRET not in working.output
    assert targets(receiver.heard) == ["/invoices/1", "/invoices/2"]

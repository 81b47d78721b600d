"""``callback-middleware migrate`` in this process: on files, and on a PostgreSQL that only notes what it is asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI

from callback_middleware import CallbackMiddleware, MemoryOutbox, SQLiteOutbox
from callback_middleware.cli import command
from callback_middleware.errors import ConfigurationError, OutboxUnavailable

POSTGRES = "callback_middleware.outbox.postgres"
URL = "postgresql://shop:secret@db/callbacks"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBACK_OUTBOX", raising=False)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that can be imported as ``shop``."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return module


class FakePostgresOutbox(MemoryOutbox):
    url = URL
    schema = "shop"


class Postgres:
    """Stands for the engine: a schema that lacks some steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lacking = ["0001_tables", "0002_partitions"]
        self.asked: list[Any] = []
        self.fails: Exception | None = None
        package, migrating = ModuleType(POSTGRES), ModuleType(f"{POSTGRES}.migrating")
        vars(package).update(PostgresOutbox=FakePostgresOutbox, migrating=migrating, __path__=[])
        vars(migrating).update(pending=self.pending, migrate=self.migrate, script=self.script)
        monkeypatch.setitem(sys.modules, POSTGRES, package)
        monkeypatch.setitem(sys.modules, f"{POSTGRES}.migrating", migrating)

    async def pending(self, url: str, *, schema: str = "callback_middleware") -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        self.asked.append((url, schema))
        if self.fails is not None:
            raise self.fails
        return tuple(self.lacking)

    async def migrate(self, url: str, *, schema: str = "callback_middleware") -> Sequence[str]:
        steps = await self.pending(url, schema=schema)
        self.lacking = []
        return steps

    def script(self, schema: str = "callback_middleware") -> str:
        return f"CREATE SCHEMA {schema};"


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Postgres:
    return Postgres(monkeypatch)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["migrate", *arguments])


def refusal(*arguments: str) -> str:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


# A database


def test_every_step_is_told_and_then_that_there_are_no_more(postgres: Postgres) -> None:
    first, second = invoke(URL), invoke(URL)
    assert (first.exit_code, first.stdout) == (
        0,
        "applied: 0001_tables\napplied: 0002_partitions\nup to date: postgresql://shop:***@db/callbacks\n",
    )
    assert (second.exit_code, second.stdout) == (0, "up to date: postgresql://shop:***@db/callbacks\n")
    assert postgres.asked == [(URL, "callback_middleware")] * 2


def test_a_dry_run_lists_what_is_lacking_and_changes_nothing(postgres: Postgres) -> None:
    result = invoke(URL, "--dry-run")
    assert (result.exit_code, result.stdout) == (1, "lacking: 0001_tables\nlacking: 0002_partitions\n")
    assert len(postgres.lacking) == 2


def test_a_dry_run_of_what_is_up_to_date_says_so(postgres: Postgres) -> None:
    postgres.lacking = []
    result = invoke(URL, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "up to date: postgresql://shop:***@db/callbacks\n")


def test_the_schema_may_have_another_name(postgres: Postgres) -> None:
    assert invoke(URL, "--schema", "shop").stdout.endswith("/callbacks (schema shop)\n")
    assert postgres.asked == [(URL, "shop")]


def test_the_environment_says_which_outbox_it_is_where_nothing_else_does(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBACK_OUTBOX", URL)
    assert invoke().exit_code == 0
    assert invoke("postgresql://other").exit_code == 0
    assert [url for url, _ in postgres.asked] == [URL, "postgresql://other"]


@pytest.mark.parametrize(("options", "schema"), [([], "shop"), (["--schema", "other"], "other")])
def test_an_application_says_which_outbox_it_is(
    options: list[str], schema: str, postgres: Postgres, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment would say another: that is for who starts workers."""
    monkeypatch.setenv("CALLBACK_OUTBOX", "postgresql://other")
    vars(module)["app"] = CallbackMiddleware(FastAPI(), outbox=FakePostgresOutbox())
    assert invoke("--app", "shop:app", *options).exit_code == 0
    assert postgres.asked == [(URL, schema)]


def test_an_application_may_be_made_by_a_function(postgres: Postgres, module: ModuleType) -> None:
    vars(module)["make"] = lambda: CallbackMiddleware(FastAPI(), outbox=FakePostgresOutbox())
    assert invoke("--app", "shop:make", "--factory").exit_code == 0
    assert postgres.asked == [(URL, "shop")]


def test_a_database_that_is_out_of_reach_is_told_without_its_password(postgres: Postgres) -> None:
    postgres.fails = OutboxUnavailable(f"{URL} does not answer; start it")
    result = invoke(URL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: postgresql://shop:***@db/callbacks does not answer; start it\n"


def test_a_newer_schema_is_refused(postgres: Postgres) -> None:
    postgres.fails = ConfigurationError(f"{URL} is newer than this library")
    assert refusal(URL) == "Error: postgresql://shop:***@db/callbacks is newer than this library\n"


@pytest.mark.parametrize(("options", "schema"), [([], "callback_middleware"), (["--schema", "shop"], "shop")])
def test_the_sql_of_every_step_can_be_had_without_a_database(
    options: list[str], schema: str, postgres: Postgres
) -> None:
    result = invoke("--sql", *options)
    assert (result.exit_code, result.stdout) == (0, f"CREATE SCHEMA {schema};\n")
    assert postgres.asked == []


def test_without_its_driver_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(POSTGRES)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert refusal(URL) == "Error: PostgresOutbox needs asyncpg: pip install 'callback_middleware[postgres]'\n"


# A file


def test_a_file_is_made_and_said_to_be_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    dry, first, second = invoke(f"sqlite:{path}", "--dry-run"), invoke(f"sqlite:{path}"), invoke(f"sqlite://{path}")
    assert (dry.exit_code, dry.stdout.splitlines()[0]) == (1, "lacking: 0001")
    assert (first.exit_code, first.stdout.splitlines()[0]) == (0, "applied: 0001")
    assert (second.exit_code, second.stdout) == (0, f"up to date: the file {path}\n")


def test_a_file_that_an_application_has_is_brought_up_to_date(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    vars(module)["app"] = CallbackMiddleware(FastAPI(), outbox=SQLiteOutbox(path))
    assert invoke("--app", "shop:app").stdout.splitlines()[-1] == f"up to date: the file {path}"
    assert path.exists()


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    result = invoke(f"sqlite:{tmp_path}/missing/callbacks.db")
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr


# What is refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which outbox? Give its URL"),
        ([URL, "--app", "shop:app"], "URL or --app"),
        (["--app", "shop:app"], "MemoryOutbox has no schema"),
        (["--app", "shop:nothing"], "shop has no attribute 'nothing'"),
        ([URL, "--factory"], "--factory says what --app is"),
        (["sqlite:callbacks.db", "--schema", "shop"], "--schema is for PostgreSQL"),
        (["--sql", "sqlite:callbacks.db"], "--sql is for PostgreSQL"),
        (["--sql", "--dry-run"], "--sql or --dry-run"),
        (["mysql://db"], "what was given, or what CALLBACK_OUTBOX says, is no URL of an outbox: write postgresql://"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], says: str, module: ModuleType) -> None:
    vars(module)["app"] = CallbackMiddleware(FastAPI())
    assert says in refusal(*arguments)

"""The PostgreSQL that tests use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from postgres_programs import NEEDED, find_programs
from postgres_server import (
    GIVEN,
    DatabaseServer,
    PostgresFailedError,
    PostgresServer,
    given_or_private_postgres,
    private_postgres,
)

STARTS_ONE = """
import signal
from postgres_server import PostgresServer

server = PostgresServer()
server.start()
print(server.url(), flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """One that may be restarted."""
    with private_postgres(fsync=True, settings={"max_connections": 20}) as server:
        yield server


def test_a_database_is_empty_and_nobody_elses(postgres: str, postgres_server: DatabaseServer) -> None:
    other = postgres_server.create_database()
    postgres_server.execute("CREATE TABLE invoices (id text); INSERT INTO invoices VALUES ('one')", database=postgres)

    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.execute(tables, database=postgres) == [(1,)]
    assert postgres_server.execute(tables, database=other) == [(0,)]
    postgres_server.drop_database(other)


def test_a_database_is_dropped_with_whoever_is_connected(postgres_server: DatabaseServer) -> None:
    url = postgres_server.create_database()

    with psycopg.connect(url) as connection:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_restarted_one_answers_where_it_did_and_has_what_was_committed(own: PostgresServer, mode: str) -> None:
    url = own.create_database()
    own.execute("CREATE TABLE invoices (id text); INSERT INTO invoices VALUES ('one')", database=url)
    began = own.execute("SELECT pg_postmaster_start_time()")

    own.restart("immediate" if mode == "immediate" else "fast")

    assert own.execute("SELECT id FROM invoices WHERE id = %s", ["one"], database=url) == [("one",)]
    assert own.execute("SELECT pg_postmaster_start_time()") > began
    assert f"received {mode} shutdown request" in own.log_text()


def test_one_is_as_it_was_asked_to_be(own: PostgresServer) -> None:
    asked = "SELECT current_setting('fsync'), current_setting('max_connections'), current_setting('listen_addresses')"

    assert own.execute(asked) == [("on", "20", "127.0.0.1")]


def test_one_that_stopped_left_nothing() -> None:
    with private_postgres() as server:
        folder = server._folder

        server.stop()

        assert not folder.exists()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(server.url())


def test_one_ends_with_the_process_that_started_it_though_that_is_killed(own: PostgresServer) -> None:
    with subprocess.Popen(  # noqa: S603 - an interpreter of ours
        [sys.executable, "-c", STARTS_ONE],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        with psycopg.connect(process.stdout.readline().strip()) as connection:
            # As Ctrl-C does, it goes to whatever that process has started, too.
            os.killpg(process.pid, signal.SIGKILL)

            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep(60)")


def test_one_that_does_not_start_says_why_and_leaves_nothing(own: PostgresServer) -> None:
    server = PostgresServer(settings={"max_connections": 0})

    with pytest.raises(PostgresFailedError, match=r"0 is outside the valid range for parameter .max_connections"):
        server.start()

    assert not server._folder.exists()


def test_what_the_environment_names_is_used_as_it_is(own: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIVEN, f"{own.url('template1')}?connect_timeout=10")

    with given_or_private_postgres() as server:
        url = server.create_database()

    assert url.startswith(own.url("callbacks_"))
    assert url.endswith("?connect_timeout=10")
    assert own.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=url) == [(0,)]


@pytest.fixture
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GIVEN, raising=False)
    monkeypatch.delenv("CALLBACK_TEST_NO_SKIPS", raising=False)


@pytest.mark.usefixtures("nothing_given")
def test_where_there_is_none_tests_are_skipped_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postgres_server.find_programs", lambda: None)

    with pytest.raises(pytest.skip.Exception) as skipped, given_or_private_postgres():
        pytest.fail("there is one")

    for way in ("apt-get install postgresql", "docker compose up", GIVEN):
        assert way in str(skipped.value)


@pytest.mark.usefixtures("nothing_given")
def test_where_nothing_may_be_skipped_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postgres_server.find_programs", lambda: None)
    monkeypatch.setenv("CALLBACK_TEST_NO_SKIPS", "1")

    with pytest.raises(pytest.fail.Exception, match="apt-get install postgresql"), given_or_private_postgres():
        """Not reached."""


@pytest.mark.usefixtures("nothing_given")
def test_root_needs_somebody_else_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postgres_server.find_programs", lambda: Path("/"))
    monkeypatch.setattr("postgres_server.UNPRIVILEGED", ("nobody of this name",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    with pytest.raises(pytest.skip.Exception, match=r"as root.*'nobody of this name'"), given_or_private_postgres():
        """Not reached."""


def test_programs_are_looked_for_on_the_path_and_then_in_the_usual_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new, incomplete, on_path = (
        tmp_path / f"{folder}/bin"
        for folder in ("usr/lib/postgresql/9.6", "usr/lib/postgresql/17", "usr/lib/postgresql/18", "home")
    )
    for folder, programs in ((old, NEEDED), (new, NEEDED), (incomplete, ["psql", *NEEDED[:-1]]), (on_path, ["psql"])):
        folder.mkdir(parents=True)
        for program in programs:
            (folder / program).touch()
    monkeypatch.setenv("PATH", str(on_path))

    assert find_programs(tmp_path) == new

    for program in NEEDED:
        (on_path / program).touch()
    assert find_programs(tmp_path) == on_path


def test_programs_are_where_pg_config_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in NEEDED:
        (tmp_path / program).touch()
    asked = tmp_path / "path" / "pg_config"
    asked.parent.mkdir()
    asked.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(asked.parent))

    assert find_programs(tmp_path) == tmp_path
    asked.write_text("#!/bin/sh\nexit 1\n")
    assert find_programs(tmp_path) is None

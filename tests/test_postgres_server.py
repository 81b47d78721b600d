"""The PostgreSQL that tests use."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from postgres_server import DatabaseServer, PostgresServer, private_postgres

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
    with private_postgres(settings={"application_name": "crashed"}) as server:
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

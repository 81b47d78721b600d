"""The page on transactions: its snippets on PostgreSQL run too, and what they serve does as it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from callback_middleware.outbox.postgres.migrating import script
from postgres_server import DatabaseServer

PAGE = Path(__file__).parent.parent / "docs" / "transactions.md"

SNIPPET = re.compile(r"^```(python|sql)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_handler_on_postgresql_commits_an_invoice_with_its_callback_or_neither(
    postgres: str, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres_server.execute(script(), database=postgres)
    postgres_server.execute("CREATE TABLE public.invoice (id text PRIMARY KEY)", database=postgres)
    monkeypatch.setenv("DATABASE_URL", postgres)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page_of_transactions")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    text = PAGE.read_text()
    for language, code in SNIPPET.findall(text):
        if language == "python":
            line = text.count("\n", 0, text.index(code))
            exec(compile("\n" * line + code, str(PAGE), "exec"), vars(module))  # noqa: S102 - that is the test

    paths = [route.path for route in module.service.routes if "/{" not in route.path and "POST" in route.methods]
    with TestClient(module.service, raise_server_exceptions=False) as client:
        for path in paths:
            # The second finds the invoice's key used.
            for status in (200, 500):
                answer = client.post(f"{path}?callback_url=https://www.external.org", json={"id": path})
                assert (path, answer.status_code) == (path, status)

    invoices = postgres_server.execute("SELECT id FROM public.invoice ORDER BY id", database=postgres)
    assert invoices == [(path,) for path in sorted(paths)]
    urls = postgres_server.execute("SELECT url FROM callback_middleware.delivery", database=postgres)
    assert len(urls) == len(paths) == 5


def test_the_grants_of_the_page_are_enough(postgres: str, postgres_server: DatabaseServer) -> None:
    postgres_server.execute(script(), database=postgres)
    (grants,) = (code for language, code in SNIPPET.findall(PAGE.read_text()) if language == "sql")
    # A server's roles are those of all its databases.
    web = f"web_{uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {web}", database=postgres)
    try:
        postgres_server.execute(grants.replace("TO web;", f"TO {web};"), database=postgres)
        may = postgres_server.execute(
            "SELECT has_schema_privilege(%s, 'callback_middleware', 'USAGE'), "
            "has_function_privilege(%s, p.oid, 'EXECUTE') FROM pg_proc p WHERE proname = 'put_joined'",
            (web, web),
            database=postgres,
        )
    finally:
        postgres_server.execute(f"DROP OWNED BY {web}; DROP ROLE {web}", database=postgres)
    assert may == [(True, True)]

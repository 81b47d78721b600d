"""URLs of outboxes, and what is told of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from callback_middleware import MemoryOutbox, SQLiteOutbox
from callback_middleware.cli.outboxes import masked, outbox_at, sqlite_path
from callback_middleware.cli.refusals import Refused
from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.postgres import PostgresOutbox

POSTGRES = "callback_middleware.outbox.postgres"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:callbacks.db", "callbacks.db"),
        ("sqlite:./var/callbacks.db", "./var/callbacks.db"),
        ("sqlite:/var/lib/callbacks.db", "/var/lib/callbacks.db"),
        ("sqlite:///var/lib/callbacks.db", "/var/lib/callbacks.db"),
        ("SQLite:callbacks.db", "callbacks.db"),
        ("postgresql://db/callbacks", None),
        ("callbacks.db", None),
        ("/var/lib/callbacks.db", None),
    ],
)
def test_the_path_of_a_file_stands_behind_its_scheme(url: str, path: str | None) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://", "sqlite://var/lib/callbacks.db"])
def test_a_url_without_a_path_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="sqlite:path or sqlite:///absolute/path"):
        outbox_at(url)


def test_a_file_is_an_sqlite_outbox() -> None:
    outbox = outbox_at("sqlite:///var/lib/callbacks.db")
    assert isinstance(outbox, SQLiteOutbox)
    assert repr(outbox) == "SQLiteOutbox('/var/lib/callbacks.db')"


def test_a_file_has_no_other_schema() -> None:
    with pytest.raises(Refused, match="--schema is for PostgreSQL"):
        outbox_at("sqlite:callbacks.db", "shop")


def test_a_path_that_no_outbox_takes_is_refused() -> None:
    with pytest.raises(Refused, match="needs the path of a file"):
        outbox_at("sqlite::memory:")


@pytest.mark.parametrize("url", ["postgresql://shop@db/callbacks", "postgres://db", "PostgreSQL://db"])
def test_a_database_is_a_postgres_outbox(url: str) -> None:
    outbox, other = outbox_at(url), outbox_at(url, "shop")
    assert isinstance(outbox, PostgresOutbox)
    assert isinstance(other, PostgresOutbox)
    assert (outbox.url, outbox.schema, other.schema) == (url, "callback_middleware", "shop")


@pytest.mark.parametrize(("schema", "taken"), [(None, "shop"), ("other", "other")])
def test_a_database_is_used_as_another_one_is(schema: str | None, taken: str) -> None:
    mounted = PostgresOutbox("postgresql://db", schema="shop", keep=None, backlog=None, connections=7, pooler=True)
    other = outbox_at("postgresql://staging", schema, like=mounted)
    assert isinstance(other, PostgresOutbox)
    assert (other.url, other.schema) == ("postgresql://staging", taken)
    assert other._alike.keywords == {
        "keep": None,
        "clock": None,
        "backlog": None,
        "connections": 7,
        "pooler": True,
    }


def test_a_file_is_used_as_another_one_is(tmp_path: Path) -> None:
    """What it keeps for ever must not be forgotten by a worker that was told nothing of that."""
    mounted = SQLiteOutbox(tmp_path / "here.db", keep=None, backlog=None)
    other = outbox_at(f"sqlite:{tmp_path / 'there.db'}", like=mounted)
    assert isinstance(other, SQLiteOutbox)
    assert other.path == tmp_path / "there.db"
    assert (other._alike.keywords["keep"], other._backlog) == (None, None)


def test_another_kind_of_outbox_has_other_settings(tmp_path: Path) -> None:
    assert isinstance(outbox_at(f"sqlite:{tmp_path / 'there.db'}", like=MemoryOutbox(backlog=None)), SQLiteOutbox)


def test_what_the_outbox_refuses_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> NoReturn:
        raise ConfigurationError(f"{url} is wrong")

    monkeypatch.setattr("callback_middleware.outbox.postgres.PostgresOutbox.__init__", lambda _, url: refuse(url))
    with pytest.raises(Refused, match=r"postgresql://shop:\*\*\*@db/wrong is wrong"):
        outbox_at("postgresql://shop:secret@db/wrong")


def test_a_schema_that_no_database_has_is_refused() -> None:
    with pytest.raises(Refused, match="lower-case letters"):
        outbox_at("postgresql://db", "Shop")


def test_without_the_driver_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(POSTGRES)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(Refused, match=r"callback_middleware\[postgres\]"):
        outbox_at("postgresql://shop:secret@db/callbacks")


@pytest.mark.parametrize("url", ["", "callbacks.db", "mysql://shop:secret@db/x", "shop:secret@db/callbacks"])
def test_a_url_of_something_else_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Refused) as refused:
        outbox_at(url)
    assert "secret" not in str(refused.value)
    assert "postgresql://user@host/database" in str(refused.value)


def test_a_url_that_names_a_driver_is_told_to_leave_it_out() -> None:
    with pytest.raises(Refused, match="without the driver's name"):
        outbox_at("postgresql+asyncpg://shop:secret@db/callbacks")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PostgresOutbox('postgresql://u:secret@h:5432/d')", "PostgresOutbox('postgresql://u:***@h:5432/d')"),
        ("postgresql://u:se@cr/et:@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:secret@h/d", "postgresql://:***@h/d"),
        ("postgresql://h:5432/d?password=secret&x=1", "postgresql://h:5432/d?password=***&x=1"),
        ("postgresql://h/d?x=1&SSLPassword=secret", "postgresql://h/d?x=1&SSLPassword=***"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://h:5432/d of someone@example.com", "postgresql://h:5432/d of someone@example.com"),
        ("SQLiteOutbox('/var/lib/callbacks.db')", "SQLiteOutbox('/var/lib/callbacks.db')"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown

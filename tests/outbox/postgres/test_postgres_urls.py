from __future__ import annotations

import pytest

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.urls import check_url, shown, typed

SECRET = "s3cret"  # noqa: S105 - and none at all


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///callbacks.db", "needs a URL such as postgresql://user:password@host:5432/database, .* 'sqlite'"),
        ("callbacks", "not one of the scheme ''"),
        ("postgresql://here/callbacks?schema=mine", r"takes the schema as an argument, schema=…, and not from its URL"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        PostgresOutbox(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}/word@here/callbacks",
        f"postgresql://me:{SECRET}#word@here/callbacks",
        f"postgresql://me:{SECRET}?word@here/callbacks",
        f"postgresql://me:12/{SECRET}@here/callbacks",
        f"postgresql://me:12#{SECRET}@here/callbacks",
        f"postgresql://me:12?{SECRET}@here/callbacks",
        f"postgresql://me:12?{SECRET}@here/callbacks?sslmode=require",
        f"postgresql://me:a@{SECRET}@here/callbacks",
        f"postgresql://me:a@{SECRET}:b@here/callbacks",
        f"postgresql://me:[{SECRET}@here/callbacks",
        "postgresql://here:port/callbacks",
        "postgresql://one:1,two:x/callbacks",
        "postgresql://[::1/callbacks",
        "postgresql://here/callbacks?sslmode",
        "postgresql:///callbacks?port=x",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_nothing_of_it_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read its URL: .* %3A %2F %3F %23") as refused:
        PostgresOutbox(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgres://here/callbacks",
        "postgresql://here/callbacks?sslmode=require",
        "postgresql://me:s%2Fcret%40@one:1,two,[::1]:5432/callbacks",
        "postgresql://me:a:b@%2Frun%2Fpostgresql/callbacks",
        "postgresql:///callbacks?host=/run/postgresql&port=5432,5433&user=me@here",
    ],
)
def test_a_url_as_asyncpg_has_it_is_taken(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"postgresql://me:{SECRET}@here:5433/callbacks?sslmode=require", "postgresql://here:5433/callbacks"),
        (f"postgresql://me:{SECRET}%40@[::1]/callbacks", "postgresql://[::1]/callbacks"),
        ("postgresql:///callbacks", "postgresql://localhost/callbacks"),
        (f"postgresql://me:{SECRET}@one:1,two:2/callbacks", "postgresql://one:1,two:2/callbacks"),
        (f"postgresql:///callbacks?password={SECRET}&host=/tmp", "postgresql://localhost/callbacks"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, name: str) -> None:
    assert shown(url) == name


@pytest.mark.parametrize(
    ("url", "command"),
    [
        (f"postgresql://me:{SECRET}@here:5433/callbacks?sslmode=require", "postgresql://me@here:5433/callbacks"),
        ("postgresql://me@here/callbacks", "postgresql://me@here/callbacks"),
        (f"postgresql:///callbacks?password={SECRET}&host=/tmp", "postgresql://localhost/callbacks"),
    ],
)
def test_a_url_may_be_typed_with_its_user_and_without_a_password(url: str, command: str) -> None:
    assert typed(url) == command

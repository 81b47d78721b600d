"""From a URL to an outbox: another one than the application mounts, or the one that is to be migrated."""

from __future__ import annotations

import re
from typing import Final

from callback_middleware.cli.refusals import Refused
from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.sqlite import SQLiteOutbox
from callback_middleware.ports import Outbox

VARIABLE: Final = "CALLBACK_OUTBOX"
"""The environment variable that says what an argument need not: arguments stand in the list of processes."""

URLS: Final = "postgresql://user@host/database, or sqlite:/path/to/callbacks.db"

_POSTGRES: Final = ("postgresql://", "postgres://")

# To the last @, because a password may be written as it is.
_PASSWORD: Final = re.compile(r"(://[^\s:/?#@]*):\S*@")
_PARAMETER: Final = re.compile(r"([?&](?:ssl)?password=)[^\s&]*", re.IGNORECASE)


def masked(text: str) -> str:
    """A text with the passwords of its URLs left out."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def is_postgres(url: str) -> bool:
    """Whether a URL is of a PostgreSQL database."""
    return url.lower().startswith(_POSTGRES)


def sqlite_path(url: str) -> str | None:
    """The path in ``sqlite:path`` or ``sqlite:///path``, as it is written; None if the URL is of something else."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() != "sqlite":
        return None
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = "" if host else slash + path
    if not rest:
        raise Refused("a URL of an SQLite file is sqlite:path or sqlite:///absolute/path")
    return rest


def outbox_at(url: str, schema: str | None = None, *, like: Outbox | None = None) -> Outbox:
    """The outbox that a URL names. Nothing is opened.

    Args:
        url: As ``URLS`` says.
        schema: Of a PostgreSQL database; None for the one that ``like`` has, or an outbox that is told none.
        like: Another outbox, whose settings it takes if it is one of the same kind: how long it keeps what has ended,
            how much it lets wait.

    Raises:
        Refused: It names none, or the library that it takes is not installed. No password is told.
    """
    try:
        if is_postgres(url):
            from callback_middleware.outbox.postgres import PostgresOutbox

            mounted = like if isinstance(like, PostgresOutbox) else PostgresOutbox(url)
            return mounted.elsewhere(url, schema=schema)
        path = sqlite_path(url)
        if path is not None:
            refuse_schema(schema)
            return like.elsewhere(path) if isinstance(like, SQLiteOutbox) else SQLiteOutbox(path)
    except (ConfigurationError, ImportError) as error:
        raise Refused(masked(str(error))) from None
    raise unknown(url)


def refuse_schema(schema: str | None) -> None:
    """Refuse the name of a schema where there are none."""
    if schema is not None:
        raise Refused("--schema is for PostgreSQL: an SQLite file has one schema")


def unknown(url: str) -> Refused:
    """What to say of a URL of nothing that is known. It is not repeated: it may have a password anywhere."""
    # As SQLAlchemy has it.
    hint = ", without the driver's name" if re.match(r"\w+\+\w+://", url) else ""
    return Refused(f"what was given, or what {VARIABLE} says, is no URL of an outbox: write {URLS}{hint}")

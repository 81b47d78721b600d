"""The URL of a database: refused where it cannot be read, and shown without what is secret in it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from callback_middleware.errors import ConfigurationError

_SCHEMES: Final = frozenset({"postgresql", "postgres"})

_HOST: Final = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::\d*)?", re.ASCII)

_UNREADABLE: Final = (
    "PostgresOutbox cannot read its URL: behind a host comes a port in digits, or none; an option has a value "
    "(?sslmode=require); and in the name or the password of a user each of : / ? # [ ] @ % is written "
    "%3A %2F %3F %23 %5B %5D %40 %25"
)
"""Nothing of it is repeated: what was taken for a port may be the beginning of a password."""


def check_url(url: str) -> str:
    """A URL as asyncpg takes it. Raises ``ConfigurationError`` for any other."""
    try:
        parts = urlsplit(url)
        # As strictly as asyncpg does.
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise ConfigurationError(_UNREADABLE) from None
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"PostgresOutbox needs a URL such as postgresql://user:password@host:5432/database, not one of the scheme "
            f"{parts.scheme!r}"
        )
    if "schema" in options:
        raise ConfigurationError("PostgresOutbox takes the schema as an argument, schema=…, and not from its URL")
    if not _is_clear(parts) or not all(re.fullmatch(r"[\d,]*", port, re.ASCII) for port in options.get("port", ())):
        raise ConfigurationError(_UNREADABLE)
    return url


def shown(url: str) -> str:
    """A database's URL without a user, a password and options."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or "localhost"
    return f"{parts.scheme}://{host}{parts.path}"


def typed(url: str) -> str:
    """A database's URL as it may be typed in a command: with its user, and without a password and options."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"{parts.scheme}://{f'{name}@' if name else ''}{host or 'localhost'}{parts.path}"


def _is_clear(parts: SplitResult) -> bool:
    """Whether nobody can take a part of a password for a host, a port, a path or an option."""
    user, at, hosts = parts.netloc.rpartition("@")
    if "@" in user or not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        return False
    # What ends before its @ was cut off by a character of the password.
    return bool(at) or "@" not in parts.path + parts.fragment + parts.query.partition("=")[0]

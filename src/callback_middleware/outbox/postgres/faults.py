"""What errors of PostgreSQL and its connections mean for an outbox: certainly not stored, or perhaps."""

from __future__ import annotations

from typing import Final

import asyncpg

from callback_middleware.errors import OutboxError, OutboxUnavailable, OutboxUncertain

_POOLER: Final = "behind a pooler give the outbox pooler=True"

_REMEDIES: Final[tuple[tuple[str, str], ...]] = (
    ("28", "give the outbox the URL of a user that may connect, with its password"),
    ("3D", "create that database, or give the outbox the URL of another"),
    ("26", _POOLER),
    ("42P05", _POOLER),
    ("42704", "leave that out of the options of its URL"),
    ("42501", "grant that user the use of the schema, its tables and functions"),
    ("42P01", "run `callback-middleware migrate`"),
    ("42883", "run `callback-middleware migrate`"),
    ("3F", "run `callback-middleware migrate`"),
    ("25006", "connect to the primary: this server only reads"),
    ("53100", "free space on the server's disk"),
    ("53300", "raise max_connections, put a pooler in front, or give the outbox fewer connections"),
    ("53", "look at the server's memory, disk and limits"),
    ("55P03", "see what holds its locks for so long (pg_stat_activity)"),
    ("57014", "see what makes it slow (pg_stat_activity)"),
    ("57", "see that the server runs, and what its log says"),
    ("08", "see that the server runs, and that this machine may reach it"),
)

_CUT_OFF: Final = ("08", "57P01", "57P02", "57P05", "25P03")
"""Classes of errors after which nobody knows what the server has done: it ended the connection."""

_VALUES: Final = ("21", "22", "23")
"""Of those that are about what was asked for: a cardinality, a value, a constraint."""

_PASSING: Final = ("40", "55P03", "0A000", "23514")
"""Of those that say nothing of the server: two were in each other's way, or a table has changed under a plan.

The last one is told of a row for the default partition, if that of its day was made in this moment.
"""


def out_of_reach(name: str, error: BaseException) -> OutboxUnavailable:
    """What happened, where, and what to do. Nothing was stored."""
    return OutboxUnavailable(f"the outbox {name} is out of reach: {_said(error)}; {_remedy(error)}")


def is_passing(error: BaseException) -> bool:
    """Whether the same may be asked again at once: it was not done, and the database works."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(_PASSING)


def is_about_values(error: Exception) -> bool:
    """Whether something was wrong with what was to be stored, and nothing with the database."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_VALUES)
    return isinstance(error, ValueError | TypeError | OverflowError | AttributeError)


def meaning(name: str, error: BaseException) -> OutboxError | None:
    """What an error in the middle of a statement comes to; None for one that is about what was asked for."""
    if is_passing(error):
        return OutboxUncertain(f"the outbox {name} was busy: {_said(error)}; put it again")
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if not code.startswith(_CUT_OFF):
            return None if code.startswith(_VALUES) else out_of_reach(name, error)
    elif isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # A value that does not fit its parameter: nothing was sent.
        return None
    elif not isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError | EOFError):
        return None
    return OutboxUncertain(f"{out_of_reach(name, error)} (it may have been stored all the same)")


def _remedy(error: BaseException) -> str:
    if isinstance(error, asyncpg.ClientConfigurationError):
        return "correct the URL that the outbox is given"
    if not isinstance(error, asyncpg.PostgresError):
        return "see that the server runs, and that this machine may reach it"
    if "startup parameter" in str(error):
        # PgBouncer's words, in every mode, under a code that it has for much else.
        return _POOLER
    code = error.sqlstate or ""
    return next((remedy for prefix, remedy in _REMEDIES if code.startswith(prefix)), "see what the server's log says")


def _said(error: BaseException) -> str:
    """An error in one line. Its details and hints are for the server's log."""
    return str(error).partition("\n")[0] or type(error).__name__

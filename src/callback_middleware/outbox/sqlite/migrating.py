"""Bringing a file up to date on demand, and what that would take. An outbox does it when it opens the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from callback_middleware.errors import ConfigurationError
from callback_middleware.outbox.sqlite import migrations
from callback_middleware.outbox.sqlite.faults import NewerFile, meaning
from callback_middleware.outbox.sqlite.file import open_writer, version


def pending(path: Path) -> Sequence[str]:
    """The steps that the file lacks, by their numbers. Nothing is changed.

    Args:
        path: Absolute.

    Raises:
        ConfigurationError: A newer release of this library has written it.
        OutboxUnavailable: It is not ours, or cannot be read.
    """
    with _told(path):
        return [f"{number:04}" for number in range(version(path) + 1, len(migrations.steps()) + 1)]


def migrate(path: Path) -> Sequence[str]:
    """Bring the file up to date; made if it is not there. Returns the steps that it lacked. Raises as :func:`pending`.

    Other processes may use it meanwhile, and may have taken a step first.
    """
    lacking = pending(path)
    with _told(path):
        open_writer(path).close()
    return lacking


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except NewerFile as error:
        raise ConfigurationError(*error.args) from error
    except sqlite3.Error as error:
        raise meaning(path, error) from error

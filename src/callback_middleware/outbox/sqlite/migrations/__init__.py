"""The schema, as numbered steps: each an SQL file of its own, never changed once it is released."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from importlib.resources import files


def steps() -> Sequence[str]:
    """The SQL of every step; the first one makes version 1."""
    found = sorted(
        (file for file in files(__name__).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [file.read_text(encoding="utf-8") for file in found]


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: a script run whole would end the transaction it stands in."""
    gathered = ""
    for line in script.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""

"""The schema, as numbered steps: each an SQL file of its own, never changed once it is released."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Step(NamedTuple):
    """One file.

    Attributes:
        number: From 1; the version that the schema has when it was applied.
        name: As its file is called: ``0001_tables``.
        script: SQL, which expects the schema first in the search path.
    """

    number: int
    name: str
    script: str


@cache
def steps() -> Sequence[Step]:
    """Every step, in their order. Read once."""
    found = sorted(
        (file for file in files(__name__).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [
        Step(number, file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for number, file in enumerate(found, 1)
    ]

"""What the docs tell operators to ask a database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from postgres_server import DatabaseServer

DEPLOYMENT = Path(__file__).parents[3] / "docs" / "deployment.md"
QUESTIONS = re.findall(r"^\| `(SELECT [^`]*)`", DEPLOYMENT.read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_questions() -> None:
    assert len(QUESTIONS) == 4


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_to_be_watched_can_be_asked(question: str, fresh: str, postgres_server: DatabaseServer) -> None:
    assert postgres_server.execute(question, database=fresh) in ([], [(0,)], [(0, None)])

"""What a file lacks, and how it gets it without an outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlite_setting import ask, tell

from callback_middleware.errors import ConfigurationError, OutboxUnavailable
from callback_middleware.outbox.sqlite import migrations
from callback_middleware.outbox.sqlite.file import open_writer
from callback_middleware.outbox.sqlite.migrating import migrate, pending

NEXT = "CREATE TABLE later (id INTEGER PRIMARY KEY);\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "callbacks.db"


@pytest.fixture
def all_steps() -> list[str]:
    return [f"{number:04}" for number in range(1, len(migrations.steps()) + 1)]


def test_a_file_that_is_not_there_lacks_every_step_and_is_not_made_by_asking(path: Path, all_steps: list[str]) -> None:
    assert pending(path) == all_steps
    assert not path.exists()


def test_an_empty_file_lacks_every_step(path: Path, all_steps: list[str]) -> None:
    path.touch()
    assert pending(path) == all_steps


def test_it_is_made_and_lacks_nothing_then(path: Path, all_steps: list[str]) -> None:
    assert migrate(path) == all_steps
    assert ask(path, "PRAGMA user_version") == [(len(all_steps),)]
    assert (pending(path), migrate(path)) == ([], [])


def test_an_older_file_lacks_what_came_later(path: Path, all_steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    open_writer(path).close()
    steps = [*migrations.steps(), NEXT]
    monkeypatch.setattr(migrations, "steps", lambda: steps)
    later = [f"{len(steps):04}"]
    assert pending(path) == later
    assert ask(path, "PRAGMA user_version") == [(len(all_steps),)]
    assert migrate(path) == later
    assert ask(path, "PRAGMA user_version") == [(len(steps),)]


@pytest.mark.parametrize("do", [pending, migrate])
def test_a_newer_file_is_refused_and_not_changed(do: Callable[[Path], Sequence[str]], path: Path) -> None:
    open_writer(path).close()
    tell(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"its schema is version 99, .* upgrade callback_middleware"):
        do(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("do", [pending, migrate])
def test_another_applications_database_is_refused_and_not_changed(
    do: Callable[[Path], Sequence[str]], path: Path
) -> None:
    tell(path, "CREATE TABLE users (name)")
    before = path.read_bytes()
    with pytest.raises(OutboxUnavailable, match="another application's database"):
        do(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("do", [pending, migrate])
def test_what_is_no_database_says_so(do: Callable[[Path], Sequence[str]], path: Path) -> None:
    path.write_bytes(b"invoices of 2030\n" * 100)
    with pytest.raises(OutboxUnavailable, match=r"callbacks\.db .*no SQLite database"):
        do(path)


@pytest.mark.parametrize("do", [pending, migrate])
def test_a_folder_that_is_not_there_is_told(do: Callable[[Path], Sequence[str]], path: Path) -> None:
    with pytest.raises(OutboxUnavailable, match="there is no folder"):
        do(path.parent / "missing" / path.name)

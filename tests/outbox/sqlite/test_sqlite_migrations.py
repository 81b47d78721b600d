"""Whatever steps there will be: these hold for every one of them, and for the next."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_setting import SQLiteSetting, ask, tell

from callback_middleware import SQLiteOutbox
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.outbox.sqlite import migrations
from callback_middleware.outbox.sqlite.file import open_writer
from callback_middleware.testing import VirtualClock

STEPS = migrations.steps()
NEXT = "CREATE TABLE later (id INTEGER PRIMARY KEY);\nALTER TABLE delivery ADD COLUMN later TEXT DEFAULT 'new';\n"


def schema(path: Path) -> list[tuple[str, str]]:
    return [tuple(row) for row in ask(path, "SELECT type, name FROM sqlite_schema ORDER BY type, name")]


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_a_step_is_read_to_its_end(number: int) -> None:
    step = STEPS[number - 1]

    read = "".join(migrations.statements(step))

    assert step.removeprefix(read).strip() == ""


def test_a_semicolon_in_a_trigger_ends_no_statement() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM b;\n  DELETE FROM c;\nEND;\n"

    assert list(migrations.statements(f"-- why\n{trigger}SELECT 1;\n")) == [f"-- why\n{trigger}", "SELECT 1;\n"]


class TestMigrations(SQLiteSetting):
    def known(self, monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
        """Have the library know these steps alone."""
        monkeypatch.setattr(migrations, "steps", lambda: steps)

    @pytest.mark.parametrize("start", range(1, len(STEPS) + 1))
    def test_a_file_of_every_version_becomes_what_a_new_one_is(
        self, path: Path, start: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.known(monkeypatch, *STEPS[:start])
        open_writer(path).close()
        assert ask(path, "PRAGMA user_version") == [(start,)]

        self.known(monkeypatch, *STEPS, NEXT)
        open_writer(path).close()
        open_writer(path.with_name("new.db")).close()

        assert ask(path, "PRAGMA user_version") == [(len(STEPS) + 1,)]
        assert schema(path) == schema(path.with_name("new.db"))

    async def test_what_was_put_before_a_step_is_there_after_it(
        self, path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = SQLiteOutbox(path, clock=clock)
        waiting, sent = self.delivery(clock, due_in=timedelta(days=1)), self.delivery(clock, dedupe="key")
        await self.put_and_end(old, clock, sent)
        await self.put(old, waiting)
        ended = await old.get(sent.id)
        await old.aclose()

        self.known(monkeypatch, *STEPS, NEXT)
        new = SQLiteOutbox(path, clock=clock)

        assert await new.get(waiting.id) == waiting
        assert await new.get(sent.id) == ended
        assert len(await new.attempts(sent.id)) == 1
        await new.aclose()
        assert ask(path, "SELECT DISTINCT later FROM delivery") == [("new",)]

    def test_a_step_that_fails_leaves_the_file_as_it_was(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_writer(path).close()
        before = schema(path)
        self.known(monkeypatch, *STEPS, NEXT + "DROP TABLE nowhere;\n")

        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            open_writer(path)

        assert ask(path, "PRAGMA user_version") == [(len(STEPS),)]
        assert schema(path) == before

    def test_who_knows_fewer_steps_says_to_upgrade(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known(monkeypatch, *STEPS, NEXT)
        open_writer(path).close()
        self.known(monkeypatch, *STEPS)

        with pytest.raises(OutboxUnavailable, match=f"version {len(STEPS) + 1}, and this library knows {len(STEPS)}"):
            open_writer(path)

    def test_a_file_that_is_up_to_date_is_not_written(self, path: Path) -> None:
        open_writer(path).close()
        before = path.read_bytes()

        open_writer(path).close()

        assert path.read_bytes() == before

    def test_two_who_take_the_same_step_take_it_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each looks at the version again when nobody else can change it."""
        open_writer(path).close()
        self.known(monkeypatch, *STEPS, NEXT)
        taken: list[str] = []

        class Late(sqlite3.Connection):
            """Before it has its lock, another process has taken the step."""

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if statement == "BEGIN EXCLUSIVE" and not taken:
                    taken.append(NEXT)
                    tell(path, *migrations.statements(NEXT), f"PRAGMA user_version = {len(STEPS) + 1}")
                return super().execute(statement, *parameters)

        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Late))

        open_writer(path).close()

        assert taken == [NEXT]
        assert ask(path, "PRAGMA user_version") == [(len(STEPS) + 1,)]

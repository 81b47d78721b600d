"""The house holds: modules import only from the lines below, and none is two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src").rglob("*.py"))


def test_a_module_imports_only_from_the_lines_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == os.EX_OK, capsys.readouterr().out


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_module_of_more_than_300_lines_was_two(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 300


def test_no_module_is_named_after_nothing() -> None:
    assert not {path.stem for path in MODULES} & {"base", "common", "helpers", "misc", "models", "util", "utils"}

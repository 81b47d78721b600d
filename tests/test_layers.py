"""The house holds: modules import only from the lines below, and none is two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src").rglob("*.py"))


def test_a_module_imports_only_from_the_lines_below_it() -> None:
    # In a process of its own: it configures logging for itself.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_module_of_more_than_300_lines_was_two(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 300


def test_no_module_is_named_after_nothing() -> None:
    assert not {path.stem for path in MODULES} & {"base", "common", "helpers", "misc", "models", "util", "utils"}

"""No claim without a test: every row of the security page names one that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "security.md", ROOT / "SECURITY.md"]

NAMED = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)*)`")
HEADER = ["attack", "rule", "test"]


def rows(page: Path) -> Iterator[Sequence[str]]:
    """The rows of the page's tables of attacks."""
    header: Sequence[str] | None = None
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if header is None:
            header = cells
        elif header == HEADER and not set(line) <= set("|- "):
            yield cells


def defined(path: Path) -> set[str]:
    """Every test of a file, by its class and name."""
    found = {""}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if _is_test(part)} | {node.name}
        elif _is_test(node):
            found.add(node.name)
    return found


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for named in NAMED.findall(page.read_text()):
        path, _, test = named.partition("::")
        assert (ROOT / path).is_file(), named
        assert test in defined(ROOT / path), named


def test_every_attack_has_a_rule_and_a_test() -> None:
    table = list(rows(PAGES[0]))
    assert len(table) >= 50
    for cells in table:
        assert len(cells) == len(HEADER), cells
        attack, rule, tests = cells
        assert attack
        assert rule
        assert NAMED.findall(tests), attack

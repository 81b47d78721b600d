"""Every Python snippet of the README and the docs runs as it stands: one page, one namespace, in order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

# Those that say that they need PostgreSQL have a test of their own, which gives them one.
SNIPPET = re.compile(r"^```python(?! postgres)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_runs(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = page.read_text()
    # Files that a snippet names are its reader's.
    monkeypatch.chdir(tmp_path)
    # A module like any other: frameworks look up annotations, and Django its URLs, by a module's name.
    module = ModuleType(f"page_{page.stem.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for found in SNIPPET.finditer(text):
        line = text.count("\n", 0, found.start(1))
        # Blank lines first, so that a failure names the page's own line.
        exec(compile("\n" * line + found[1], str(page), "exec"), vars(module))  # noqa: S102 - that is the test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target

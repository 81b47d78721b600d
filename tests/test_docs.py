"""Every Python snippet of the README and the docs runs as it stands: one page, one namespace, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

SNIPPET = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")


# Loading a framework for the first time reads files, and so may a page.
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_runs(page: Path) -> None:
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": page.stem}
    for found in SNIPPET.finditer(text):
        line = text.count("\n", 0, found.start(1))
        # Blank lines first, so that a failure names the page's own line.
        exec(compile("\n" * line + found[1], str(page), "exec"), namespace)  # noqa: S102 - that is the test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target

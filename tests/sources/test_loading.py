"""Documents as mappings and as files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from callback_middleware.errors import DocumentError
from callback_middleware.sources.loading import load, version_of

YAML = """
openapi: 3.1.0
created: 2026-11-22
x:
  on: 2XX
  yes: no
  010: 010
  hex: 0x10
  float: 1.5e3
  empty:
  bool: true
  text: "010"
base: &base {a: 1}
merged:
  <<: *base
responses:
  200: {description: ok}
"""


def test_a_mapping_is_taken_as_it_is() -> None:
    document = {"openapi": "3.0.3"}
    assert load(document) is document
    assert version_of(document) == (3, 0)


@pytest.mark.parametrize("version", ["3.0.0", "3.0.4", "3.1.1", "3.2.0"])
def test_these_versions_are_understood(version: str) -> None:
    load({"openapi": version})


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"swagger": "2.0"}, "Swagger 2.0, which has no callbacks"),
        ({}, "does not say which version"),
        ({"openapi": "4.0.0"}, r"openapi: '4\.0\.0'"),
        ({"openapi": 3.1}, "written as text"),
    ],
)
def test_other_documents_are_refused(document: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint):
        load(document)


def test_yaml_is_read_as_the_json_that_it_means(tmp_path: Path) -> None:
    """OpenAPI asks for YAML 1.2: no dates, no ``on`` and ``no`` as booleans, no octal numbers."""
    path = tmp_path / "api.yaml"
    path.write_text(YAML)
    document = load(path)
    assert document["created"] == "2026-11-22"
    assert document["x"] == {
        "on": "2XX",
        "yes": "no",
        10: 10,
        "hex": 16,
        "float": 1500.0,
        "empty": None,
        "bool": True,
        "text": "010",
    }
    assert document["merged"] == {"a": 1}
    assert list(document["responses"]) == [200]


def test_json_is_read_by_its_name_or_as_yaml(tmp_path: Path) -> None:
    for name in ("api.json", "api.JSON", "api", "api.yml"):
        path = tmp_path / name
        path.write_text(json.dumps({"openapi": "3.1.0"}))
        assert load(str(path)) == {"openapi": "3.1.0"}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", "{", "no JSON"),
        ("a.json", "[]", "holds no object"),
        ("a.yaml", "a: [", "no YAML"),
        ("a.yaml", "- a", "holds no object"),
        ("a.yaml", "a: !!python/name:os.system x", "no YAML"),
    ],
)
def test_a_file_that_is_no_document_names_the_file(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DocumentError, match=rf"{name} .*{complaint}|{name}.*{complaint}"):
        load(path)


def test_a_file_that_is_not_there_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.yaml: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_yaml_without_the_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DocumentError, match=r"callback_middleware\[openapi\]"):
        load(path)

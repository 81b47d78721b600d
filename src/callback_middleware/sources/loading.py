"""Reading an OpenAPI document: a mapping as it is, a file as JSON or YAML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from callback_middleware.errors import DocumentError

_VERSIONS: Final = ("3.0", "3.1", "3.2")

# The core schema of YAML 1.2, which OpenAPI asks for: PyYAML's own is that of 1.1, where "on" and "no" are booleans
# and 2026-11-22 is a date, none of which JSON has.
_PLAIN_SCALARS: Final = {
    "tag:yaml.org,2002:null": r"~|null|Null|NULL|",
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+",
    "tag:yaml.org,2002:float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
    "tag:yaml.org,2002:merge": r"<<",
}


def load(openapi: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    """The document, of a version that is understood.

    Args:
        openapi: The document itself, or the path of a file: JSON if it is called so, else YAML, of which JSON is a
            part.

    Raises:
        DocumentError: It cannot be read, is no OpenAPI document, or is of another version.
    """
    if isinstance(openapi, Mapping):
        return _understood(openapi, "the document")
    path = Path(openapi)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror or error}") from error
    document = _json(content, path) if path.suffix.lower() == ".json" else _yaml(content, path)
    if not isinstance(document, Mapping):
        raise DocumentError(f"{path} holds no object, so it is no OpenAPI document")
    return _understood(document, str(path))


def version_of(document: Mapping[str, Any]) -> tuple[int, int]:
    """Major and minor version of a document that :func:`load` has accepted."""
    major, minor = str(document["openapi"]).split(".")[:2]
    return int(major), int(minor)


def _understood(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    version = document.get("openapi")
    if version is None and "swagger" in document:
        raise DocumentError(
            f"{name} is Swagger {document['swagger']}, which has no callbacks: convert it to OpenAPI 3.0 or later"
        )
    if not isinstance(version, str) or ".".join(version.split(".")[:2]) not in _VERSIONS:
        said = "does not say which version of OpenAPI it is" if version is None else f"says openapi: {version!r}"
        raise DocumentError(f"{name} {said}; 3.0, 3.1 and 3.2 are understood, written as text: '3.1.0'")
    return document


def _json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is no JSON: {error}") from error


def _yaml(content: bytes, path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise DocumentError(
            f"{path} is YAML, and reading that takes the extra: pip install 'callback_middleware[openapi]'"
        ) from None

    class Loader(yaml.SafeLoader):
        """Safe, and of YAML 1.2."""

        yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to say which plain scalars mean what

    # By the old rules 010 would be eight.
    Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value, 16 if "x" in node.value else 10))
    for tag, pattern in _PLAIN_SCALARS.items():
        Loader.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})\Z"), None)
    try:
        return yaml.load(content, Loader)  # noqa: S506 - Loader is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is no YAML: {error}") from error

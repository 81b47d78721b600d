"""Operations that an OpenAPI document describes, 3.0 to 3.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from callback_middleware.errors import DocumentError
from callback_middleware.operations import Callback, Operation
from callback_middleware.sources.documented_callbacks import (
    Dialect,
    Functions,
    documented_callbacks,
    operations_in,
    referred_schema,
)
from callback_middleware.sources.documented_names import names_at
from callback_middleware.sources.encoding import is_json
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.loading import load, version_of
from callback_middleware.sources.references import Place, References
from callback_middleware.sources.schemas import can_check

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")

UNCHECKED: Final = (
    "what is sent is not checked against the document's schemas: pip install 'callback_middleware[openapi]'"
)


@dataclass(frozen=True, slots=True, eq=False)
class DocumentedOperation:
    """An operation that a document describes, its callbacks not compiled yet.

    Attributes:
        method: Upper case.
        path: Its path template.
        bases: Path prefixes under which it is served, ``""`` among them: a proxy may take them off.
        path_item: Where its path item stands.
        place: Where it stands.
        has_callbacks: Whether it documents any.
    """

    method: str
    path: str
    bases: Sequence[str]
    path_item: Place
    place: Place
    has_callbacks: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Document:
    """An OpenAPI document, and the operations in it.

    Attributes:
        operations: All of them, those without callbacks too: their paths may be more concrete than others'.

    Raises:
        DocumentError: It cannot be read.
    """

    def __init__(
        self, openapi: Mapping[str, Any] | str | os.PathLike[str], findings: Findings, *, strict: bool
    ) -> None:
        root = load(openapi)
        self._findings = findings
        self._root = Place(root)
        self._dialect = Dialect(References(lambda: root), version_of(root), strict)
        self.operations: Sequence[DocumentedOperation] = tuple(self._documented())
        self._by_path: dict[tuple[str, str], DocumentedOperation] = {}
        for documented in self.operations:
            for base in documented.bases:
                self._by_path.setdefault((documented.method, base + documented.path), documented)
        if not can_check() and any(documented.has_callbacks for documented in self.operations):
            findings.warn("openapi=", UNCHECKED)

    def at(self, method: str, path: str) -> DocumentedOperation | None:
        """The operation of this method at this very path template, with or without a server's base path."""
        return self._by_path.get((method, path))

    def compile(
        self, documented: DocumentedOperation, *, handler_sends: bool | None = None, functions: Functions | None = None
    ) -> Operation | None:
        """The operation with its callbacks; None if there is something wrong with every one of them.

        Args:
            documented: One of ``operations``.
            handler_sends: What is known of its handler.
            functions: What ``send`` may name its callbacks by.
        """
        findings, references = self._findings, self._dialect.references
        callbacks: list[Callback] = []
        with findings.at(f"{documented} ({documented.place.pointer})"):
            callbacks += documented_callbacks(
                documented.place.child("callbacks"),
                str(documented),
                findings,
                self._dialect,
                names=names_at(documented.path_item, documented.place, references),
                response=_response_schema(documented.place, references),
                functions=functions or {},
            )
        return findings.operation(documented.method, documented.path, callbacks, handler_sends=handler_sends)

    def _documented(self) -> Iterator[DocumentedOperation]:
        for path, item in self._root.child("paths").members():
            if path.startswith("x-"):
                continue
            with self._findings.at(f"{path} ({item.pointer})"):
                path_item = self._dialect.references.follow(item)
                for method, place in operations_in(path_item):
                    bases = _bases(place, path_item, self._root)
                    has_callbacks = bool(place.child("callbacks").object())
                    yield DocumentedOperation(method, path, bases, path_item, place, has_callbacks)


def _bases(place: Place, path_item: Place, root: Place) -> Sequence[str]:
    """The base paths of the nearest ``servers``, the longest first, and ``""``."""
    found = {""}
    for owner in (place, path_item, root):
        if owner.child("servers").value:
            for server in owner.child("servers").items():
                found |= set(_base_paths(server))
            break
    return sorted(found, key=len, reverse=True)


def _base_paths(server: Place) -> Iterator[str]:
    url = str(server.object().get("url", "/"))
    choices = {}
    for name, variable in server.child("variables").members():
        declared = variable.object()
        choices[name] = list(dict.fromkeys([declared.get("default", ""), *(declared.get("enum") or ())]))
    names = [name for name in dict.fromkeys(_VARIABLE.findall(url)) if name in choices]
    for values in product(*(choices[name] for name in names)):
        try:
            yield unquote(urlsplit(_filled(url, dict(zip(names, values, strict=True)))).path).rstrip("/")
        except ValueError:
            raise DocumentError(f"{server.pointer}/url: {url!r} is no URL") from None


def _filled(url: str, values: Mapping[str, object]) -> str:
    return _VARIABLE.sub(lambda variable: str(values.get(variable[1], variable[0])), url)


def _response_schema(operation: Place, references: References) -> str | None:
    """The ``$ref`` that is the schema of every successful JSON response of an operation; None if there is no one."""
    found = set()
    for status, item in operation.child("responses").members():
        if status.upper() != "2XX" and not (len(status) == len("200") and status.startswith("2")):
            continue
        for media_type, place in references.follow(item).child("content").members():
            if is_json(media_type):
                found.add(referred_schema(references.follow(place)))
    return found.pop() if len(found) == 1 else None

"""Requests whose operation only a document tells, by their method and path."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

from callback_middleware.operations import Operation
from callback_middleware.sources.document import Document, DocumentedOperation
from callback_middleware.sources.paths import PathTable, segments_of, without_base


@dataclass(frozen=True, slots=True)
class _Entry:
    bases: Sequence[str]
    operation: Operation | None


_Methods: TypeAlias = dict[str, _Entry]


class DocumentedPaths:
    """The paths of a document.

    Args:
        document: Where they stand.
        served: Those that need no look at the path, because a router tells them.
    """

    def __init__(self, document: Document, served: Collection[DocumentedOperation]) -> None:
        self._table: PathTable[_Methods] = PathTable()
        self._bases: list[str] = []
        rows: dict[str, _Methods] = {}
        for documented in document.operations:
            if documented not in served:
                operation = document.compile(documented) if documented.has_callbacks else None
                rows.setdefault(documented.path, {})[documented.method] = _Entry(documented.bases, operation)
        for path, methods in rows.items():
            self._table.add(path, methods)
        self._bases = sorted(
            {base for row in rows.values() for entry in row.values() for base in entry.bases}, key=_length
        )
        self.operations: Sequence[Operation] = tuple(
            entry.operation for row in rows.values() for entry in row.values() if entry.operation is not None
        )

    def find(self, scope: Mapping[str, Any]) -> Operation | None:
        """The operation of a request; None if it is not documented, or documents no callbacks."""
        return next((operation for operation, _ in self._found(scope)), None)

    def path_params(self, scope: Mapping[str, Any], operation: Operation) -> Mapping[str, str] | None:
        """The decoded path parameters of a request; None if it is not for this operation."""
        return next((params for found, params in self._found(scope) if found is operation), None)

    def _found(self, scope: Mapping[str, Any]) -> Iterator[tuple[Operation | None, Mapping[str, str]]]:
        # Servers disagree whether the path begins with the root path, and an application may be mounted.
        roots = dict.fromkeys(("", scope.get("app_root_path", ""), scope.get("root_path", "")))
        for whole, root in product(segments_of(scope), roots):
            below_root = without_base(whole, root)
            for base in self._bases if below_root is not None else ():
                segments = without_base(below_root or (), base)
                for methods, params in self._table.find(segments) if segments is not None else ():
                    entry = methods.get(scope["method"])
                    if entry is not None and base in entry.bases:
                        yield entry.operation, params


def _length(base: str) -> tuple[int, str]:
    return (-len(base), base)

"""The operations behind one route of a Starlette or FastAPI application."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from callback_middleware.operations import Callback, Operation
from callback_middleware.sources.document import Document, DocumentedOperation
from callback_middleware.sources.documented_callbacks import Dialect, documented_callbacks
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.references import Place, References
from callback_middleware.sources.routes import Leaf
from callback_middleware.sources.starlette import declared_callbacks, methods_of

_OF_FASTAPI: Final = (3, 1)
"""The version of OpenAPI that FastAPI publishes."""

_CONVERTOR: Final = re.compile(r"\{([^{}:]+):[^{}]*\}")


@dataclass(frozen=True, slots=True)
class LeafCompiler:
    """Makes the operations of routes.

    Attributes:
        app: The application, for what ``openapi_extra`` refers to.
        document: Instead of the routes it defines the callbacks, if there is one.
        strict: Refuse every spelling of an expression outside the specification's grammar.
        met: The operations of the document that some route serves.
    """

    app: Any
    document: Document | None
    strict: bool
    met: set[DocumentedOperation] = field(default_factory=set)

    def compile(self, leaf: Leaf, findings: Findings) -> Mapping[str, Operation]:
        """The operations of a route by the methods that reach them; those without callbacks are left out."""
        operations: dict[str, Operation] = {}
        for method, reaching in methods_of(leaf):
            operation = self._operation(leaf, method, findings)
            if operation is not None:
                operations.update(dict.fromkeys(reaching, operation))
        return operations

    def _operation(self, leaf: Leaf, method: str, findings: Findings) -> Operation | None:
        path = template_of(leaf.path)
        with findings.at(f"{method} {path}"):
            documented_by_fastapi = _is_fastapis(leaf)
            sends = _fastapi().sends_by_hand(leaf) if documented_by_fastapi else None
            if self.document is not None:
                functions = _fastapi().functions_at(leaf) if documented_by_fastapi else {}
                documented = self.document.at(method, path)
                if documented is None:
                    return None
                self.met.add(documented)
                return self.document.compile(documented, handler_sends=sends, functions=functions)
            callbacks = tuple(self._callbacks(leaf, method, path, findings))
            return findings.operation(method, path, callbacks, handler_sends=sends)
        return None

    def _callbacks(self, leaf: Leaf, method: str, path: str, findings: Findings) -> Iterator[Callback]:
        if _is_fastapis(leaf):
            dialect = Dialect(References(self._own_document), _OF_FASTAPI, self.strict)
            yield from _fastapi().route_callbacks(leaf, method, path, findings, dialect)
            extra = (leaf.view.openapi_extra or {}).get("callbacks")
            if extra:
                yield from documented_callbacks(
                    Place(extra, "openapi_extra/callbacks"),
                    f"{method} {path}",
                    findings,
                    dialect,
                    names=_fastapi().names_at(leaf),
                    response=None,
                    functions={},
                )
        yield from declared_callbacks(leaf, method, path, findings, strict=self.strict)

    def _own_document(self) -> Mapping[str, Any]:
        """What the application itself publishes: made for an ``openapi_extra`` that refers to it, and not kept."""
        made = getattr(self.app, "openapi_schema", None)
        try:
            return self.app.openapi() if hasattr(self.app, "openapi") else {}
        finally:
            if made is None and hasattr(self.app, "openapi_schema"):
                # Routes may be added yet, and FastAPI would not look again.
                self.app.openapi_schema = None


def template_of(path: str) -> str:
    """A router's path as OpenAPI writes it, without convertors: ``/files/{path:path}`` is ``/files/{path}``."""
    return _CONVERTOR.sub(r"{\1}", path)


def _is_fastapis(leaf: Leaf) -> bool:
    # Without FastAPI in the process no route can be one of its own, and nothing is imported to find that out.
    return "fastapi.routing" in sys.modules and _fastapi().is_documented(leaf)


def _fastapi() -> Any:
    from callback_middleware.sources import fastapi

    return fastapi

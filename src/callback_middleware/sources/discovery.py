"""Which operations of an application document callbacks, and which of them a request belongs to."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from callback_middleware.errors import InvalidConfiguration
from callback_middleware.operations import Operation
from callback_middleware.sources.document import Document
from callback_middleware.sources.documented_paths import DocumentedPaths
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.unknowns import UNROUTED, Opaque, Unrouted
from callback_middleware.sources.wrappers import routed

if TYPE_CHECKING:
    from callback_middleware.sources.routing import Routing

__all__ = ["UNROUTED", "Directory", "Unrouted", "announce", "discover"]

logger = logging.getLogger("callback_middleware")


def discover(
    app: object, openapi: Mapping[str, Any] | str | os.PathLike[str] | None, *, strict: bool = False
) -> Directory:
    """Look through an application, and compile every callback that it documents.

    Args:
        app: A FastAPI or Starlette application, something that wraps one, or any ASGI application.
        openapi: An OpenAPI document, or the path of its file. Given, it defines the callbacks; where the application
            has routes that can be seen, these still decide which operation a request belongs to.
        strict: Refuse every spelling of an expression outside the specification's grammar.

    Raises:
        DocumentError: The document cannot be read.
        InvalidConfiguration: With everything that is wrong.
    """
    findings = Findings()
    document = None if openapi is None else Document(openapi, findings, strict=strict)
    routing = _routing(app, document, findings, strict=strict)
    paths = None if document is None else _paths(document, routing, findings)
    if findings.errors:
        raise InvalidConfiguration(findings.errors)
    return Directory(routing, paths, findings.warnings)


class Directory:
    """The operations of one application, and which of them a request belongs to.

    Attributes:
        warnings: What is legal and hardly meant, each with where it stands.
    """

    def __init__(self, routing: Routing | None, paths: DocumentedPaths | None, warnings: Sequence[str]) -> None:
        self._routing = routing
        self._paths = paths
        self.warnings = tuple(warnings)

    @property
    def operations(self) -> Sequence[Operation]:
        """Those that document callbacks, each once."""
        routed_ones = () if self._routing is None else self._routing.operations
        return (*routed_ones, *(() if self._paths is None else self._paths.operations))

    def find(self, scope: Mapping[str, Any]) -> Operation | Unrouted | None:
        """The operation of a request, as its scope tells it; None if it documents no callbacks.

        :data:`UNROUTED` while no router has run on this scope, or none will because it got a copy of it. The cost is
        a few look-ups, however many routes there are; for a document without routes, the number of path segments.
        """
        if self._routing is None:
            return None if self._paths is None else self._paths.find(scope)
        found = self._routing.find(scope)
        if isinstance(found, Opaque):
            return None if self._paths is None else self._paths.find(scope)
        return found

    def rematch(self, scope: Mapping[str, Any]) -> Operation | None:
        """Like :meth:`find`, and where that is :data:`UNROUTED` the application's routes are asked once more."""
        found = self.find(scope)
        if found is not UNROUTED or self._routing is None:
            return found if isinstance(found, Operation) else None
        again = self._routing.rematch(scope)
        if isinstance(again, Opaque):
            return None if self._paths is None else self._paths.find(scope)
        return again

    def path_params(self, scope: Mapping[str, Any], operation: Operation) -> Mapping[str, Any]:
        """What the path of a request to this operation holds.

        The router's own values where it left them in the scope, else what the application's routes or the document
        make of the path, decoded.
        """
        left: Mapping[str, Any] = scope.get("path_params") or {}
        if self._paths is not None:
            read = self._paths.path_params(scope, operation)
            if read is not None:
                return {**read, **left}
        # A router that ran left something, if only an empty mapping: matching again costs as much as routing did.
        if "path_params" in scope or self._routing is None:
            return left
        return self._routing.path_params(scope)


def announce(directory: Directory) -> None:
    """Say what was found, what is hardly meant, and which callbacks nobody will ever send."""
    count = sum(len(operation.callbacks) for operation in directory.operations)
    level = logging.INFO if count else logging.WARNING
    logger.log(level, "%d callbacks on %d operations", count, len(directory.operations))
    for warning in directory.warnings:
        logger.warning("%s", warning)
    for operation in directory.operations:
        for callback in operation.unsendable:
            logger.warning(
                "%s → %s: nobody will ever send it: its handler takes no Callbacks, and it declares no payload "
                "(@deliver(payload=…) or x-callback)",
                operation,
                callback,
            )


def _routing(app: object, document: Document | None, findings: Findings, *, strict: bool) -> Routing | None:
    inner = routed(app)
    if inner is None:
        return None
    # Only now is it known that Starlette is there to be imported.
    from callback_middleware.sources.leaves import LeafCompiler
    from callback_middleware.sources.routing import Routing

    with findings.at("the application's routes"):
        return Routing(inner, LeafCompiler(inner, document, strict), findings)
    return None


def _paths(document: Document, routing: Routing | None, findings: Findings) -> DocumentedPaths | None:
    """The documented paths that no route serves: all of them, or those of applications that are mounted unseen."""
    served = frozenset() if routing is None else routing.documented
    if routing is None or routing.opaque:
        return DocumentedPaths(document, served)
    for documented in document.operations:
        if documented.has_callbacks and documented not in served:
            findings.warn(str(documented), f"no route of the application serves it ({documented.place.pointer})")
    return None

"""Which route a request took, read from its scope, and the operation behind it.

Routers leave their choice in the scope, each version in another way: Starlette before 1.7 only ``endpoint``, later
``route`` too, FastAPI ``route`` for its own kind of route alone, and for an included one the route as it was declared
beside a private context. The endpoint is what all of them tell, so a route counts only if it agrees.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from callback_middleware.operations import Operation
from callback_middleware.sources.document import DocumentedOperation
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.leaves import LeafCompiler
from callback_middleware.sources.routes import Branch, Found, Leaf, Node, RouteKey, branches, leaves, match, tree_of
from callback_middleware.sources.unknowns import OPAQUE, UNROUTED, Opaque, Unrouted
from callback_middleware.sources.wrappers import routed

logger = logging.getLogger("callback_middleware")

_MOST_STRANGERS: Final = 1000
"""Endpoints that no route of ours has: kept, so that each is looked for once."""


@dataclass(frozen=True, slots=True)
class Served:
    """A route, and its operations by the methods that reach them.

    Attributes:
        endpoint: The route's when it was looked at: FastAPI's routes work it out anew at every question.
    """

    leaf: Leaf
    endpoint: object
    operations: Mapping[str, Operation]


@dataclass(frozen=True, slots=True)
class Stranger:
    """An endpoint that belongs to no known route: of an application around ours, for example."""

    endpoint: object
    holds_routes: bool


Endpoint: TypeAlias = Sequence[Served] | Branch | Stranger


@dataclass(frozen=True, slots=True)
class Tables:
    """One look at the application's routes. It holds what it is keyed by, so that no identity is used again.

    ``silent`` has the endpoints that document no callback at any of their routes.
    """

    nodes: Sequence[Node] = ()
    served: Mapping[RouteKey, Served] = field(default_factory=dict)
    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    silent: frozenset[int] = frozenset()


class Routing:
    """The routes of one application, and what was learned of those that were added later.

    Raises:
        ConfigurationError: The routes cannot be seen.
    """

    def __init__(self, app: Any, compiler: LeafCompiler, findings: Findings) -> None:
        self._app = app
        self._compiler = compiler
        self._count = len(app.routes)
        # Replaced as a whole and never changed, so that threads need no lock.
        self._tables = self._look(Tables(), findings)

    @property
    def operations(self) -> Sequence[Operation]:
        """Those that have callbacks, each once, in the order of their routes."""
        listed: dict[str, Operation] = {}
        for served in self._tables.served.values():
            for operation in served.operations.values():
                listed.setdefault(str(operation), operation)
        return tuple(listed.values())

    @property
    def opaque(self) -> bool:
        """Whether something is mounted of which nothing is known."""
        return any(branch.nodes is None for branch in branches(self._tables.nodes))

    @property
    def documented(self) -> frozenset[DocumentedOperation]:
        """The operations of the document that some route serves."""
        return frozenset(self._compiler.met)

    def find(self, scope: Mapping[str, Any]) -> Operation | Opaque | Unrouted | None:
        """The operation of a request, by what routers have left in its scope."""
        endpoint = scope.get("endpoint")
        # Most requests end here, and pay for nothing else.
        if id(endpoint) in self._tables.silent:
            return None
        route = scope.get("route")
        if endpoint is None and route is None:
            # A router that has looked at this very scope leaves itself in it, and has found nothing.
            return None if "router" in scope else UNROUTED
        served = self._tables.served.get(_key(route, scope))
        if served is not None and served.endpoint is endpoint:
            return served.operations.get(scope["method"])
        known = self._tables.endpoints.get(id(endpoint))
        return self._at(self._learn(endpoint) if known is None else known, scope)

    def rematch(self, scope: Mapping[str, Any]) -> Operation | Opaque | None:
        """The operation of a request whose scope does not tell, because the routers got a copy of it."""
        found = self._locate(scope)
        if isinstance(found, Branch):
            return OPAQUE
        return None if found is None else self._tables.served[found.leaf.key].operations.get(scope["method"])

    def path_params(self, scope: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the routers would find in the path of such a request."""
        found = self._locate(scope)
        return found.path_params if isinstance(found, Found) else {}

    def _locate(self, scope: Mapping[str, Any]) -> Found | Branch | None:
        inside = self._tables.endpoints.get(id(scope.get("endpoint")))
        if isinstance(inside, Branch):
            # The mount has changed the scope already, so that only what is in it can be matched.
            return inside if inside.nodes is None else match(inside.nodes, scope)
        # FastAPI puts its own root path into the scope that it gets, which may be the copy.
        root_path = getattr(self._app, "root_path", "") or scope.get("root_path", "")
        found = match(self._tables.nodes, {**scope, "root_path": root_path})
        if found is None and len(self._app.routes) != self._count:
            self._relook()
            found = match(self._tables.nodes, {**scope, "root_path": root_path})
        return found

    def _at(self, endpoint: Endpoint, scope: Mapping[str, Any]) -> Operation | Opaque | Unrouted | None:
        if isinstance(endpoint, Branch):
            if endpoint.nodes is None:
                return OPAQUE
            return (
                UNROUTED if any(self._tables.served[leaf.key].operations for leaf in leaves(endpoint.nodes)) else None
            )
        if isinstance(endpoint, Stranger):
            return UNROUTED if endpoint.holds_routes else None
        chosen = endpoint[0]
        if len(endpoint) > 1:
            found = match([served.leaf for served in endpoint], scope)
            chosen = next(
                (served for served in endpoint if isinstance(found, Found) and served.leaf is found.leaf), chosen
            )
        return chosen.operations.get(scope["method"])

    def _learn(self, endpoint: object) -> Endpoint:
        """What an endpoint is that was not there at start-up."""
        strangers = sum(isinstance(known, Stranger) for known in self._tables.endpoints.values())
        if strangers < _MOST_STRANGERS:
            self._relook()
            stranger = Stranger(endpoint, holds_routes=routed(endpoint) is not None)
            return self._tables.endpoints.setdefault(id(endpoint), stranger)
        return Stranger(endpoint, holds_routes=False)

    def _relook(self) -> None:
        findings = Findings()
        self._count = len(self._app.routes)
        try:
            with findings.at("the application's routes"):
                self._tables = self._look(self._tables, findings)
        except Exception:
            # Whatever a route does when it is looked at: the application is serving, and its answers are not harmed.
            logger.exception("the callbacks of routes that were added later are not sent")
        for where, error in findings.errors:
            logger.error("callback of a route that was added later is not sent: %s: %s", where, error)
        for warning in findings.warnings:
            logger.warning("%s", warning)

    def _look(self, before: Tables, findings: Findings) -> Tables:
        nodes = tree_of(self._app)
        served = dict(before.served)
        endpoints: dict[int, Endpoint] = {
            key: known for key, known in before.endpoints.items() if isinstance(known, Stranger)
        }
        for leaf in leaves(nodes):
            if leaf.key not in served:
                known = len(findings.errors)
                operations = self._compiler.compile(leaf, findings)
                # Nothing at all of a route of which something is wrong: half of what it documents would be a surprise.
                served[leaf.key] = Served(leaf, leaf.endpoint, operations if len(findings.errors) == known else {})
        by_endpoint: dict[int, list[Served]] = {}
        for one in served.values():
            by_endpoint.setdefault(id(one.leaf.endpoint), []).append(one)
        endpoints.update((key, tuple(several)) for key, several in by_endpoint.items())
        endpoints.update((id(branch.endpoint), branch) for branch in branches(nodes))
        silent = {key for key, several in by_endpoint.items() if not any(one.operations for one in several)}
        return Tables(nodes, served, endpoints, frozenset(silent))


def _key(route: Any, scope: Mapping[str, Any]) -> RouteKey:
    context = None
    of_fastapi = scope.get("fastapi")
    if of_fastapi is not None:
        context = of_fastapi.get("effective_route_context")
        # One that a router further out has left is not this route's.
        if context is not None and context.original_route is not route:
            context = None
    return (id(route), getattr(route if context is None else context, "path_format", ""))

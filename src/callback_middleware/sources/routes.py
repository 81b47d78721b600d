"""The tree of a Starlette or FastAPI application's routes, in whichever way its version lays it out.

FastAPI before 0.137 copies an included router's routes into the application; since then it keeps one entry per
included router, and what a route inherits from it (prefix, callbacks, dependencies) is known only to a route
*context*. Both look the same from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.routing import BaseRoute, Host, Match, Mount

from callback_middleware.errors import ConfigurationError
from callback_middleware.sources.wrappers import routed

RouteKey: TypeAlias = tuple[int, str]
"""Tells routes apart: the identity of the declared one, and the path template it has where it is included."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A route that answers requests itself.

    Attributes:
        view: What has its effective attributes: ``methods``, ``callbacks``, ``dependant``, …
        original: The route as it was declared.
        path: Its path template, with the prefixes of everything that it is in.
    """

    view: Any
    original: BaseRoute
    path: str

    @property
    def key(self) -> RouteKey:
        return (id(self.original), self.view.path_format)

    @property
    def endpoint(self) -> Any:
        return self.view.endpoint


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A mount or host.

    Attributes:
        view: What matches requests.
        nodes: The routes in it; None where it holds an application of which nothing is known.
    """

    view: Any
    nodes: Sequence[Node] | None

    @property
    def endpoint(self) -> Any:
        """The application in it, as the scope of a request has it."""
        return self.view.app


Node: TypeAlias = Leaf | Branch


@dataclass(frozen=True, slots=True)
class Found:
    """The route of a request, and what the request's path holds."""

    leaf: Leaf
    path_params: Mapping[str, Any]


def tree_of(app: Any) -> Sequence[Node]:
    """Every HTTP route of an application, in the order in which its router asks them.

    Raises:
        ConfigurationError: FastAPI 0.137.0 or 0.137.1, which have no public way to see included routes.
    """
    return tuple(_nodes(app, "", ()))


def flattened(routes: Iterable[BaseRoute]) -> Iterator[tuple[Any, BaseRoute]]:
    """Every route, those of included routers among them: its effective attributes, and as it was declared.

    Raises:
        ConfigurationError: As of :func:`tree_of`.
    """
    routing: Any = sys.modules.get("fastapi.routing")
    listed = list(routes)
    contexts = getattr(routing, "iter_route_contexts", None)
    if contexts is not None:
        for context in contexts(listed):
            # A route of Starlette's is included as a copy; not every version's context passes its attributes on.
            yield getattr(context, "starlette_route", None) or context, context.original_route
        return
    lazy = getattr(routing, "_IncludedRouter", None)
    if lazy is not None and any(isinstance(route, lazy) for route in listed):
        raise ConfigurationError("this FastAPI hides the routes of included routers: upgrade it to 0.137.2 or later")
    for route in listed:
        yield route, route


def leaves(nodes: Iterable[Node]) -> Iterator[Leaf]:
    """Every leaf, in the order of :func:`tree_of`."""
    for node in nodes:
        if isinstance(node, Leaf):
            yield node
        else:
            yield from leaves(node.nodes or ())


def branches(nodes: Iterable[Node]) -> Iterator[Branch]:
    """Every branch, the outer ones first."""
    for node in nodes:
        if isinstance(node, Branch):
            yield node
            yield from branches(node.nodes or ())


def match(nodes: Iterable[Node], scope: Mapping[str, Any]) -> Found | Branch | None:
    """What a router with these routes would choose for a request. The scope is not touched.

    A branch is the answer where nothing is known of the routes in it, None where no route fits, or none for this
    method.
    """
    # These three are of another routing of the request, and FastAPI's matching would believe them.
    clean = {key: value for key, value in scope.items() if key not in ("fastapi", "endpoint", "route")}
    for node in nodes:
        verdict, child = node.view.matches(clean)
        if verdict is not Match.FULL:
            continue
        if isinstance(node, Leaf):
            return Found(node, child.get("path_params", {}))
        return node if node.nodes is None else match(node.nodes, {**clean, **child})
    return None


def _nodes(app: Any, prefix: str, within: Sequence[Any]) -> Iterator[Node]:
    for view, original in flattened(app.routes):
        if isinstance(original, Mount | Host):
            inner = routed(view.app) or routed(getattr(view, "_base_app", None))
            if inner is None or any(inner is outer for outer in within):
                yield Branch(view, None)
            else:
                below = prefix + view.path if isinstance(original, Mount) else prefix
                yield Branch(view, tuple(_nodes(inner, below, (*within, app))))
        elif hasattr(original, "endpoint") and hasattr(original, "methods"):
            yield Leaf(view, original, prefix + view.path)

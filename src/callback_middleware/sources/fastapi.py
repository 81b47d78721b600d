"""Callbacks that FastAPI's routes document: ``callbacks=`` of an operation, a router, an include, the application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fastapi.exceptions import FastAPIError
from fastapi.routing import APIRoute

from callback_middleware.errors import ConfigurationError
from callback_middleware.expressions.names import Names
from callback_middleware.operations import Body, Callback, compile_callback
from callback_middleware.options import EXTENSION, DeliveryOptions, from_extension, options_of
from callback_middleware.sources.dependants import body_annotation, callback_parameters, handler_sends, names_of
from callback_middleware.sources.documented_callbacks import Dialect
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.route_responses import route_responses
from callback_middleware.sources.routes import Leaf, flattened
from callback_middleware.sources.typed_bodies import names_a_shape, typed_body


def is_documented(leaf: Leaf) -> bool:
    """Whether a route is one of FastAPI's, which has callbacks, and not a plain one of Starlette's."""
    return isinstance(leaf.original, APIRoute)


def sends_by_hand(leaf: Leaf) -> bool | None:
    """Whether the handler of a route takes its callbacks in hand; None where that shows only in a request."""
    return handler_sends(leaf.view.dependant)


def names_at(leaf: Leaf) -> Names:
    """The names that a request to this route may carry."""
    return names_of(leaf.view.dependant, leaf.view.body_field)


def route_callbacks(leaf: Leaf, method: str, path: str, findings: Findings, dialect: Dialect) -> Iterator[Callback]:
    """The callbacks that a route documents with ``callbacks=``, those that it inherits among them, compiled."""
    names = names_at(leaf)
    for view in _callback_routes(leaf):
        where = f"{method} {path} → {view.name}"
        for callback_method in sorted(view.methods):
            with findings.at(where):
                body = _body(view)
                yield compile_callback(
                    name=view.name,
                    method=callback_method,
                    expression=view.path,
                    options=_options(view),
                    names=names,
                    function=view.endpoint,
                    body=body,
                    parameters=callback_parameters(view.dependant),
                    response_is_body=body is not None and _responds_with(leaf, view.body_field.field_info.annotation),
                    answers=findings.answers(where, partial(route_responses, view, dialect)),
                    strict=dialect.strict,
                )


def functions_at(leaf: Leaf) -> Mapping[tuple[str, str, str], Callable[..., Any]]:
    """The functions behind a route's callbacks, by name, method and expression."""
    return {(view.name, method, view.path): view.endpoint for view in _callback_routes(leaf) for method in view.methods}


def function_body(function: Callable[..., object]) -> Body | None:
    """The body that a callback's function declares, as FastAPI reads it, whatever route it stands at.

    Raises:
        ConfigurationError: FastAPI cannot read it.
    """
    try:
        # Which path and method is of no meaning: neither is a part of the body.
        return _body(APIRoute("/", function, methods=["POST"], response_model=None))
    except (FastAPIError, NameError) as error:
        raise ConfigurationError(f"FastAPI cannot read what {function!r} declares: {error}") from error


def _callback_routes(leaf: Leaf) -> Iterator[Any]:
    """Each callback once: a router's and an include's may be the same."""
    seen = set()
    for view, original in flattened(leaf.view.callbacks or ()):
        # As in FastAPI's own document, only its own kind of route describes a callback.
        if isinstance(original, APIRoute):
            key = (view.name, frozenset(view.methods), view.path, view.endpoint)
            if key not in seen:
                seen.add(key)
                yield view


def _body(view: Any) -> Body | None:
    if view.body_field is None:
        return None
    field = view.body_field.field_info
    annotation = body_annotation(view.dependant, view.body_field)
    return typed_body(annotation, media_type=field.media_type, required=field.is_required())


def _options(view: Any) -> DeliveryOptions:
    options = options_of(view.endpoint)
    extension = (view.openapi_extra or {}).get(EXTENSION)
    if extension is None:
        return options
    if options != DeliveryOptions():
        raise ConfigurationError(f"both @deliver and {EXTENSION} say how it is delivered: keep one")
    return from_extension(extension)


def _responds_with(leaf: Leaf, annotation: Any) -> bool:
    return names_a_shape(annotation) and leaf.view.response_model is annotation

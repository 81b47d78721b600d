"""Callbacks that are declared on a Starlette endpoint, where no document and no router tells of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Unpack

from callback_middleware.errors import ConfigurationError
from callback_middleware.operations import Body, Callback, compile_callback
from callback_middleware.options import UNSET, DeliveryArguments, DeliveryOptions, delivery_options
from callback_middleware.responses import AnswerCheck
from callback_middleware.sources.declared_responses import by_schema, json_content, responses
from callback_middleware.sources.encoding import JSON, json_bytes
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.routes import Leaf
from callback_middleware.sources.schemas import check_by_hand, schema_body

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__callbacks__"
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one ``@callback`` says."""

    name: str
    method: str
    expression: str
    body: Any
    response: Any
    options: DeliveryOptions


def callback(
    name: str,
    method: str,
    expression: str,
    *,
    body: Any = None,
    response: Any = None,
    **options: Unpack[DeliveryArguments],
) -> Callable[[Endpoint], Endpoint]:
    """Declare a callback of a Starlette endpoint.

    ::

        @callback("invoiceEvent", "POST", "{$request.query.callback_url}/{$request.body#/id}", body=InvoiceEvent)
        async def create_invoice(request: Request) -> Response: ...

    It stands on a function, on an ``HTTPEndpoint`` for all of its methods, or on one of its methods. Several may be
    stacked.

    Args:
        name: What ``send`` calls it.
        method: The HTTP method of the callback's request.
        expression: Where it goes: a runtime expression, or text with runtime expressions in braces.
        body: A Pydantic model (or another type that Pydantic knows), a JSON Schema as a mapping (``{}`` for any JSON),
            or None for a callback without a body. With a ``payload`` and no ``body``: any JSON.
        response: What the receiver answers with, in the same words; None for anything. An answer that differs is
            accepted, and told to operators.
        options: Those of :func:`~callback_middleware.options.deliver`, ``payload`` among them.

    Raises:
        ConfigurationError: An option that makes no sense, at import; the expression is looked at when the
            application starts.
    """
    declaration = Declaration(name, method, expression, body, response, delivery_options(**options))

    def attach(endpoint: Endpoint) -> Endpoint:
        # Decorators apply from the bottom up; a new tuple, because a subclass sees that of its parent.
        setattr(endpoint, _ATTRIBUTE, (declaration, *getattr(endpoint, _ATTRIBUTE, ())))
        return endpoint

    return attach


def methods_of(leaf: Leaf) -> Iterator[tuple[str, Sequence[str]]]:
    """The methods that an endpoint documents, each with those by which a request reaches it.

    A router answers HEAD with the handler of GET, so that is the same operation, unless HEAD has one of its own.
    """
    methods = leaf.view.methods
    answered = [method for method in _METHODS if methods is None or method in methods]
    answered += sorted(set(methods or ()) - set(_METHODS))
    if isinstance(leaf.endpoint, type):
        has_head = hasattr(leaf.endpoint, "head")
        answered = [
            method
            for method in answered
            if hasattr(leaf.endpoint, method.lower()) or (method == "HEAD" and hasattr(leaf.endpoint, "get"))
        ]
    else:
        # Starlette adds HEAD to every GET; without a GET somebody asked for it.
        has_head = "GET" not in answered
    for method in answered:
        if method == "GET" and "HEAD" in answered and not has_head:
            yield method, ("GET", "HEAD")
        elif method != "HEAD" or has_head:
            yield method, (method,)


def declared_callbacks(leaf: Leaf, method: str, path: str, findings: Findings, *, strict: bool) -> Iterator[Callback]:
    """The callbacks that are declared on an endpoint for one of its methods, compiled."""
    for declaration in _declarations(leaf.endpoint, method):
        with findings.at(f"{method} {path} → {declaration.name}"):
            yield compile_callback(
                name=declaration.name,
                method=declaration.method,
                expression=declaration.expression,
                options=declaration.options,
                body=_body(declaration),
                answers=_answers(declaration.response),
                strict=strict,
            )


def _declarations(endpoint: Any, method: str) -> Iterator[Declaration]:
    while isinstance(endpoint, functools.partial):
        yield from getattr(endpoint, _ATTRIBUTE, ())
        endpoint = endpoint.func
    yield from getattr(endpoint, _ATTRIBUTE, ())
    if isinstance(endpoint, type):
        yield from getattr(getattr(endpoint, method.lower(), None), _ATTRIBUTE, ())


def _body(declaration: Declaration) -> Body | None:
    declared = declaration.body
    if declared is None:
        return None if declaration.options.payload is UNSET else Body(JSON, required=True, encode=json_bytes)
    if isinstance(declared, Mapping):
        return schema_body(declared)
    try:
        from callback_middleware.sources.typed_bodies import typed_body
    except ImportError:
        raise ConfigurationError(
            f"body={declared!r} is checked by Pydantic, which is not installed: pip install pydantic"
        ) from None
    return typed_body(declared)


def _answers(declared: Any) -> AnswerCheck | None:
    if declared is None:
        return None
    if isinstance(declared, Mapping):
        check = by_schema(check_by_hand(declared, bounded=True))
    else:
        try:
            from callback_middleware.sources.typed_answers import answer_check
        except ImportError:
            raise ConfigurationError(
                f"response={declared!r} is checked by Pydantic, which is not installed: pip install pydantic"
            ) from None
        check = answer_check(declared)
    return responses({"2XX": [json_content(JSON, check)]})

"""Callback Objects of an OpenAPI document, compiled (OpenAPI 3.2, Callback Object; the same since 3.0)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from callback_middleware.errors import ConfigurationError, PayloadInvalid
from callback_middleware.expressions.names import Names
from callback_middleware.operations import Body, Callback, CallbackParameter, compile_callback
from callback_middleware.options import EXTENSION, DeliveryOptions, from_extension
from callback_middleware.planning import ParameterValue, text_of
from callback_middleware.responses import AnswerCheck
from callback_middleware.sources.declared_responses import documented_responses
from callback_middleware.sources.documented_names import parameters_of
from callback_middleware.sources.encoding import is_form, is_json
from callback_middleware.sources.findings import Findings
from callback_middleware.sources.references import Place, References
from callback_middleware.sources.schemas import Check, can_check, check_by, checked_body

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
"""The members of a Path Item Object that are operations; ``query`` since 3.2."""

Functions = Mapping[tuple[str, str, str], Callable[..., Any]]
"""The functions that ``send`` may name callbacks by, by name, method and expression."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one document is read.

    Attributes:
        references: Follows its references.
        version: Of OpenAPI, major and minor.
        strict: Refuse every spelling of an expression outside the specification's grammar.
    """

    references: References
    version: tuple[int, int]
    strict: bool

    def check(self, media_type_or_parameter: Place) -> Check | None:
        """The check of the ``schema`` at a place; None if there is none, or nothing to check it with."""
        return self._check(media_type_or_parameter, bounded=False)

    def answer_check(self, media_type: Place) -> Check | None:
        """The same for what a stranger sends: it takes no longer than that is long."""
        return self._check(media_type, bounded=True)

    def _check(self, place: Place, *, bounded: bool) -> Check | None:
        schema = place.child("schema")
        if schema.value is None or not can_check():
            return None
        return check_by(schema, self.references, self.version, bounded=bounded)


def operations_in(path_item: Place) -> Iterator[tuple[str, Place]]:
    """The operations of a path item, by method in upper case; ``additionalOperations`` (3.2) as they are written."""
    for method in METHODS:
        if method in path_item:
            yield method.upper(), path_item.child(method)
    yield from path_item.child("additionalOperations").members()


def documented_callbacks(
    callbacks: Place,
    label: str,
    findings: Findings,
    dialect: Dialect,
    *,
    names: Names,
    response: str | None,
    functions: Functions,
) -> Iterator[Callback]:
    """The callbacks in an operation's ``callbacks``, compiled.

    Args:
        callbacks: The object that maps names to Callback Objects.
        label: The operation, as ``POST /invoices/``.
        findings: Takes what is wrong.
        dialect: Of the document.
        names: What the operation's requests may carry.
        response: The pointer of the one schema that the operation's successful responses have, if it is referred to.
        functions: What ``send`` may name them by.
    """
    for name, place in callbacks.members():
        with findings.at(f"{label} → {name} ({place.pointer})"):
            expressions = dialect.references.follow(place)
            for expression, item in expressions.members():
                if expression.startswith("x-"):
                    continue
                path_item = dialect.references.follow(item)
                for method, operation in operations_in(path_item):
                    where = f"{label} → {name} ({operation.pointer})"
                    with findings.at(where):
                        yield _compiled(
                            name,
                            method,
                            expression,
                            path_item,
                            operation,
                            dialect=dialect,
                            names=names,
                            response=response,
                            function=functions.get((name, method, expression)),
                            answers=findings.answers(where, partial(_answers, operation, dialect)),
                        )


def _compiled(
    name: str,
    method: str,
    expression: str,
    path_item: Place,
    operation: Place,
    *,
    dialect: Dialect,
    names: Names,
    response: str | None,
    function: Callable[..., Any] | None,
    answers: AnswerCheck | None,
) -> Callback:
    chosen = _media_type(operation, dialect)
    return compile_callback(
        name=name,
        method=method,
        expression=expression,
        options=from_extension(operation.child(EXTENSION).value) if EXTENSION in operation else DeliveryOptions(),
        names=names,
        function=function,
        body=None if chosen is None else _body(operation, *chosen, dialect),
        parameters=_callback_parameters(path_item, operation, dialect),
        response_is_body=response is not None and chosen is not None and referred_schema(chosen[1]) == response,
        answers=answers,
        strict=dialect.strict,
    )


def referred_schema(media_type: Place) -> str | None:
    """The ``$ref`` that is the schema of a Media Type Object; None for a schema that is written in place."""
    schema = media_type.child("schema").value
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    return reference if isinstance(reference, str) else None


def _media_type(operation: Place, dialect: Dialect) -> tuple[str, Place] | None:
    """The media type that is sent, of those that a callback's body may have: JSON, else a form, else the first."""
    content = dialect.references.follow(operation.child("requestBody")).child("content")
    listed = [
        ("application/json" if media_type in ("*/*", "application/*") else media_type, dialect.references.follow(place))
        for media_type, place in content.members()
    ]
    for is_preferred in (is_json, is_form, lambda media_type: not media_type.lower().startswith("multipart/")):
        for media_type, place in listed:
            if is_preferred(media_type):
                return media_type, place
    return listed[0] if listed else None


def _body(operation: Place, media_type: str, place: Place, dialect: Dialect) -> Body:
    required = dialect.references.follow(operation.child("requestBody")).object().get("required", False) is True
    return checked_body(media_type, dialect.check(place), required=required)


def _answers(operation: Place, dialect: Dialect) -> AnswerCheck | None:
    return documented_responses(operation.child("responses"), dialect.references, dialect.answer_check)


def _callback_parameters(path_item: Place, operation: Place, dialect: Dialect) -> Sequence[CallbackParameter]:
    return tuple(
        parameter
        for place in parameters_of(path_item, operation, dialect.references)
        if (parameter := _callback_parameter(place, dialect)) is not None
    )


def _callback_parameter(place: Place, dialect: Dialect) -> CallbackParameter | None:
    declared = place.object()
    name, location = str(declared.get("name")), declared.get("in")
    if location == "header" and name.lower() in ("accept", "content-type", "authorization"):
        # The specification has these ignored: they are described elsewhere.
        return None
    if location in ("path", "query", "header"):
        required = location == "path" or declared.get("required") is True
        return CallbackParameter(name, location, required, check=_parameter_check(name, dialect.check(place)))
    if declared.get("required") is True:
        raise ConfigurationError(
            f"it requires the parameter {name!r} in {location}, and only path, query and header are sent"
        )
    return None


def _parameter_check(name: str, check: Check | None) -> Callable[[object], None] | None:
    if check is None:
        return None

    def checked(value: object) -> None:
        problem = check(list(value) if isinstance(value, tuple) else value)
        # On the wire it is text anyway: 5 is as good as "5" where text is declared.
        if problem is not None and not (isinstance(value, ParameterValue) and check(text_of(value)) is None):
            raise PayloadInvalid(f"the parameter {name!r} does not fit its schema: {problem}")

    return checked

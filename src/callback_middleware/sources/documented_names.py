"""The names that a documented operation's requests may carry: its parameters, and the members of its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from callback_middleware.names import BodyField, Location, Names, Parameter
from callback_middleware.sources.encoding import is_form, is_json
from callback_middleware.sources.references import Place, References
from callback_middleware.values import MISSING

_LOCATIONS: Final[tuple[Location, ...]] = ("path", "query", "header")
_COMBINED: Final = ("allOf", "anyOf", "oneOf")


def parameters_of(path_item: Place, operation: Place, references: References) -> Sequence[Place]:
    """The parameters of an operation, followed: those of its path, less those that it declares anew."""
    found: dict[tuple[str, str], Place] = {}
    for owner in (path_item, operation):
        for item in owner.child("parameters").items():
            parameter = references.follow(item)
            declared = parameter.object()
            found[str(declared.get("in")), str(declared.get("name"))] = parameter
    return tuple(found.values())


def names_at(path_item: Place, operation: Place, references: References) -> Names:
    """The names that a request may carry, as far as the document is exhaustive.

    Raises:
        DocumentError: A reference that cannot be followed.
    """
    declared = parameters_of(path_item, operation, references)
    open_ended = any(_is_open_ended(parameter, references) for parameter in declared)
    parameters = tuple(_parameters(declared, references))
    members = _body_members(operation, references)
    return Names(None if open_ended else parameters, members)


def _parameters(declared: Sequence[Place], references: References) -> Iterator[Parameter]:
    for parameter in declared:
        value = parameter.object()
        for location in _LOCATIONS:
            if value.get("in") == location:
                schema = references.follow(parameter.child("schema")).object()
                yield Parameter(str(value.get("name")), location, default=schema.get("default", MISSING))


def _is_open_ended(parameter: Place, references: References) -> bool:
    """Whether a parameter stands for names that only requests tell: the whole query string, or an exploded object."""
    value = parameter.object()
    if value.get("in") == "querystring":
        return True
    schema = references.follow(parameter.child("schema")).object()
    is_object = schema.get("type") == "object" or "properties" in schema or "additionalProperties" in schema
    return value.get("in") == "query" and is_object


def _body_members(operation: Place, references: References) -> tuple[BodyField, ...] | None:
    content = references.follow(operation.child("requestBody")).child("content")
    members: dict[str, BodyField] = {}
    for media_type, item in content.members():
        schema = references.follow(item).child("schema")
        found = _members(schema, references, ()) if is_json(media_type) or is_form(media_type) else None
        if found is None:
            return None
        members.update(found)
    return tuple(members.values())


def _members(schema: Place, references: References, within: Sequence[str]) -> dict[str, BodyField] | None:
    """The declared members of an object schema; None if others are welcome, or none is declared at all."""
    schema = references.follow(schema)
    if schema.pointer in within or not isinstance(schema.value, Mapping):
        return None
    # Where nothing is said of additional members they are allowed, and hardly anybody means that.
    if schema.value.get("additionalProperties", False) is not False or "patternProperties" in schema.value:
        return None
    combined = [item for keyword in _COMBINED for item in schema.child(keyword).items()]
    if not combined and "properties" not in schema.value:
        return None
    members: dict[str, BodyField] = {}
    for name, member in schema.child("properties").members():
        declared = references.follow(member).value
        default = declared.get("default", MISSING) if isinstance(declared, Mapping) else MISSING
        members[name] = BodyField(name, default=default)
    for item in combined:
        found = _members(item, references, (*within, schema.pointer))
        if found is None:
            return None
        members.update(found)
    return members

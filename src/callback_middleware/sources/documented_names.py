"""The names that a documented operation's requests may carry: its parameters, and the members of its body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from callback_middleware.expressions.names import BodyField, Location, Names, Parameter
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
    members, more = _body_members(operation, references)
    return Names(
        parameters=tuple(_parameters(declared, references)),
        body=tuple(members),
        more_parameters=any(_is_open_ended(parameter, references) for parameter in declared),
        more_members=more,
    )


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


def _body_members(operation: Place, references: References) -> tuple[Iterable[BodyField], bool]:
    """The top-level members that a body declares, and whether it may have others."""
    content = references.follow(operation.child("requestBody")).child("content")
    members: dict[str, BodyField] = {}
    more = False
    for media_type, item in content.members():
        if is_json(media_type) or is_form(media_type):
            found, others = _members(references.follow(item).child("schema"), references, ())
            members.update((field.name, field) for field in found)
            more = more or others
        else:
            more = True
    return members.values(), more


def _members(schema: Place, references: References, within: Sequence[str]) -> tuple[Sequence[BodyField], bool]:
    schema = references.follow(schema)
    if schema.pointer in within or not isinstance(schema.value, Mapping):
        return (), True
    combined = [item for keyword in _COMBINED for item in schema.child(keyword).items()]
    # Where nothing is said of additional members they are allowed, and hardly anybody means that.
    more = schema.value.get("additionalProperties", False) is not False or "patternProperties" in schema.value
    more = more or not (combined or "properties" in schema.value)
    fields = [_field(name, member, references) for name, member in schema.child("properties").members()]
    for item in combined:
        found, others = _members(item, references, (*within, schema.pointer))
        fields += found
        more = more or others
    return fields, more


def _field(name: str, schema: Place, references: References) -> BodyField:
    declared = references.follow(schema).value
    return BodyField(name, default=declared.get("default", MISSING) if isinstance(declared, Mapping) else MISSING)

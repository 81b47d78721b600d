"""Bodies and parameters that are declared by a JSON Schema: checked by jsonschema, as the bytes that will be sent.

A schema is lifted out of its document, with everything that it refers to, and brought to JSON Schema 2020-12: that of
OpenAPI 3.1 and 3.2 is it already, that of 3.0 differs in a few keywords.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from callback_middleware import jsontext
from callback_middleware.errors import ConfigurationError, PayloadInvalid
from callback_middleware.operations import Body
from callback_middleware.sources.encoding import JSON, encoder_for, is_form, is_json, json_bytes
from callback_middleware.sources.references import Place, References

# Keywords whose value is one schema, an array of schemas, or an object of schemas.
_SCHEMA: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SCHEMAS: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})

# References go by the document's pointers, as every generator of documents means them: an $id must not move them.
_DROPPED: Final = frozenset({"$id", "$schema", "$anchor", "$dynamicAnchor", "nullable"})

# What these ask for says it all.
_TELLING: Final = frozenset({"type", "enum", "const", "minimum", "maximum", "pattern", "minLength", "maxLength"})

# What a stranger's text can make last far longer than it is long: Python's regular expressions, and comparing every
# item with every other.
_UNBOUNDED: Final = frozenset(
    {"pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"}
)

_ANYTHING: Final = "anything"

_SHOWN_PROBLEMS: Final = 5

Check = Callable[[object], str | None]
"""Says what is wrong with a JSON value, or None."""


def can_check() -> bool:
    """Whether jsonschema is installed."""
    return importlib.util.find_spec("jsonschema") is not None


def schema_body(schema: Mapping[str, Any]) -> Body:
    """A JSON body that a JSON Schema 2020-12 describes, one that is given by hand and stands alone.

    Raises:
        ConfigurationError: The schema is none, or jsonschema is not installed.
    """
    return checked_body(JSON, check_by_hand(schema), required=True)


def check_by_hand(schema: Mapping[str, Any], *, bounded: bool = False) -> Check | None:
    """The check that a JSON Schema 2020-12 asks for that stands alone; None where it asks for nothing.

    Raises:
        ConfigurationError: The schema is none, or jsonschema is not installed.
    """
    if not schema:
        return None
    if not can_check():
        raise ConfigurationError(
            "checking a body by JSON Schema takes the extra: pip install 'callback_middleware[openapi]'"
        )
    return check_by(Place(schema), References(lambda: schema), (3, 1), bounded=bounded)


def checked_body(media_type: str, check: Check | None, *, required: bool) -> Body:
    """A body of this media type. What is checked is what will be sent: JSON is read again from its bytes.

    Args:
        media_type: Its content type.
        check: Asked about JSON and forms; None where nothing is to be checked.
        required: Whether a request without a body would break the declaration.

    Raises:
        ConfigurationError: The media type cannot be written.
    """
    encoder = encoder_for(media_type)
    if check is None or not (is_json(media_type) or is_form(media_type)):
        return Body(media_type, required, encoder)

    def encode(value: object) -> bytes:
        encoded = encoder(value)
        problem = check(jsontext.loads(encoded if is_json(media_type) else json_bytes(value)))
        if problem is not None:
            raise PayloadInvalid(f"the body does not fit its schema: {problem}")
        return encoded

    return Body(media_type, required, encode)


def check_by(place: Place, references: References, version: tuple[int, int], *, bounded: bool = False) -> Check:
    """The check that a schema in a document asks for.

    Args:
        place: The schema.
        references: Of its document.
        version: Of OpenAPI, for its dialect of JSON Schema.
        bounded: Ask for less than the schema does, so that a stranger's text costs no more than it is long.

    Raises:
        DocumentError: A reference that cannot be followed.
        ConfigurationError: It is no schema.
    """
    import jsonschema

    schema = standalone(place, references, version, bounded=bounded)
    validator = jsonschema.Draft202012Validator
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"{place.pointer} is no JSON Schema: {error.message}") from None
    if bounded:
        # Of the alternatives only whether they fit is of interest, and of the problems the first.
        extend: Any = jsonschema.validators.extend
        first = extend(validator, {"anyOf": _any_of, "oneOf": _one_of})(schema)
        return lambda value: next((_described(problem) for problem in first.iter_errors(value)), None)
    bound = validator(schema)

    def check(value: object) -> str | None:
        try:
            problems = [_described(problem) for problem in bound.iter_errors(value)]
        except RecursionError:
            return "its schema refers to itself without end"
        if len(problems) > _SHOWN_PROBLEMS:
            problems[_SHOWN_PROBLEMS:] = [f"and {len(problems) - _SHOWN_PROBLEMS} more"]
        return "; ".join(problems) or None

    return check


def standalone(place: Place, references: References, version: tuple[int, int], *, bounded: bool = False) -> Any:
    """A schema of JSON Schema 2020-12 that refers to nothing outside of itself.

    Where it is to be ``bounded``, it has no patterns, and what contains itself is described once and not again.

    Raises:
        DocumentError: A reference that cannot be followed.
    """
    lifting = _Lifting(references, old=version == (3, 0), bounded=bounded)
    lifted = lifting.lift(place)
    if not lifting.definitions:
        return lifted
    # In an allOf, because beside a $ref and $defs of its own the schema must stay as it is.
    return {"allOf": [lifted], "$defs": lifting.definitions}


class _Lifting:
    def __init__(self, references: References, *, old: bool, bounded: bool) -> None:
        self.definitions: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._within: set[str] = set()
        self._references = references
        self._old = old
        self._bounded = bounded

    def lift(self, place: Place) -> Any:
        schema = place.value
        if isinstance(schema, bool):
            return schema
        schema = place.object()
        if self._old and isinstance(schema.get("$ref"), str):
            # Before 3.1, members beside a $ref do not count.
            return {"$ref": self._refer(schema["$ref"], place)}
        kept = [str(key) for key in schema if str(key) not in self._dropped(schema)]
        lifted = {key: self._keyword(key, place) for key in kept if key != "pattern" or _is_pattern(schema[key])}
        return _modern(lifted, schema) if self._old else lifted

    def _dropped(self, schema: Mapping[str, Any]) -> frozenset[str]:
        if not self._bounded:
            return _DROPPED
        # Which members are additional, patterns would have to say.
        additional = {"additionalProperties"} if "patternProperties" in schema else set()
        return _DROPPED | _UNBOUNDED | additional

    def _keyword(self, key: str, place: Place) -> Any:
        below = place.child(key)
        if key in ("$ref", "$dynamicRef") and isinstance(below.value, str):
            return self._refer(below.value, place)
        if key in _SCHEMA and isinstance(below.value, Mapping | bool):
            return self.lift(below)
        if key in _SCHEMAS:
            return [self.lift(item) for item in below.items()]
        if key in _NAMED_SCHEMAS:
            return {
                name: self.lift(member)
                for name, member in below.members()
                if key != "patternProperties" or _is_pattern(name)
            }
        return below.value

    def _refer(self, reference: str, place: Place) -> str:
        target = self._references.find(reference, place.pointer)
        name = self._names.get(target.pointer)
        if name is None:
            name = self._names[target.pointer] = str(len(self._names))
            # Known before it is lifted: a schema may contain itself.
            self._within.add(target.pointer)
            self.definitions[name] = self.lift(target)
            self._within.remove(target.pointer)
        elif self._bounded and target.pointer in self._within:
            # A body would say how deep to go, and where there are alternatives each level doubles the work.
            name = _ANYTHING
            self.definitions[name] = True
        return f"#/$defs/{name}"


def _modern(lifted: dict[str, Any], schema: Mapping[str, Any]) -> Any:
    """A schema of OpenAPI 3.0 in the words of JSON Schema 2020-12."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        flag = lifted.get(exclusive)
        if isinstance(flag, bool):
            del lifted[exclusive]
            if flag and bound in lifted:
                lifted[exclusive] = lifted.pop(bound)
    if schema.get("nullable") is not True:
        return lifted
    if isinstance(lifted.get("type"), str) and "enum" not in lifted:
        return lifted | {"type": [lifted["type"], "null"]}
    # By the letter of 3.0.3 nullable means nothing without a type, and an enum must list null itself. Generators
    # mean what they say all the same, and a null that a receiver's document allows should not be held back here.
    return {"anyOf": [lifted, {"type": "null"}]}


def _is_pattern(pattern: object) -> bool:
    """Whether Python can check a pattern. Those of JSON Schema are ECMAScript's, which knows a few things more."""
    try:
        re.compile(str(pattern))
    except re.error:
        return False
    return True


def _any_of(validator: Any, schemas: Any, value: object, _: object) -> Iterator[Any]:
    if not any(validator.evolve(schema=schema).is_valid(value) for schema in schemas):
        yield _misfit()


def _one_of(validator: Any, schemas: Any, value: object, _: object) -> Iterator[Any]:
    if sum(validator.evolve(schema=schema).is_valid(value) for schema in schemas) != 1:
        yield _misfit()


def _misfit() -> Exception:
    import jsonschema

    return jsonschema.ValidationError("")


def _described(problem: Any) -> str:
    return f"{problem.json_path}: {_said(problem)}"


def _said(problem: Any) -> str:
    """What is wrong, without the value: it may be the application's secret, and this goes to logs."""
    if problem.validator == "required":
        return str(problem.message)
    if problem.validator in _TELLING:
        return f"{problem.validator} must be {problem.validator_value!r}"
    if problem.validator == "additionalProperties":
        return "it has members that are not declared"
    return f"{problem.validator} is not satisfied"

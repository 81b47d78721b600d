"""Answers that are declared by a Python type: checked by Pydantic."""

from __future__ import annotations

from typing import Any, Final

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from callback_middleware import jsontext
from callback_middleware.errors import ConfigurationError
from callback_middleware.sources.schemas import Check
from callback_middleware.values import excerpt

_DEEPEST: Final = 10
"""What is nested deeper is not looked into: where types contain themselves, each level may double the work."""

_SHOWN_PROBLEMS: Final = 3


def answer_check(annotation: Any) -> Check | None:
    """Says how an answer's JSON differs from a type, naming fields and rules, and no value.

    None for a type that does not read what it writes: a document shows what it writes.

    Raises:
        ConfigurationError: Pydantic knows no such type.
    """
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
    except pydantic.PydanticUserError as error:
        raise ConfigurationError(f"Pydantic cannot check its receiver's answer: {error.message}") from error
    if not _reads_what_it_writes(adapter):
        return None
    described = getattr(annotation, "__name__", str(annotation))

    def check(value: object) -> str | None:
        if _depth(value) > _DEEPEST:
            return None
        try:
            # Strict, as the schema that a document shows: "5" is no integer. A date is still text, as JSON has it.
            adapter.validate_json(jsontext.dumps(value), strict=True)
        except pydantic.ValidationError as error:
            return f"the body is no {described}: {_problems(error)}"
        return None

    return check


def _reads_what_it_writes(adapter: pydantic.TypeAdapter[Any]) -> bool:
    """Whether its fields have the same names in both directions, those of what it holds too."""
    try:
        read = adapter.json_schema(mode="validation", schema_generator=_Quiet)
        written = adapter.json_schema(mode="serialization", schema_generator=_Quiet)
    except pydantic.PydanticUserError:
        # What has no schema has no names either.
        return True
    return _names(read) == _names(written)


class _Quiet(GenerateJsonSchema):
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """A default that has no JSON form is nobody's fault here."""


def _names(schema: object) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_names, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties")
    own = set(properties) if isinstance(properties, dict) else set()
    return own.union(*map(_names, schema.values()))


def _depth(value: object) -> int:
    """How deep containers lie within each other, as far as it matters."""
    level, depth = [value], 0
    while depth <= _DEEPEST and (level := [one for one in level if isinstance(one, dict | list)]):
        level = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def _problems(error: pydantic.ValidationError) -> str:
    # Not Pydantic's sentences: some of them quote what they are about.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    listed = [
        f"{excerpt('.'.join(map(str, problem['loc']))) if problem['loc'] else 'it'} ({problem['type']})"
        for problem in problems[:_SHOWN_PROBLEMS]
    ]
    if len(problems) > _SHOWN_PROBLEMS:
        listed.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return ", ".join(listed)

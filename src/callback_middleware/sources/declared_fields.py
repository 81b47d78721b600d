"""What Pydantic declares of a name: what it is on the wire, what in Python, and what holds where it is absent."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pydantic
import pydantic_core
from pydantic.fields import FieldInfo

from callback_middleware.expressions.names import BodyField
from callback_middleware.values import MISSING, Missing, Value


def wire_names(field: FieldInfo, python_name: str, *, by_name: bool = False) -> Sequence[str]:
    """What a field is called on the wire, the preferred name first.

    Args:
        field: Its declaration.
        python_name: What it is called in Python, and on the wire too where it has no alias.
        by_name: Whether its model accepts the Python name beside the alias.
    """
    alias = field.validation_alias
    if isinstance(alias, pydantic.AliasChoices):
        names = [choice for choice in alias.choices if isinstance(choice, str)]
    elif isinstance(alias, str):
        names = [alias]
    else:
        names = [field.alias or python_name]
    if by_name:
        names.append(python_name)
    return tuple(dict.fromkeys(names))


def default_of(field: FieldInfo) -> Value | Missing:
    """The JSON value that a field has by declaration; MISSING for none, and for one that a function makes."""
    if field.is_required() or field.default_factory is not None:
        return MISSING
    try:
        return pydantic_core.to_jsonable_python(field.default, by_alias=True)
    except ValueError:
        return MISSING


def accepts_names(model: type[pydantic.BaseModel]) -> bool:
    """Whether a model's fields may go by their Python names where they have an alias."""
    config = model.model_config
    return bool(config.get("validate_by_name", config.get("populate_by_name", False)))


def model_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    """The one model that an annotation stands for, ``Model | None`` included; else None."""
    found = [one for one in _alternatives(annotation) if one is not type(None)]
    if len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], pydantic.BaseModel):
        return found[0]
    return None


def body_fields(annotation: Any) -> tuple[Sequence[BodyField], bool]:
    """The top-level members that a body of this type declares, and whether it may have others."""
    members: dict[str, BodyField] = {}
    more = False
    for alternative in _alternatives(annotation):
        if alternative is not type(None):
            fields, others = _members(alternative)
            members.update((field.name, field) for field in fields)
            more = more or others
    return tuple(members.values()), more


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def _members(kind: Any) -> tuple[Sequence[BodyField], bool]:
    if isinstance(kind, type):
        if issubclass(kind, pydantic.BaseModel) and not issubclass(kind, pydantic.RootModel):
            return tuple(_model_members(kind)), kind.model_config.get("extra") == "allow"
        if dataclasses.is_dataclass(kind):
            return tuple(BodyField(field.name) for field in dataclasses.fields(kind) if field.init), False
        if hasattr(kind, "__total__"):
            return tuple(BodyField(name) for name in get_type_hints(kind)), False
    return (), True


def _model_members(model: type[pydantic.BaseModel]) -> Iterator[BodyField]:
    by_name = accepts_names(model)
    for python_name, field in model.model_fields.items():
        for name in wire_names(field, python_name, by_name=by_name):
            yield BodyField(name, None if name == python_name else python_name, default_of(field))

"""What a FastAPI handler and its dependencies declare, read from the tree that FastAPI has made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import pydantic
from fastapi.params import Form, Header
from fastapi.requests import Request
from fastapi.security.api_key import APIKeyBase
from fastapi.security.base import SecurityBase

from callback_middleware import staging
from callback_middleware.errors import ConfigurationError, PayloadInvalid
from callback_middleware.expressions.names import BodyField, Location, Names, Parameter
from callback_middleware.operations import CallbackParameter
from callback_middleware.planning import ParameterValue, text_of
from callback_middleware.sources.declared_fields import accepts_names, body_fields, default_of, model_of, wire_names

if TYPE_CHECKING:
    from fastapi._compat import ModelField
    from fastapi.dependencies.models import Dependant

_LISTS: Final[Mapping[Location, str]] = {"path": "path_params", "query": "query_params", "header": "header_params"}


async def callbacks_of(request: Request) -> staging.Callbacks:
    """The dependency behind ``Callbacks``: from now on the handler decides what is sent.

    It is ``async``, because FastAPI runs a ``def`` dependency in a thread, at 225 µs a request.
    """
    return staging.callbacks_of(request.scope)


def names_of(dependant: Dependant, body_field: ModelField | None) -> Names:
    """The names that a request to a handler may carry: others too where something takes the raw request."""
    raw = _takes_request(dependant)
    members, more = ((), False) if body_field is None else _members(dependant, body_field)
    return Names(tuple(_parameters(dependant)), tuple(members), more_parameters=raw, more_members=raw or more)


def handler_sends(dependant: Dependant) -> bool | None:
    """Whether a handler takes its callbacks in hand; None where it has the raw request, from which it may."""
    if any(one.call is callbacks_of for one in _tree(dependant)):
        return True
    return None if _takes_request(dependant) else False


def callback_parameters(dependant: Dependant) -> Sequence[CallbackParameter]:
    """The header, query and path parameters that a callback declares, each once.

    Raises:
        ConfigurationError: It requires a cookie, and cookies are not sent.
    """
    found: dict[tuple[Location, str], CallbackParameter] = {}
    for one in _tree(dependant):
        for cookie in one.cookie_params:
            if cookie.field_info.is_required():
                raise ConfigurationError(f"it requires the cookie {cookie.alias!r}, and cookies are not sent")
        for location in _LISTS:
            for python_name, field, names in _fields(one, location):
                found.setdefault(
                    (location, names[0]),
                    CallbackParameter(
                        name=names[0],
                        location=location,
                        required=field.is_required(),
                        python_name=None if names[0] == python_name else python_name,
                        check=_check(names[0], field),
                    ),
                )
    return tuple(found.values())


def body_annotation(dependant: Dependant, body_field: ModelField) -> Any:
    """The type of a whole body, constraints included."""
    declared = _only(_body_parameters(dependant))
    # FastAPI puts a form's optional model into a model of its own, whose field has a made-up name.
    field = (declared if declared is not None and _form_model(declared) is not None else body_field).field_info
    annotation: Any = field.annotation
    return Annotated[annotation, *field.metadata] if field.metadata else annotation


def _members(dependant: Dependant, body_field: ModelField) -> tuple[Sequence[BodyField], bool]:
    declared = _body_parameters(dependant)
    only = _only(declared)
    if only is not None and only.field_info.annotation is body_field.field_info.annotation:
        return body_fields(only.field_info.annotation)
    members: list[BodyField] = []
    for parameter in declared:
        model = _form_model(parameter)
        if model is not None:
            members += body_fields(model)[0]
        else:
            for name in wire_names(parameter.field_info, parameter.name):
                python_name = None if name == parameter.name else parameter.name
                members.append(BodyField(name, python_name, default_of(parameter.field_info)))
    return members, False


def _body_parameters(dependant: Dependant) -> Sequence[ModelField]:
    """The parameters of a handler and its dependencies that make the body, each once."""
    return tuple({field.name: field for one in _tree(dependant) for field in one.body_params}.values())


def _only(declared: Sequence[ModelField]) -> ModelField | None:
    return declared[0] if len(declared) == 1 else None


def _form_model(parameter: ModelField) -> type[pydantic.BaseModel] | None:
    """The model whose fields are a form's, all on one level."""
    return model_of(parameter.field_info.annotation) if isinstance(parameter.field_info, Form) else None


def _tree(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _tree(dependency)


def _takes_request(dependant: Dependant) -> bool:
    # Security schemes and our own dependency have the request too, and read nothing from it that is not known.
    return any(
        (one.request_param_name or one.http_connection_param_name)
        and one.call is not callbacks_of
        and not isinstance(one.call, SecurityBase)
        for one in _tree(dependant)
    )


def _parameters(dependant: Dependant) -> Iterator[Parameter]:
    for one in _tree(dependant):
        if isinstance(one.call, APIKeyBase):
            yield from _api_key(one.call)
        for location in _LISTS:
            for python_name, field, names in _fields(one, location):
                for name in names:
                    yield Parameter(name, location, None if name == python_name else python_name, default_of(field))


def _api_key(scheme: APIKeyBase) -> Iterator[Parameter]:
    model: Any = scheme.model
    location: Literal["query", "header", "cookie"] = model.in_.value
    if location != "cookie":
        yield Parameter(model.name, location)


def _fields(dependant: Dependant, location: Location) -> Iterator[tuple[str, pydantic.fields.FieldInfo, Sequence[str]]]:
    """Python name, declaration and wire names of what one level of the tree declares; a model gives its fields."""
    declared: Sequence[ModelField] = getattr(dependant, _LISTS[location])
    for parameter in declared:
        model = model_of(parameter.field_info.annotation)
        if model is None:
            yield parameter.name, parameter.field_info, wire_names(parameter.field_info, parameter.name)
            continue
        dashed = isinstance(parameter.field_info, Header) and parameter.field_info.convert_underscores
        for python_name, field in model.model_fields.items():
            names = wire_names(field, python_name, by_name=accepts_names(model))
            yield python_name, field, [_dashed(name, python_name) if dashed else name for name in names]


def _dashed(name: str, python_name: str) -> str:
    return name.replace("_", "-") if name == python_name else name


def _check(name: str, field: pydantic.fields.FieldInfo) -> Callable[[object], None]:
    annotation: Any = field.annotation
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
        Annotated[annotation, *field.metadata] if field.metadata else annotation
    )

    def check(value: object) -> None:
        try:
            adapter.validate_python(value)
        except pydantic.ValidationError as error:
            # On the wire it is text anyway: 5 is as good as "5" where text is declared.
            if not isinstance(value, ParameterValue) or not _fits(adapter, text_of(value)):
                problem = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
                raise PayloadInvalid(f"the parameter {name!r} does not fit: {problem}") from None

    return check


def _fits(adapter: pydantic.TypeAdapter[Any], value: str) -> bool:
    try:
        adapter.validate_python(value)
    except pydantic.ValidationError:
        return False
    return True

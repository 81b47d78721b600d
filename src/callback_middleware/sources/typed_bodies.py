"""Bodies that are declared by a Python type: checked by Pydantic, and written as they were given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import pydantic
import pydantic_core

from callback_middleware import jsontext
from callback_middleware.errors import ConfigurationError, PayloadInvalid
from callback_middleware.operations import Body
from callback_middleware.sources.encoding import JSON, encoder_for, form_bytes, is_form, is_json

_SHOWN_PROBLEMS: Final = 5


def typed_body(annotation: Any, *, media_type: str = JSON, required: bool = True) -> Body:
    """A body of this type.

    An instance of a declared model passes as it is and is written by the *declared* model, by alias, so that what a
    subclass adds stays here. Anything else is checked, and written as it was given: a check changes no byte.

    Args:
        annotation: A Pydantic model, or any type that Pydantic knows.
        media_type: Its content type.
        required: Whether a request without a body would break the declaration.

    Raises:
        ConfigurationError: Pydantic knows no such type, or the media type cannot be written.
    """
    encoder = encoder_for(media_type)
    try:
        adapter = pydantic.TypeAdapter(annotation)
    except pydantic.PydanticUserError as error:
        raise ConfigurationError(f"Pydantic cannot check its body: {error.message}") from error
    write: Callable[[object], bytes]
    write_model: Callable[[object], bytes]
    if is_json(media_type):
        write, write_model = _json_writer(adapter), _model_writer(adapter)
    elif is_form(media_type):
        write = write_model = _form_writer(adapter)
    else:
        write = write_model = encoder
    return Body(media_type, required, _checked(annotation, adapter, write, write_model))


def names_a_shape(annotation: Any) -> bool:
    """Whether a type is somebody's own declaration of what a body looks like, so that two uses of it mean the same."""
    return isinstance(annotation, type) and (
        issubclass(annotation, pydantic.BaseModel)
        or dataclasses.is_dataclass(annotation)
        or hasattr(annotation, "__total__")  # a TypedDict
    )


def _checked(
    annotation: Any,
    adapter: pydantic.TypeAdapter[Any],
    write: Callable[[object], bytes],
    write_model: Callable[[object], bytes],
) -> Callable[[object], bytes]:
    model = annotation if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel) else None
    described = getattr(annotation, "__name__", str(annotation))

    def encode(value: object) -> bytes:
        if model is not None and isinstance(value, model):
            return write_model(value)
        try:
            adapter.validate_python(value)
        except pydantic.ValidationError as error:
            if not _fits_as_json(adapter, value):
                raise PayloadInvalid(f"the body is no {described}: {_problems(error)}") from None
        return write(value)

    return encode


def _fits_as_json(adapter: pydantic.TypeAdapter[Any], value: object) -> bool:
    """Whether the type accepts the value's JSON: a strict model takes a date as text there, and only there."""
    try:
        adapter.validate_json(jsontext.dumps(value))
    except (TypeError, ValueError):
        return False
    return True


def _model_writer(adapter: pydantic.TypeAdapter[Any]) -> Callable[[object], bytes]:
    def write(value: object) -> bytes:
        try:
            # A field that was assigned what its type does not know is written as what it is, without a warning.
            return adapter.serializer.to_json(value, by_alias=True, warnings=False)
        except ValueError as error:
            raise _unwritable(error) from None

    return write


def _json_writer(adapter: pydantic.TypeAdapter[Any]) -> Callable[[object], bytes]:
    def write(value: object) -> bytes:
        try:
            return jsontext.dumps(value)
        except TypeError:
            # Dates, UUIDs and models within plain containers.
            return _jsonable(adapter, value)
        except ValueError as error:
            raise _unwritable(error) from None

    return write


def _jsonable(adapter: pydantic.TypeAdapter[Any], value: object) -> bytes:
    try:
        return adapter.dump_json(value, by_alias=True, warnings="error")
    except ValueError:
        pass  # It holds a dict where the type has a model: only a writer that goes by the values can write both.
    try:
        return pydantic_core.to_json(value, by_alias=True)
    except ValueError as error:
        raise _unwritable(error) from None


def _unwritable(error: ValueError) -> PayloadInvalid:
    return PayloadInvalid(f"the body cannot be written as JSON: {error}")


def _form_writer(adapter: pydantic.TypeAdapter[Any]) -> Callable[[object], bytes]:
    def write(value: object) -> bytes:
        if isinstance(value, pydantic.BaseModel):
            return form_bytes(adapter.dump_python(value, mode="json", by_alias=True))
        try:
            return form_bytes(value)
        except PayloadInvalid:
            pass  # It holds dates, UUIDs or models.
        try:
            return form_bytes(pydantic_core.to_jsonable_python(value, by_alias=True))
        except ValueError as error:
            raise PayloadInvalid(f"the body cannot be written as a form: {error}") from None

    return write


def _problems(error: pydantic.ValidationError) -> str:
    """The first few problems, without the values: those may be the application's secrets, and this goes to logs."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    listed = [
        f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}" for problem in problems[:_SHOWN_PROBLEMS]
    ]
    if len(problems) > _SHOWN_PROBLEMS:
        listed.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return "; ".join(listed)

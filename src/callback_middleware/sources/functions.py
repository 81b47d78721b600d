"""The body that a callback's function declares, read where there is no application that documents it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

from callback_middleware.errors import ConfigurationError
from callback_middleware.operations import Body
from callback_middleware.sources.encoding import JSON, json_bytes


# A job notifies the same few callbacks over and over, and reading one takes as long as serving a request.
@functools.lru_cache(maxsize=256)
def body_of(function: Callable[..., object]) -> Body | None:
    """The body that a callback's function declares; None for none.

    Where FastAPI is loaded it is what FastAPI reads, for it may be one of its callbacks. Else it is the type of the
    first parameter, as JSON; without an annotation any JSON.

    Raises:
        ConfigurationError: Its annotations cannot be read, or say nothing that can be checked.
    """
    if "fastapi.routing" in sys.modules:
        from callback_middleware.sources.fastapi import function_body

        return function_body(function)
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None:
        return None
    required = first.default is first.empty
    if first.annotation is first.empty:
        return Body(JSON, required, json_bytes)
    return _typed(_annotation(function, first.name), required=required)


def _annotation(function: Callable[..., object], name: str) -> Any:
    try:
        return get_type_hints(function, include_extras=True)[name]
    except NameError as error:
        raise ConfigurationError(f"the annotations of {function!r} cannot be read: {error}") from error


def _typed(annotation: Any, *, required: bool) -> Body:
    try:
        from callback_middleware.sources.typed_bodies import typed_body
    except ImportError:
        raise ConfigurationError(
            f"a body that is declared as {annotation!r} is checked by Pydantic, which is not installed: "
            "pip install pydantic"
        ) from None
    return typed_body(annotation, required=required)

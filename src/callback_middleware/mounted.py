"""Which middleware owns the requests of an application that somebody has put together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from callback_middleware.errors import ConfigurationError
from callback_middleware.middleware import CallbackMiddleware

_LONGEST_CHAIN: Final = 100


def find_middleware(app: object) -> CallbackMiddleware:
    """The innermost :class:`CallbackMiddleware` around an application: the one that owns its requests.

    What wraps what is followed by the attribute ``app``, as most middleware has it. A Starlette or FastAPI application
    that has not built its middleware yet builds it now; nothing of it is run.

    Raises:
        ConfigurationError: There is none; or it, or other middleware, refuses its arguments.
    """
    found = None
    for layer in _layers(app):
        if isinstance(layer, CallbackMiddleware):
            found = layer
    if found is None:
        raise ConfigurationError(
            f"{type(app).__name__} has no CallbackMiddleware: app.add_middleware(CallbackMiddleware) or "
            "CallbackMiddleware(app, …) mounts it; one that stands further in is named itself"
        )
    return found


def _layers(app: Any) -> Iterator[object]:
    """An application from its outermost middleware inwards, as far as that can be seen."""
    layer = app
    for _ in range(_LONGEST_CHAIN):
        if layer is None:
            return
        yield layer
        layer = _stack(layer) if hasattr(layer, "build_middleware_stack") else getattr(layer, "app", None)


def _stack(starlette: Any) -> object:
    if getattr(starlette, "middleware_stack", None) is None:
        # Starlette builds it at the first request or at start-up, and this comes before.
        starlette.middleware_stack = starlette.build_middleware_stack()
    stack: object = starlette.middleware_stack
    return stack

"""What Starlette endpoints use: :func:`callback` declares a callback, :func:`callbacks_of` sends one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

try:
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError(
        "callback_middleware.starlette needs Starlette, which an extra brings: "
        "pip install 'callback_middleware[starlette]'"
    ) from error

from callback_middleware import staging
from callback_middleware.sources.starlette import callback

__all__ = ["callback", "callbacks_of"]


def callbacks_of(request: HTTPConnection | MutableMapping[str, Any]) -> staging.Callbacks:
    """The callbacks of a request; from now on none of them is sent by itself.

    An endpoint that declares no callback may ask for them too, to notify what another has subscribed.

    Args:
        request: The request, or its ASGI scope in an application without Starlette's requests.

    Raises:
        NotMounted: No ``CallbackMiddleware`` owns the request.
    """
    return staging.callbacks_of(request.scope if isinstance(request, HTTPConnection) else request)

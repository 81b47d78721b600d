"""What FastAPI handlers use: the parameter type :data:`Callbacks`."""

from __future__ import annotations

from inspect import signature
from typing import Annotated, Any, Final, TypeAlias

try:
    from fastapi import Depends
except ImportError as error:
    raise ImportError(
        "callback_middleware.fastapi needs FastAPI, which an extra brings: pip install 'callback_middleware[fastapi]'"
    ) from error

from callback_middleware import staging
from callback_middleware.sources.dependants import callbacks_of

__all__ = ["Callbacks", "callbacks_of"]

# FastAPI (since 0.121, which has scopes) works out at every request which one a dependency has that says none.
_SCOPE: Final[dict[str, Any]] = {"scope": "request"} if "scope" in signature(Depends).parameters else {}

Callbacks: TypeAlias = Annotated[staging.Callbacks, Depends(callbacks_of, **_SCOPE)]
"""The callbacks of the request, as a parameter of a handler or of any of its dependencies::

    @app.post("/invoices/", callbacks=invoice_callbacks.routes)
    def create_invoice(invoice: Invoice, callbacks: Callbacks, callback_url: HttpUrl | None = None): ...

It is one object per request, whoever asks for it, with all of :class:`callback_middleware.staging.Callbacks`. An
operation that asks for it decides by hand: none of its callbacks is sent by itself. One that documents no callback may
ask for it too, to notify what another has subscribed.

A request that no ``CallbackMiddleware`` owns raises :class:`~callback_middleware.errors.NotMounted`.
"""

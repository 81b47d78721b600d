"""What handlers say: :class:`Callbacks`, one object per request, that remembers and does no I/O."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final, Protocol

from callback_middleware.errors import NotMounted
from callback_middleware.staging.arguments import Params
from callback_middleware.staging.callbacks import Callbacks
from callback_middleware.staging.catalogue import Catalogue
from callback_middleware.staging.declared_answers import DeclaredAnswers
from callback_middleware.staging.notifications import Staged

__all__ = ["SCOPE_KEY", "Callbacks", "Catalogue", "DeclaredAnswers", "Params", "Staged", "callbacks_of"]

SCOPE_KEY: Final = "callback_middleware"
"""Where a request's scope holds who owns its callbacks."""


class Owner(Protocol):
    """What the middleware leaves in the scope."""

    def callbacks(self, scope: MutableMapping[str, Any]) -> Callbacks:
        """This request's callbacks; from now on none is sent by itself."""
        ...


def callbacks_of(scope: MutableMapping[str, Any]) -> Callbacks:
    """The callbacks of the request that a scope belongs to.

    Raises:
        NotMounted: No ``CallbackMiddleware`` owns the request.
    """
    owner: Owner | None = scope.get(SCOPE_KEY)
    if owner is None:
        raise NotMounted(
            f"{scope.get('method', 'this')} {scope.get('path', 'request')} asked for its callbacks, and no "
            "CallbackMiddleware is mounted: app.add_middleware(CallbackMiddleware)"
        )
    return owner.callbacks(scope)

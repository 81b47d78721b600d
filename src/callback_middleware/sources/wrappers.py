"""Which application is inside of what wraps it. No framework is imported to tell."""

from __future__ import annotations

from typing import Any, Final

_LONGEST_CHAIN: Final = 100


def routed(app: object) -> Any | None:
    """The Starlette or FastAPI application or router that ``app`` is, or wraps; None if there is none.

    Wrappers are followed by the attribute ``app``, as all of Starlette's and most other middleware has it.
    """
    for _ in range(_LONGEST_CHAIN):
        if app is None:
            return None
        if hasattr(app, "routes") and _has_starlettes_routes(app):
            return app
        app = getattr(app, "app", None)
    return None


def _has_starlettes_routes(app: object) -> bool:
    # Litestar and others have ``routes`` too, of another kind.
    return any(kind.__module__.partition(".")[0] in ("starlette", "fastapi") for kind in type(app).__mro__)

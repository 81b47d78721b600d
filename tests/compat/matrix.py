"""What the library is tried with: an application of each framework, on each server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from environments import Environment, oldest

from servers import GRANIAN, HYPERCORN, HYPERCORN_TRIO, UVICORN, Kind

FASTAPI_PATHS = ("/invoices/", "/braced/", "/standard/", "/v1/included/")


@dataclass(frozen=True, slots=True)
class Row:
    """One combination.

    Attributes:
        application: In ``apps``, as ``module:attribute``.
        paths: Where it takes invoices.
    """

    environment: Environment
    application: str
    server: Kind
    paths: tuple[str, ...] = ("/invoices/",)

    def __str__(self) -> str:
        return f"{self.environment.name} on {self.server.name}"


OLDEST_FASTAPI = Environment("fastapi-oldest", ("uvicorn", *oldest("fastapi")), "fastapi")
OLDEST_STARLETTE = Environment("starlette-oldest", ("uvicorn", *oldest("starlette")), "starlette")
OLD_FASTAPIS = [
    Environment(f"fastapi-{version}", (f"fastapi=={version}", "uvicorn"), "fastapi")
    for version in ("0.115.14", "0.136.3", "0.139.2")
]
FASTAPI = Environment("fastapi-newest", ("fastapi", "uvicorn", "hypercorn", "granian"), "fastapi")
STARLETTE = Environment("starlette-newest", ("starlette", "uvicorn", "hypercorn[trio]"), "starlette")
LITESTAR = Environment("litestar", ("litestar", "uvicorn"))
QUART = Environment("quart", ("quart", "uvicorn", "hypercorn"))
DJANGO = Environment("django", ("django", "uvicorn"))
FALCON = Environment("falcon", ("falcon", "uvicorn"), "openapi")
RAW = Environment("raw-asgi", ("uvicorn", "hypercorn[trio]", "granian"))


def _rows(
    environment: Environment,
    module: str,
    servers: Iterable[Kind] = (UVICORN,),
    paths: tuple[str, ...] = ("/invoices/",),
) -> Iterable[Row]:
    return (Row(environment, f"{module}:app", server, paths) for server in servers)


ROWS = [
    *_rows(RAW, "raw_app", (UVICORN, HYPERCORN, HYPERCORN_TRIO, GRANIAN)),
    *_rows(FASTAPI, "fastapi_app", (UVICORN, HYPERCORN, GRANIAN), FASTAPI_PATHS),
    *(row for old in (OLDEST_FASTAPI, *OLD_FASTAPIS) for row in _rows(old, "fastapi_app", paths=FASTAPI_PATHS)),
    *_rows(STARLETTE, "starlette_app", (UVICORN, HYPERCORN, HYPERCORN_TRIO)),
    *_rows(OLDEST_STARLETTE, "starlette_app"),
    *_rows(LITESTAR, "litestar_app"),
    *_rows(QUART, "quart_app", (UVICORN, HYPERCORN)),
    *_rows(DJANGO, "django_app"),
    *_rows(FALCON, "falcon_app"),
]

"""Which operation a request is for, by the routers of every FastAPI since 0.115."""

from __future__ import annotations

import functools
import logging
from typing import Any

import fastapi
import fastapi.routing
import pytest
from fastapi import APIRouter, FastAPI, Request
from invoicing import (
    Invoice,
    app_with_callback,
    notifies,
    only,
)
from probing import listed, request
from starlette.responses import JSONResponse, Response

from callback_middleware.errors import (
    InvalidConfiguration,
)
from callback_middleware.operations import Operation
from callback_middleware.sources.discovery import UNROUTED, discover
from callback_middleware.sources.starlette import callback


class Wrapping:
    """Middleware as most of it is: what it wraps is its attribute ``app``."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class Copying(Wrapping):
    """Hands on a copy of the scope, which hides the routing from everything around it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


async def test_the_operation_is_known_when_the_handlers_body_is_read() -> None:
    app = app_with_callback(lambda: None)
    directory = discover(app, None)
    seen = await request(app, directory, "POST", "/invoices/")
    assert seen.received == [only(directory)]
    assert seen.answered is seen.rematched is only(directory)
    assert str(only(directory)) == "POST /invoices/"


async def test_an_included_route_has_the_callbacks_of_everything_it_is_included_by() -> None:
    inner, outer = APIRouter(prefix="/inner", callbacks=notifies("of_router").routes), APIRouter(prefix="/outer")

    @inner.post("/{id}", callbacks=notifies("of_route").routes)
    def handler(id: str, invoice: Invoice, callback_url: str | None = None) -> None: ...  # noqa: A002

    outer.include_router(inner, prefix="/deep", callbacks=notifies("of_include").routes)
    app = FastAPI(callbacks=notifies("of_app").routes)
    app.include_router(outer, prefix="/v1", callbacks=notifies("of_outer_include").routes)
    directory = discover(app, None)
    path = "POST /v1/outer/deep/inner/{id}"
    assert set(listed(directory)) == {path}
    assert sorted(listed(directory)[path]) == ["of_app", "of_include", "of_outer_include", "of_route", "of_router"]
    seen = await request(app, directory, "POST", "/v1/outer/deep/inner/7")
    assert seen.received == [only(directory)]
    assert seen.rematched is only(directory)
    assert directory.path_params(seen.scope, only(directory)) == {"id": "7"}


async def test_a_router_that_is_included_twice_makes_two_operations() -> None:
    router = APIRouter()

    @router.post("/x")
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    app = FastAPI()
    app.include_router(router, prefix="/a", callbacks=notifies("first").routes)
    app.include_router(router, prefix="/b", callbacks=notifies("second").routes)
    app.include_router(router, prefix="/silent")
    directory = discover(app, None)
    assert listed(directory) == {"POST /a/x": ["first"], "POST /b/x": ["second"]}
    for path, name in (("/a/x", "first"), ("/b/x", "second")):
        seen = await request(app, directory, "POST", path)
        assert isinstance(seen.answered, Operation)
        assert [one.name for one in seen.answered.callbacks] == [name]
        assert seen.rematched is seen.answered
    assert (await request(app, directory, "POST", "/silent/x")).received == [None]


async def test_a_method_that_is_not_allowed_is_no_operation() -> None:
    app = FastAPI()
    router = APIRouter()

    @router.get("/invoices/", callbacks=notifies("one").routes)
    def handler(callback_url: str = "") -> None: ...

    app.include_router(router)
    directory = discover(app, None)
    for method in ("POST", "HEAD"):
        seen = await request(app, directory, method, "/invoices/")
        assert (seen.status, seen.answered, seen.rematched) == (405, None, None)


async def test_a_path_that_no_route_has_is_no_operation() -> None:
    app = app_with_callback(lambda: None)
    directory = discover(app, None)
    for path, status in (("/nowhere", 404), ("/invoices", 307)):
        seen = await request(app, directory, "POST", path)
        assert (seen.status, seen.answered, seen.rematched) == (status, None, None)


def test_each_method_of_a_route_is_an_operation() -> None:
    app = FastAPI()

    @app.router.api_route("/x", methods=["PUT", "POST"], callbacks=notifies("one").routes)
    def handler(callback_url: str = "") -> None: ...

    assert listed(discover(app, None)) == {"POST /x": ["one"], "PUT /x": ["one"]}


async def test_callbacks_do_not_cross_a_mount() -> None:
    inner = FastAPI()

    @inner.post("/with/{id}", callbacks=notifies("inside").routes)
    def with_callbacks(id: int, invoice: Invoice, callback_url: str = "") -> None: ...  # noqa: A002

    @inner.post("/without")
    def without(invoice: Invoice, callback_url: str = "") -> None: ...

    app = FastAPI(callbacks=notifies("outside").routes)
    app.mount("/{tenant}", inner)
    directory = discover(app, None)
    assert listed(directory) == {"POST /{tenant}/with/{id}": ["inside"]}
    seen = await request(app, directory, "POST", "/t1/with/5")
    assert seen.received == [only(directory)]
    assert seen.rematched is only(directory)
    assert directory.path_params(seen.scope, only(directory)) == {"tenant": "t1", "id": "5"}
    seen = await request(app, directory, "POST", "/t1/without")
    assert (seen.status, seen.received, seen.answered) == (200, [None], None)


async def test_a_context_that_an_outer_router_left_is_not_believed() -> None:
    """A sub-application that is mounted in an included router gets a scope with the outer router's context."""
    inner = FastAPI()

    @inner.post("/x", callbacks=notifies("inside").routes)
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    router = APIRouter()
    router.mount("/sub", inner)
    app = FastAPI()
    app.include_router(router, prefix="/v1", callbacks=notifies("outside").routes)
    directory = discover(app, None)
    # Before 0.137 an included router loses its mounts.
    found = await request(app, directory, "POST", "/v1/sub/x")
    if found.status == 404:
        pytest.skip("this FastAPI includes no mounts")
    assert listed(directory) == {"POST /v1/sub/x": ["inside"]}
    assert found.received == [only(directory)]
    assert found.rematched is only(directory)


async def test_a_plain_route_is_known_by_its_endpoint() -> None:
    app, router = FastAPI(), APIRouter()

    @callback("event", "POST", "{$request.query.callback_url}")
    async def endpoint(request: Request) -> Response:
        await request.body()
        return JSONResponse({})

    app.add_route("/plain", endpoint, methods=["POST"])
    router.add_route("/included", endpoint, methods=["PUT"])
    app.include_router(router, prefix="/v1")
    directory = discover(app, None)
    assert listed(directory) == {"POST /plain": ["event"], "PUT /v1/included": ["event"]}
    for method, path in (("POST", "/plain"), ("PUT", "/v1/included")):
        seen = await request(app, directory, method, path)
        assert str(seen.received[0]) == f"{method} {path}"
        assert seen.rematched is seen.received[0]
    assert (await request(app, directory, "PUT", "/plain")).answered is None


async def test_a_route_that_is_added_later_is_compiled_at_first_sight() -> None:
    app, router = FastAPI(), APIRouter()
    app.include_router(router, prefix="/v1")
    directory = discover(app, None)
    assert directory.operations == ()

    @app.post("/later/{id}", callbacks=notifies("late").routes)
    def handler(id: str, invoice: Invoice, callback_url: str = "") -> None: ...  # noqa: A002

    seen = await request(app, directory, "POST", "/later/1")
    assert isinstance(seen.received[0], Operation)
    assert str(seen.received[0]) == "POST /later/{id}"
    assert listed(directory) == {"POST /later/{id}": ["late"]}
    again = await request(app, directory, "POST", "/later/2")
    assert again.received == seen.received


async def test_a_wrong_route_that_is_added_later_is_logged_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()
    directory = discover(app, None)

    @app.post("/later", callbacks=[*notifies("right").routes, *notifies("wrong", "{$request.query.}").routes])
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    with caplog.at_level(logging.ERROR, "callback_middleware"):
        for _ in range(3):
            seen = await request(app, directory, "POST", "/later")
            assert (seen.status, seen.received, seen.answered) == (200, [None], None)
    (record,) = caplog.records
    assert "POST /later → wrong" in record.getMessage()


async def test_a_copied_scope_is_found_again_by_asking_the_routes() -> None:
    app, router = FastAPI(), APIRouter(prefix="/v1")

    @router.post("/invoices/{id}", callbacks=notifies("one").routes)
    def handler(id: int, invoice: Invoice, callback_url: str = "") -> None: ...  # noqa: A002

    app.include_router(router)

    directory = discover(app, None)
    seen = await request(Copying(app), directory, "POST", "/v1/invoices/7")
    assert seen.received == [UNROUTED]
    assert seen.answered is UNROUTED
    assert seen.rematched is only(directory)
    assert directory.path_params(seen.scope, only(directory)) == {"id": "7"}
    assert (await request(Copying(app), directory, "POST", "/nowhere")).rematched is None


async def test_a_copied_scope_finds_routes_that_were_added_later() -> None:
    app = FastAPI()
    directory = discover(app, None)

    @app.post("/later", callbacks=notifies("one").routes)
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    assert str((await request(Copying(app), directory, "POST", "/later")).rematched) == "POST /later"


async def test_within_a_mount_whose_inner_middleware_copies_only_its_routes_are_asked() -> None:
    inner = FastAPI()

    @inner.post("/x", callbacks=notifies("inside").routes)
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    app = FastAPI()
    app.mount("/sub", Copying(inner))
    directory = discover(app, None)
    seen = await request(app, directory, "POST", "/sub/x")
    assert seen.answered is UNROUTED
    assert seen.rematched is only(directory)


async def test_mounted_itself_it_looks_past_the_route_of_the_application_around_it() -> None:
    """At the sub-application's own middleware the scope has the parent's mount in it."""
    inner = app_with_callback(lambda: None)
    directory = discover(inner, None)
    received: list[object] = []

    class Noting(Wrapping):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            received.append(directory.find(scope))
            await self.app(scope, receive, send)

    parent = FastAPI()
    parent.mount("/sub", Noting(inner))
    seen = await request(parent, directory, "POST", "/sub/invoices/")
    assert received == [UNROUTED]
    assert seen.answered is only(directory)
    assert (await request(parent, directory, "POST", "/sub/nowhere")).rematched is None


def test_a_hidden_layout_is_refused_and_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI 0.137.0 and 0.137.1 have no public way to see included routes."""
    if not hasattr(fastapi.routing, "iter_route_contexts"):
        pytest.skip("this FastAPI copies included routes")
    app = FastAPI()
    app.include_router(notifies("x", "/x"))
    monkeypatch.delattr(fastapi.routing, "iter_route_contexts")
    with pytest.raises(InvalidConfiguration, match=r"upgrade it to 0\.137\.2"):
        discover(app, None)


async def test_a_copied_scope_finds_the_route_of_its_method() -> None:
    app = FastAPI()

    @app.get("/invoices/{id}", callbacks=notifies("of_get").routes)
    def read(id: str, callback_url: str = "") -> None: ...  # noqa: A002

    @app.post("/invoices/{id}", callbacks=notifies("of_post").routes)
    def write(id: str, invoice: Invoice, callback_url: str = "") -> None: ...  # noqa: A002

    directory = discover(app, None)
    for method in ("GET", "POST"):
        seen = await request(Copying(app), directory, method, "/invoices/1")
        assert str(seen.rematched) == f"{method} /invoices/{{id}}"


def test_a_route_that_the_endpoint_contradicts_was_left_by_a_router_further_out() -> None:
    app = app_with_callback(lambda: None)
    directory = discover(app, None)
    route: Any = app.router.routes[-1]
    scope = {"type": "http", "method": "POST", "path": "/invoices/", "route": route, "endpoint": route.endpoint}
    assert directory.find(scope) is only(directory)
    assert directory.find({**scope, "endpoint": print}) is None


def test_a_route_whose_endpoint_was_wrapped_after_the_start_is_still_itself() -> None:
    app = app_with_callback(lambda: None)
    directory = discover(app, None)
    route: Any = app.router.routes[-1]
    route.endpoint = functools.wraps(route.endpoint)(lambda *_: None)
    scope = {"type": "http", "method": "POST", "path": "/invoices/", "route": route, "endpoint": route.endpoint}
    assert directory.find(scope) is only(directory)


async def test_a_route_that_cannot_even_be_looked_at_harms_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()
    directory = discover(app, None)

    @app.post("/later", callbacks=notifies("one").routes)
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    def explode(*_: object) -> None:
        raise RuntimeError("as nobody foresaw")

    monkeypatch.setattr("callback_middleware.sources.routing.tree_of", explode)
    seen = await request(app, directory, "POST", "/later")
    assert (seen.status, seen.received) == (200, [None])
    assert "as nobody foresaw" in caplog.text


async def test_a_root_path_of_the_application_is_known_where_the_scope_is_copied() -> None:
    app = app_with_callback(lambda: None)
    app.root_path = "/api"
    directory = discover(app, None)
    for path in ("/api/invoices/", "/invoices/"):
        assert (await request(Copying(app), directory, "POST", path)).rematched is only(directory)


async def test_endpoints_that_come_and_go_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callback_middleware.sources.routing._MOST_STRANGERS", 2)
    directory = discover(app_with_callback(lambda: None), None)
    for _ in range(5):
        assert directory.find({"type": "http", "method": "GET", "path": "/", "endpoint": object()}) is None

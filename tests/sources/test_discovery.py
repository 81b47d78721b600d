"""What is found, and in what: routes, a document, or both; and what is imported to find it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from documents import callback_operation, documented, raw
from fastapi import APIRouter, FastAPI, Request
from invoicing import Invoice, app_with_callback, only
from probing import listed, request
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from callback_middleware.errors import InvalidConfiguration
from callback_middleware.operations import Operation
from callback_middleware.sources.discovery import UNROUTED, Directory, discover
from callback_middleware.sources.wrappers import routed


def test_an_application_is_found_within_what_wraps_it() -> None:
    app = FastAPI()
    assert routed(app) is app
    assert routed(CORSMiddleware(CORSMiddleware(app))) is app
    assert routed(app.router) is app.router
    assert routed(raw) is None
    assert routed(None) is None


def test_what_wraps_itself_is_not_followed_for_ever() -> None:
    class Loop:
        @property
        def app(self) -> Any:
            return self

    assert routed(Loop()) is None


def test_routes_of_another_framework_are_not_taken_for_starlettes() -> None:
    class Litestar:
        routes = ("an HTTPRoute of its own kind",)

    assert routed(Litestar()) is None
    assert discover(Litestar(), None).operations == ()


def test_within_the_middleware_stack_the_router_is_found() -> None:
    app = app_with_callback(lambda: None)
    assert listed(discover(CORSMiddleware(app.router), None)) == {"POST /invoices/": ["<lambda>"]}


def test_an_application_that_mounts_itself_is_looked_at_once() -> None:
    app = app_with_callback(lambda: None)
    app.mount("/again", app)
    assert len(discover(app, None).operations) == 1


async def test_the_document_defines_the_callbacks_and_the_router_decides_the_operation() -> None:
    app = FastAPI()

    @app.post("/{anything}")
    async def general(anything: str, request: Request) -> None:
        await request.body()

    @app.post("/invoices")
    def create(invoice: Invoice) -> None: ...

    directory = discover(app, documented(callback_operation()))
    assert listed(directory) == {"POST /invoices": ["event"]}
    seen = await request(app, directory, "POST", "/invoices")
    assert (seen.status, seen.answered) == (200, None), (
        "a router takes the first route; the document would take the other"
    )

    app.router.routes.reverse()
    seen = await request(app, directory, "POST", "/invoices")
    assert seen.received == [only(directory)]
    assert only(directory).handler_sends is False


async def test_a_router_may_have_the_base_path_that_the_document_has_in_its_servers() -> None:
    app, router = FastAPI(), APIRouter(prefix="/v1")

    @router.post("/invoices")
    def create(invoice: Invoice) -> None: ...

    app.include_router(router)
    directory = discover(app, documented(callback_operation(), servers=[{"url": "https://api.example/v1"}]))
    assert (await request(app, directory, "POST", "/v1/invoices")).answered is only(directory)


def test_the_routes_own_callbacks_do_not_count_beside_a_document() -> None:
    assert discover(app_with_callback(lambda: None), {"openapi": "3.1.0", "paths": {}}).operations == ()


def test_functions_still_name_the_callbacks_of_the_applications_own_document() -> None:
    def invoice_notification(body: Invoice) -> None: ...

    app = app_with_callback(invoice_notification)
    operation = only(discover(app, app.openapi()))
    assert operation.find(invoice_notification) is operation.callbacks[0]


def test_a_documented_operation_that_no_route_serves_is_told() -> None:
    directory = discover(FastAPI(), documented(callback_operation()))
    assert directory.operations == ()
    assert directory.warnings == ("POST /invoices: no route of the application serves it (#/paths/~1invoices/post)",)


async def test_what_is_mounted_unseen_is_matched_by_the_document() -> None:
    async def endpoint(request: Request) -> Response:
        await request.body()
        return JSONResponse({})

    document = documented(callback_operation())
    document["paths"]["/django/invoices/{id}"] = document["paths"].pop("/invoices")
    app = Starlette(routes=[Route("/own", endpoint, methods=["POST"]), Mount("/django", raw)])
    directory = discover(app, document)
    assert directory.warnings == ()
    seen = await request(app, directory, "POST", "/django/invoices/5")
    assert seen.received == [only(directory)]
    assert directory.path_params(seen.scope, only(directory)) == {"id": "5"}
    assert (await request(app, directory, "POST", "/own")).answered is None

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        await app(dict(scope), receive, send)

    seen = await request(copying, directory, "POST", "/django/invoices/6")
    assert seen.received == [UNROUTED]
    assert seen.rematched is only(directory)
    assert directory.path_params(seen.scope, only(directory)) == {"id": "6"}


def test_errors_of_routes_and_of_the_document_come_together() -> None:
    document = documented(callback_operation(), expression="{$request.query.}")
    document["paths"]["/b"] = {"$ref": "#/nowhere"}
    with pytest.raises(InvalidConfiguration) as caught:
        discover(raw, document)
    assert len(caught.value.errors) == 2


@pytest.mark.parametrize(
    ("make", "absent"),
    [
        ("async def app(scope, receive, send): ...", ["fastapi", "starlette", "pydantic", "jsonschema", "yaml"]),
        ("from starlette.applications import Starlette; app = Starlette()", ["fastapi", "pydantic", "jsonschema"]),
    ],
)
def test_no_framework_is_imported_that_the_application_does_not_use(make: str, absent: list[str]) -> None:
    program = (
        f"{make}\nfrom callback_middleware.sources.discovery import discover\ndiscover(app, None)\n"
        "import sys; print([name for name in sys.modules if '.' not in name])"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603 - our own program
    for name in absent:
        assert f"'{name}'" not in result.stdout


@pytest.mark.parametrize(("face", "framework"), [("fastapi", "fastapi"), ("starlette", "starlette.requests")])
def test_a_face_without_its_framework_names_the_extra(face: str, framework: str) -> None:
    program = f"import sys; sys.modules[{framework!r}] = None; import callback_middleware.{face}"
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)  # noqa: S603 - our own program
    assert f"pip install 'callback_middleware[{face}]'" in result.stderr


def test_a_directory_lists_each_operation_once() -> None:
    app = app_with_callback(lambda: None)
    app.router.routes.append(app.router.routes[-1])
    directory = discover(app, None)
    assert isinstance(directory, Directory)
    assert all(isinstance(one, Operation) for one in directory.operations)
    assert len(directory.operations) == 1

"""Callbacks that are declared on Starlette's endpoints."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest
from invoicing import Event, only, only_callback
from probing import listed, request
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route

from callback_middleware.errors import InvalidConfiguration, NotMounted, PayloadInvalid
from callback_middleware.operations import Operation
from callback_middleware.responses import AnswerCheck
from callback_middleware.sources.discovery import UNROUTED, discover
from callback_middleware.sources.starlette import callback
from callback_middleware.starlette import callbacks_of

HERE = "{$request.query.callback_url}"


@callback("event", "POST", HERE + "/events", body=Event)
async def endpoint(request: Request) -> Response:
    await request.body()
    return JSONResponse({})


async def test_a_decorated_endpoint_is_an_operation() -> None:
    app = Starlette(routes=[Route("/invoices/{id:int}", endpoint, methods=["POST"])])
    directory = discover(app, None)
    assert listed(directory) == {"POST /invoices/{id}": ["event"]}
    assert only(directory).handler_sends is None, "an endpoint has the request, from which it may send"
    seen = await request(app, directory, "POST", "/invoices/5")
    assert seen.received == [only(directory)]
    assert seen.rematched is only(directory)
    assert directory.path_params(seen.scope, only(directory)) == {"id": 5}


async def test_what_is_not_decorated_has_no_callbacks() -> None:
    async def plain(request: Request) -> Response:
        await request.body()
        return JSONResponse({})

    app = Starlette(routes=[Route("/", plain, methods=["POST"])])
    directory = discover(app, None)
    assert directory.operations == ()
    seen = await request(app, directory, "POST", "/")
    assert (seen.received, seen.answered) == ([None], None)


def test_decorators_stack_and_are_listed_as_they_are_written() -> None:
    @callback("first", "POST", HERE)
    @callback("second", "put", HERE)
    async def stacked(request: Request) -> Response:
        return JSONResponse({})

    operation = only(discover(Starlette(routes=[Route("/", stacked, methods=["POST"])]), None))
    assert [(one.name, one.method) for one in operation.callbacks] == [("first", "POST"), ("second", "PUT")]


async def test_head_is_answered_by_get_and_is_the_same_operation() -> None:
    app = Starlette(routes=[Route("/", endpoint)])
    directory = discover(app, None)
    assert listed(directory) == {"GET /": ["event"]}
    assert (await request(app, directory, "HEAD", "/")).answered is only(directory)
    seen = await request(app, directory, "POST", "/")
    assert (seen.status, seen.answered) == (405, None)


async def test_an_endpoint_class_has_callbacks_for_all_methods_or_for_one() -> None:
    @callback("of_class", "POST", HERE)
    class Invoices(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return JSONResponse({})

        @callback("of_method", "POST", HERE)
        async def post(self, request: Request) -> Response:
            return JSONResponse({})

    app = Starlette(routes=[Route("/", Invoices)])
    directory = discover(app, None)
    assert listed(directory) == {"GET /": ["of_class"], "POST /": ["of_class", "of_method"]}
    get, post = directory.operations
    for method, operation in (("GET", get), ("HEAD", get), ("POST", post), ("PUT", None)):
        assert (await request(app, directory, method, "/")).answered is operation


def test_a_subclass_adds_to_what_its_parent_declares() -> None:
    @callback("parent", "POST", HERE)
    class Parent(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return JSONResponse({})

    @callback("child", "POST", HERE)
    class Child(Parent): ...

    app = Starlette(routes=[Route("/parent", Parent), Route("/child", Child)])
    assert listed(discover(app, None)) == {"GET /parent": ["parent"], "GET /child": ["child", "parent"]}


async def test_a_partial_is_what_it_applies() -> None:
    async def prepared(greeting: str, request: Request) -> Response:
        return JSONResponse({"greeting": greeting})

    callback("inner", "POST", HERE)(prepared)
    partial = callback("outer", "POST", HERE)(functools.partial(prepared, "hello"))
    app = Starlette(routes=[Route("/", partial, methods=["POST"])])
    directory = discover(app, None)
    assert listed(directory) == {"POST /": ["outer", "inner"]}
    assert (await request(app, directory, "POST", "/")).answered is only(directory)


async def test_mounts_and_hosts_are_looked_through() -> None:
    inner = Starlette(routes=[Route("/x", endpoint, methods=["POST"])])
    deep = Mount("/deep", routes=[Route("/y", endpoint, methods=["POST"])])
    app = Starlette(routes=[Mount("/{tenant}/sub", inner), Host("{name}.example", Starlette(routes=[deep]))])
    directory = discover(app, None)
    assert listed(directory) == {"POST /{tenant}/sub/x": ["event"], "POST /deep/y": ["event"]}
    under_mount, under_host = directory.operations
    seen = await request(app, directory, "POST", "/t1/sub/x")
    assert seen.received == [under_mount]
    assert directory.path_params(seen.scope, under_mount) == {"tenant": "t1"}
    assert (await request(app, directory, "POST", "/deep/y")).received == [under_host]


async def test_one_endpoint_on_several_routes_is_several_operations() -> None:
    routes = [Route("/a/{id}", endpoint, methods=["POST"]), Route("/b/{id}", endpoint, methods=["POST", "PUT"])]
    app = Starlette(routes=[*routes, Mount("/sub", routes=[Route("/c", endpoint, methods=["PATCH"])])])
    directory = discover(app, None)
    for method, path in (("POST", "/a/{id}"), ("POST", "/b/{id}"), ("PUT", "/b/{id}"), ("PATCH", "/sub/c")):
        seen = await request(app, directory, method, path.replace("{id}", "1"))
        assert str(seen.received[0]) == f"{method} {path}"


async def test_a_mount_of_something_unknown_has_no_callbacks() -> None:
    async def raw(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    app = Starlette(routes=[Mount("/raw", raw), Route("/x", endpoint)])
    directory = discover(app, None)
    seen = await request(app, directory, "POST", "/raw/x")
    assert (seen.received, seen.answered, seen.rematched) == ([None], None, None)


async def test_middleware_that_reads_before_the_router_waits_for_it() -> None:
    class ReadsFirst:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await self.app(scope, receive, send)

    inner = Starlette(routes=[Route("/x", endpoint, methods=["POST"])])
    app = Starlette(routes=[Mount("/sub", ReadsFirst(inner))])
    directory = discover(app, None)
    seen = await request(ReadsFirst(app), directory, "POST", "/sub/x")
    assert seen.received == [UNROUTED, UNROUTED, only(directory)]


def test_a_body_is_a_model_a_schema_any_json_or_none() -> None:
    def declared(**options: Any) -> Any:
        @callback("event", "POST", HERE, **options)
        async def handler(request: Request) -> Response:
            return JSONResponse({})

        return only_callback(discover(Starlette(routes=[Route("/", handler)]), None)).body

    assert declared() is None
    assert declared(body=Event).encode({"desc": "x"}) == b'{"desc":"x"}'
    assert declared(body={}).encode([1]) == b"[1]"
    assert declared(payload={"static": True}).encode({"a": None}) == b'{"a":null}'
    by_schema = declared(
        body={
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"$ref": "#/$defs/Id"}},
            "$defs": {"Id": {"type": "string"}},
        }
    )
    assert by_schema.encode({"id": "1"}) == b'{"id":"1"}'
    for wrong in ({}, {"id": 1}):
        with pytest.raises(PayloadInvalid, match="schema"):
            by_schema.encode(wrong)


def test_what_is_wrong_is_said_with_where_it_stands() -> None:
    @callback("event", "POST", "{$request.query.}", body={"type": "nonsense"})
    async def handler(request: Request) -> Response:
        return JSONResponse({})

    with pytest.raises(InvalidConfiguration, match="GET / → event: "):
        discover(Starlette(routes=[Route("/", handler)]), None)


async def test_without_the_middleware_the_error_says_so() -> None:
    async def handler(request: Request) -> Response:
        callbacks_of(request.scope)
        callbacks_of(request).send("event", {})
        return JSONResponse({})

    app = Starlette(routes=[Route("/", handler)])
    with pytest.raises(NotMounted, match="add_middleware"):
        await request(app, discover(app, None), "GET", "/")


def test_operations_say_who_they_are() -> None:
    operation = only(discover(Starlette(routes=[Route("/", endpoint)]), None))
    assert isinstance(operation, Operation)
    assert str(operation.callbacks[0]) == f"event (POST {HERE}/events)"


class Ack(BaseModel):
    ok: bool


def answers_of(response: Any) -> AnswerCheck | None:
    @callback("event", "POST", HERE, response=response)
    async def acknowledged(request: Request) -> Response:
        return JSONResponse({})

    return only_callback(discover(Starlette(routes=[Route("/", acknowledged, methods=["POST"])]), None)).answers


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (Ack, "the body is no Ack: 'ok' (missing)"),
        ({"required": ["ok"]}, """the body does not fit its schema: "$: 'ok' is a required property\""""),
    ],
    ids=["model", "schema"],
)
def test_a_response_is_what_receivers_answer_with_any_success(response: Any, problem: str) -> None:
    check = answers_of(response)
    assert check is not None
    for status in (200, 202):
        assert check(status, "application/json", b'{"ok":true}') is None
        assert check(status, "application/json", b"{}") == problem
    assert check(204, None, b"") is None


def test_an_empty_schema_is_any_json() -> None:
    check = answers_of({})
    assert check is not None
    assert check(200, "application/json", b"[1]") is None
    assert check(200, "application/json", b"[1") is not None
    assert check(200, "text/plain", b"OK") is not None


def test_patterns_of_a_schema_are_not_tried_on_what_a_receiver_chose() -> None:
    check = answers_of({"properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}})
    assert check is not None
    assert check(200, "application/json", b'{"text":"%s!"}' % (b"a" * 5000)) is None
    assert check(200, "application/json", b'{"text":5}') is not None


def test_without_a_response_nothing_is_declared() -> None:
    assert answers_of(None) is None


def test_a_response_that_cannot_be_checked_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown: ...

    with pytest.raises(InvalidConfiguration, match="Pydantic cannot check its receiver's answer"):
        answers_of(Unknown)
    monkeypatch.setitem(sys.modules, "callback_middleware.sources.typed_answers", None)
    with pytest.raises(InvalidConfiguration, match=r"response=.*pip install pydantic"):
        answers_of(Ack)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(InvalidConfiguration, match=r"callback_middleware\[openapi\]"):
        answers_of({"type": "object"})

"""What a FastAPI callback's route declares of its receiver's answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from invoicing import app_with_callback, only, only_callback
from pydantic import BaseModel

from callback_middleware.responses import AnswerCheck
from callback_middleware.sources.discovery import discover

JSON = "application/json"


class Ack(BaseModel):
    ok: bool


class Later(BaseModel):
    eta: int


def notify() -> None: ...


def declared(**route: Any) -> AnswerCheck:
    answers = only_callback(discover(app_with_callback(notify, **route), None)).answers
    assert answers is not None
    return answers


def test_a_response_model_is_what_the_receiver_answers_with_200() -> None:
    check = declared(response_model=Ack)
    assert check(200, JSON, b'{"ok":true}') is None
    assert check(200, JSON, b"{}") == "the body is no Ack: 'ok' (missing)"
    assert check(200, JSON, b"") == "the body is empty; declared: application/json"
    assert check(200, "text/plain", b"OK") == "the body is of another media type; declared: application/json"
    assert check(202, JSON, b'{"ok":true}') == "answered 202; declared: 200"


def test_the_type_that_a_function_returns_is_one() -> None:
    def acknowledged() -> Ack: ...  # type: ignore[empty-body]

    check = only_callback(discover(app_with_callback(acknowledged), None)).answers
    assert check is not None
    assert check(200, JSON, b"{}") is not None


@pytest.mark.parametrize("route", [{}, {"response_model": None}, {"response_model": Any}])
def test_who_says_nothing_of_the_body_takes_any(route: Any) -> None:
    check = declared(**route)
    assert check(200, "text/plain", b"OK") is None
    assert check(200, None, b"") is None
    assert check(202, None, b"") == "answered 202; declared: 200"


@pytest.mark.parametrize("status", [201, HTTPStatus.CREATED])
def test_a_status_code_is_the_one_that_is_declared(status: int) -> None:
    check = declared(status_code=status, response_model=Ack)
    assert check(201, JSON, b'{"ok":true}') is None
    assert check(201, JSON, b"{}") is not None
    assert check(200, JSON, b'{"ok":true}') == "answered 200; declared: 201"


def test_no_content_has_none() -> None:
    check = declared(status_code=204, response_model=None)
    assert check(204, None, b"") is None
    assert check(200, None, b"") == "answered 200; declared: 204"


def test_responses_add_statuses_with_models_of_their_own() -> None:
    check = declared(
        response_model=Ack,
        responses={
            202: {"model": Later},
            "203": {"description": "whatever"},
            HTTPStatus.CREATED: {"model": Later | None},
            404: {"model": Ack},
        },
    )
    assert check(200, JSON, b'{"ok":true}') is None
    assert check(202, JSON, b'{"eta":5}') is None
    assert check(202, JSON, b'{"ok":true}') == "the body is no Later: 'eta' (missing)"
    assert check(203, "text/html", b"<h1>") is None
    assert check(201, JSON, b"null") is None
    assert check(206, None, b"") == "answered 206; declared: 200, 201, 202, 203"


@pytest.mark.parametrize("key", ["2XX", "default"])
def test_responses_may_be_of_a_range_of_statuses(key: str) -> None:
    check = declared(responses={key: {"model": Later}})
    assert check(202, JSON, b'{"eta":5}') is None
    assert check(202, JSON, b"{}") is not None
    assert check(200, JSON, b"{}") is None, "of this one the function says nothing"


def test_a_status_that_is_described_twice_takes_what_either_describes() -> None:
    check = declared(response_model=Ack, responses={200: {"model": Later, "content": {"image/png": {}}}})
    assert check(200, JSON, b'{"ok":true}') is None
    assert check(200, JSON, b'{"eta":5}') is None
    assert check(200, "image/png", b"\x89PNG") is None
    assert check(200, JSON, b"{}") is not None
    assert check(200, "text/plain", b"OK") is not None


def test_contents_may_be_written_in_openapis_words() -> None:
    schema = {"type": "object", "required": ["done"]}
    by_responses = declared(responses={202: {"content": {JSON: {"schema": schema}}}})
    by_extra = declared(openapi_extra={"responses": {"202": {"content": {JSON: {"schema": schema}}}}})
    for check in (by_responses, by_extra):
        assert check(202, JSON, b'{"done":1}') is None
        assert check(202, JSON, b"{}") == """the body does not fit its schema: "$: 'done' is a required property\""""


def test_references_lead_into_the_applications_own_document() -> None:
    router = APIRouter()
    reference = {"schema": {"$ref": "#/components/schemas/Ack"}}
    router.post("{$callback_url}", responses={202: {"content": {JSON: reference}}})(notify)
    app = FastAPI()

    @app.post("/invoices/", callbacks=router.routes)
    def create(ack: Ack, callback_url: str | None = None) -> None: ...

    check = only_callback(discover(app, None)).answers
    assert check is not None
    assert check(202, JSON, b'{"ok":true}') is None
    assert check(202, JSON, b"{}") is not None
    assert app.openapi_schema is None, "routes may be added yet"


@pytest.mark.parametrize("response_class", [PlainTextResponse, HTMLResponse])
def test_another_response_class_says_which_media_type_and_no_more(response_class: type[Response]) -> None:
    check = declared(response_class=response_class)
    assert response_class.media_type is not None
    assert check(200, response_class.media_type, b"OK") is None
    assert check(200, JSON, b"{}") == f"the body is of another media type; declared: {response_class.media_type}"


def test_a_response_class_without_a_media_type_says_nothing() -> None:
    assert declared(response_class=Response)(200, "image/png", b"\x89PNG") is None


def test_included_callback_routers_say_what_they_add() -> None:
    inner = APIRouter()
    inner.post("{$callback_url}", response_model=Ack)(notify)
    outer = APIRouter()
    outer.include_router(inner, responses={202: {"model": Later}})
    app = FastAPI()

    @app.post("/invoices/", callbacks=outer.routes)
    def create(callback_url: str | None = None) -> None: ...

    check = only_callback(discover(app, None)).answers
    assert check is not None
    assert check(200, JSON, b"{}") == "the body is no Ack: 'ok' (missing)"
    assert check(202, JSON, b"{}") == "the body is no Later: 'eta' (missing)"


def test_callbacks_in_openapi_extra_declare_their_answers_too() -> None:
    app = FastAPI()
    ack = {"200": {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Ack"}}}}}
    extra = {"callbacks": {"event": {"{$request.query.callback_url}": {"post": {"responses": ack}}}}}

    @app.post("/x", openapi_extra=extra)
    def handler(ack: Ack, callback_url: str = "") -> None: ...

    (event,) = only(discover(app, None)).callbacks
    assert event.answers is not None
    assert event.answers(200, JSON, b"{}") is not None


ANSWERS = [
    (status, media_type, body)
    for status in (200, 201, 202, 204, 206)
    for media_type in (None, JSON, "text/plain", "image/png")
    for body in (None, b"", b"null", b"OK", b'{"ok":true}', b'{"eta":5}', b'{"ok":"true"}', b'{"eta":5.5}')
]


@pytest.mark.parametrize(
    "route",
    [
        {},
        {"response_model": Ack},
        {"response_model": Ack, "status_code": 201, "responses": {202: {"model": Later}, 404: {"model": Ack}}},
        {"response_model": Ack, "responses": {"2XX": {"model": Later}}},
        {"responses": {"default": {"model": Later}, 202: {}}},
        {"response_model": Ack | None, "responses": {200: {"content": {"image/png": {}}}}},
        {"response_class": PlainTextResponse},
        {"response_class": Response},
        {"status_code": 204, "response_model": None},
    ],
)
def test_routes_and_the_document_that_fastapi_makes_of_them_say_the_same(route: Any) -> None:
    app = app_with_callback(notify, **route)
    by_route = only_callback(discover(app, None)).answers
    by_document = only_callback(discover(app, app.openapi())).answers
    assert by_route is not None
    assert by_document is not None
    for answer in ANSWERS:
        assert (by_route(*answer) is None) == (by_document(*answer) is None), answer


@pytest.mark.parametrize(
    ("route", "where"),
    [
        ({"responses": {202: {"content": {JSON: {"schema": {"$ref": "#/nowhere"}}}}}}, "responses/202/content/"),
        ({"openapi_extra": {"responses": {"202": "accepted"}}}, "openapi_extra/responses/202 must be an object"),
    ],
)
def test_what_cannot_be_compiled_stops_no_start_and_is_told(route: Any, where: str) -> None:
    directory = discover(app_with_callback(notify, **route), None)
    assert only_callback(directory).answers is None
    (warning,) = (one for one in directory.warnings if "answers" in one)
    assert warning.startswith("POST /invoices/ → notify: what its receiver answers is not checked: ")
    assert where in warning

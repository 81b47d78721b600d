"""The callbacks that FastAPI's routes document."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, Header, Query
from invoicing import (
    Event,
    Invoice,
    app_with_callback,
    notifies,
    only,
    only_callback,
)
from probing import listed

from callback_middleware.errors import (
    AmbiguousCallback,
    InvalidConfiguration,
    PayloadInvalid,
)
from callback_middleware.options import deliver
from callback_middleware.sources.discovery import discover


def takes_event(body: Event) -> None: ...


def test_routers_within_callback_routers_count() -> None:
    outer = notifies("outer")
    outer.include_router(notifies("inner", "{$callback_url}/inner"))
    app = FastAPI()

    @app.post("/x", callbacks=outer.routes)
    def handler(callback_url: str = "") -> None: ...

    assert listed(discover(app, None)) == {"POST /x": ["outer", "inner"]}


def test_a_callback_that_comes_by_two_ways_is_one() -> None:
    router = notifies("one")
    app = FastAPI(callbacks=router.routes)

    @app.post("/x", callbacks=router.routes)
    def handler(callback_url: str = "") -> None: ...

    assert listed(discover(app, None)) == {"POST /x": ["one"]}


def test_same_named_callbacks_are_told_apart_by_function_or_expression() -> None:
    app = FastAPI()

    @app.post("/x", callbacks=[*notifies("one").routes, *notifies("one", "{$callback_url}/other").routes])
    def handler(callback_url: str = "") -> None: ...

    operation = only(discover(app, None))
    first, second = operation.callbacks
    assert first.function is not None
    assert operation.find(first.function) is first
    assert operation.find("one", expression="{$callback_url}/other") is second
    with pytest.raises(AmbiguousCallback):
        operation.find("one")


def test_deliver_and_x_callback_say_how_it_is_delivered() -> None:
    def plain() -> None: ...

    decorated = deliver(on=201, delay=5)(plain)
    by_decorator = only_callback(discover(app_with_callback(decorated), None)).options
    extra = {"x-callback": {"on": 201, "delay": 5}}
    by_extension = only_callback(discover(app_with_callback(lambda: None, openapi_extra=extra), None)).options
    assert by_decorator == by_extension
    with pytest.raises(InvalidConfiguration, match="both @deliver and x-callback"):
        discover(app_with_callback(decorated, openapi_extra=extra), None)


def test_callbacks_in_openapi_extra_are_sent_too() -> None:
    app = FastAPI()
    extra = {
        "callbacks": {
            "event": {
                "{$request.query.callback_url}": {
                    "post": {
                        "requestBody": {
                            "required": True,
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Invoice"}}},
                        }
                    }
                }
            }
        }
    }

    @app.post("/x", openapi_extra=extra, callbacks=notifies("one").routes)
    def handler(invoice: Invoice, callback_url: str = "") -> None: ...

    one, event = only(discover(app, None)).callbacks
    assert (one.name, event.name) == ("one", "event")
    assert event.body is not None
    assert event.body.encode({"id": "1"}) == b'{"id":"1"}'
    with pytest.raises(PayloadInvalid, match="id"):
        event.body.encode({})
    assert app.openapi_schema is None, "routes may be added yet"


def test_everything_that_is_wrong_is_said_at_once_with_where_it_stands() -> None:
    app = FastAPI()

    @app.post("/a", callbacks=notifies("first", "{$request.query.}").routes)
    def a() -> None: ...

    @app.post("/b", callbacks=notifies("second", "{$url}/x").routes)
    def b() -> None: ...

    with pytest.raises(InvalidConfiguration) as caught:
        discover(app, None)
    assert [where for where, _ in caught.value.errors] == ["POST /a → first", "POST /b → second"]


def test_warnings_say_where_they_stand() -> None:
    directory = discover(app_with_callback(lambda: None, "{$request.query.calback_url}"), None)
    (warning,) = directory.warnings
    assert warning.startswith("POST /invoices/ → <lambda>: ")


def test_strict_refuses_the_dialects() -> None:
    with pytest.raises(InvalidConfiguration):
        discover(app_with_callback(lambda: None), None, strict=True)


def test_parameters_of_the_callback_are_declared_by_its_function() -> None:
    def notify(
        number: int,
        trace_id: Annotated[str, Header()],
        page: Annotated[list[int] | None, Query(alias="p")] = None,
    ) -> None: ...

    found = only_callback(discover(app_with_callback(notify, "{$callback_url}/{number}"), None))
    assert [(one.name, one.location, one.required, one.python_name) for one in found.parameters] == [
        ("number", "path", True, None),
        ("p", "query", False, "page"),
        ("trace-id", "header", True, "trace_id"),
    ]
    number, page, trace = found.parameters
    assert number.check is not None
    assert page.check is not None
    assert trace.check is not None
    number.check(5)
    number.check("5")
    page.check([1, 2])
    trace.check("abc")
    trace.check(5)
    for refused in ("x", "secret"):
        with pytest.raises(PayloadInvalid, match="'number'") as caught:
            number.check(refused)
        assert "secret" not in str(caught.value)


def test_two_methods_of_one_expression_cannot_both_send_themselves() -> None:
    router = APIRouter()
    router.api_route("{$callback_url}", methods=["POST", "PUT"])(deliver(payload={"desc": "x"})(takes_event))
    app = FastAPI()

    @app.post("/x", callbacks=router.routes)
    def handler(callback_url: str = "") -> None: ...

    with pytest.raises(InvalidConfiguration, match=r"POST /x: .*payload for one method alone"):
        discover(app, None)

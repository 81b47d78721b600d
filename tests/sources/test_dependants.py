"""What a FastAPI handler and its dependencies declare."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import Body, Cookie, Depends, FastAPI, Form, Header, Query, Request
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from invoicing import (
    Event,
    Filters,
    Invoice,
    Meta,
    Open,
    app_with_callback,
    notifies,
    only_callback,
)
from probing import request

from callback_middleware import CallbackMiddleware, staging
from callback_middleware.destinations import Destination
from callback_middleware.errors import (
    InvalidConfiguration,
    NotMounted,
)
from callback_middleware.exchange import Exchange
from callback_middleware.expressions.names import Names, Parameter
from callback_middleware.fastapi import Callbacks, callbacks_of
from callback_middleware.sources.dependants import names_of
from callback_middleware.sources.discovery import discover
from callback_middleware.values import MISSING


def with_models(filters: Annotated[Filters, Query()], meta: Annotated[Meta, Header()]) -> None: ...


def with_request(request: Request) -> None: ...


def service(callbacks: Callbacks) -> None: ...


async def session(callbacks: Callbacks) -> AsyncIterator[staging.Callbacks]:
    yield callbacks


def nested(found: Annotated[Any, Depends(service)]) -> None: ...


def names_at(handler: Any) -> Names:
    app = FastAPI()
    app.post("/{number}/x")(handler)
    route: Any = app.routes[-1]
    return names_of(route.dependant, route.body_field)


def parameters_at(handler: Any) -> set[tuple[str, str, str | None]]:
    return {(one.location, one.name, one.python_name) for one in names_at(handler).parameters or ()}


def members_at(handler: Any) -> set[str]:
    return {one.name for one in names_at(handler).body or ()}


def test_parameters_of_dependencies_and_models_are_known_by_both_names() -> None:
    def handler(
        number: int,
        callback_url: Annotated[str, Query(alias="callbackUrl")],
        found: Annotated[Any, Depends(with_models)],
        x_token: Annotated[str, Header()] = "",
    ) -> None: ...

    assert parameters_at(handler) == {
        ("path", "number", None),
        ("query", "callbackUrl", "callback_url"),
        ("query", "pageSize", "page_size"),
        ("header", "x-token", "x_token"),
        ("header", "trace-id", "trace_id"),
    }
    assert names_at(handler).body == ()
    assert names_at(handler).knows_parameters
    assert names_at(handler).knows_body


def test_defaults_are_known() -> None:
    app = FastAPI()

    @app.get("/")
    def handler(url: str = "https://default.example", n: int | None = None, *, required: str) -> None: ...

    route: Any = app.routes[-1]
    assert names_of(route.dependant, route.body_field).parameters == (
        Parameter("url", "query", default="https://default.example"),
        Parameter("n", "query", default=None),
        Parameter("required", "query", default=MISSING),
    )


def test_one_model_is_the_body_and_several_are_embedded() -> None:
    def one(number: int, event: Event) -> None: ...

    def several(number: int, event: Event, invoice: Invoice) -> None: ...

    def embedded(number: int, event: Annotated[Event, Body(embed=True)]) -> None: ...

    def form(number: int, name: Annotated[str, Form()]) -> None: ...

    assert members_at(one) == {"desc", "description", "total"}
    assert members_at(several) == {"event", "invoice"}
    assert members_at(embedded) == {"event"}
    assert members_at(form) == {"name"}


def test_a_body_of_any_shape_is_unknown() -> None:
    def anything(number: int, body: dict[str, Any]) -> None: ...

    def listed_events(number: int, body: list[Event]) -> None: ...

    def opened(number: int, body: Open) -> None: ...

    def optional(number: int, body: Invoice | Event | None = None) -> None: ...

    assert not names_at(anything).knows_body
    assert not names_at(listed_events).knows_body
    assert not names_at(opened).knows_body
    assert members_at(optional) == {"id", "desc", "description", "total"}


def test_a_handler_with_the_raw_request_may_read_anything() -> None:
    def handler(number: int, found: Annotated[Any, Depends(with_request)]) -> None: ...

    names = names_at(handler)
    assert not names.knows_parameters
    assert not names.knows_body
    assert names.parameters == (Parameter("number", "path"),), "what is declared is known all the same"


def test_security_schemes_and_our_own_dependency_hide_nothing() -> None:
    def handler(
        number: int,
        callbacks: Callbacks,
        token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="t"))],
        key: Annotated[str, Depends(APIKeyHeader(name="x-key"))],
    ) -> None: ...

    assert names_at(handler).knows_parameters
    assert parameters_at(handler) == {("path", "number", None), ("header", "x-key", None)}


def test_a_misspelt_name_is_an_error_at_start() -> None:
    with pytest.raises(InvalidConfiguration, match="callback_url"):
        discover(app_with_callback(lambda: None, "{$calback_url}/x"), None)


def test_a_default_of_the_handler_is_where_it_goes() -> None:
    app = FastAPI()

    @app.post("/", callbacks=notifies("one", "{$callback_url}/x").routes)
    def handler(callback_url: str = "https://default.example") -> None: ...

    exchange = Exchange.build(url="https://api.example/", response_status=200)
    resolved = only_callback(discover(app, None)).destination.resolve(exchange)
    assert isinstance(resolved, Destination)
    assert resolved.url == "https://default.example/x"


def test_a_handler_that_takes_callbacks_anywhere_sends_by_hand() -> None:
    def by_hand(found: Annotated[Any, Depends(nested)], callback_url: str = "") -> None: ...

    def may(request: Request, callback_url: str = "") -> None: ...

    def never(callback_url: str = "") -> None: ...

    app = FastAPI()
    handlers: list[Callable[..., Any]] = [by_hand, may, never]
    for number, handler in enumerate(handlers):
        app.post(f"/{number}", callbacks=notifies("one").routes)(handler)
    assert [one.handler_sends for one in discover(app, None).operations] == [True, None, False]


async def test_dependencies_of_every_scope_may_take_callbacks() -> None:
    app, taken = FastAPI(), []
    app.add_middleware(CallbackMiddleware)

    @app.post("/", callbacks=notifies("one").routes)
    async def handler(
        own: Callbacks,
        outer: Annotated[staging.Callbacks, Depends(session, scope="request")],
        inner: Annotated[staging.Callbacks, Depends(session, scope="function")],
        plain: Annotated[staging.Callbacks, Depends(callbacks_of)],
        callback_url: str = "",
    ) -> None:
        taken.extend([own, outer, inner, plain])

    assert (await request(app, discover(app, None), "POST", "/")).status == 200
    assert taken == [taken[0]] * 4


async def test_without_the_middleware_the_error_says_so() -> None:
    app = FastAPI()

    def notify(body: Event) -> None: ...

    @app.post("/")
    async def handler(callbacks: Callbacks) -> None:
        callbacks.send(notify, Event(desc="typed: mypy knows `send`, and that it takes an Event here"))

    with pytest.raises(NotMounted, match="add_middleware"):
        await request(app, discover(app, None), "POST", "/")


def test_beside_the_raw_request_a_declared_parameter_keeps_its_alias_and_default() -> None:
    app = FastAPI()

    @app.post("/", callbacks=notifies("one", "{$callback_url}/{$anything}").routes)
    def handler(
        request: Request, callback_url: Annotated[str, Query(alias="callbackUrl")] = "https://default.example"
    ) -> None: ...

    destination = only_callback(discover(app, None)).destination
    for url, expected in (
        ("https://api.example/?callbackUrl=https://r.example&anything=x", "https://r.example/x"),
        ("https://api.example/?anything=y", "https://default.example/y"),
    ):
        resolved = destination.resolve(Exchange.build(url=url, response_status=200))
        assert isinstance(resolved, Destination)
        assert resolved.url == expected


def test_a_form_has_the_fields_of_its_models() -> None:
    def one(number: int, form: Annotated[Invoice, Form()]) -> None: ...

    def optional(number: int, form: Annotated[Invoice | None, Form()] = None) -> None: ...

    assert members_at(one) == {"id"}
    assert members_at(optional) in ({"id"}, {"form"}), "older versions have no optional form models"


def test_a_callback_that_requires_a_cookie_cannot_be_sent() -> None:
    def notify(session: Annotated[str, Cookie()], other: Annotated[str, Cookie()] = "") -> None: ...

    with pytest.raises(InvalidConfiguration, match="cookie 'session'"):
        discover(app_with_callback(notify), None)

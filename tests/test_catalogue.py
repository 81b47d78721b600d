"""Who notifies names a callback of the whole application: one that is found, or an error that lists what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from callback_middleware import jsontext
from callback_middleware.errors import AmbiguousCallback, CallbackNotFound, PayloadInvalid
from callback_middleware.operations import Body, Callback, Operation, compile_callback
from callback_middleware.options import delivery_options
from callback_middleware.sources.discovery import discover
from callback_middleware.staging import Catalogue


def encode_wrapped(value: object) -> bytes:
    return jsontext.dumps({"wrapped": value})


def encode_numbers(value: object) -> bytes:
    if not isinstance(value, int):
        raise PayloadInvalid("a number is expected")
    return jsontext.dumps(value)


def json_body(media_type: str = "application/json", encode: Callable[[object], bytes] = jsontext.dumps) -> Body:
    return Body(media_type, required=True, encode=encode)


def callback(
    name: str = "paid",
    expression: str = "{$request.query.callback_url}",
    *,
    body: Body | None = None,
    function: Callable[..., Any] | None = None,
) -> Callback:
    return compile_callback(
        name=name,
        method="POST",
        expression=expression,
        options=delivery_options(),
        body=body,
        function=function,
    )


def catalogue(*operations: Sequence[Callback]) -> Catalogue:
    known = [Operation("POST", f"/{number}", callbacks) for number, callbacks in enumerate(operations)]
    return Catalogue(lambda: known)


def function() -> None: ...


def another() -> None: ...


def test_a_callback_is_found_by_its_name_or_its_function_wherever_it_is_documented() -> None:
    known = catalogue([callback("created")], [callback("paid", function=function)])
    for what in ("paid", function):
        found = known.find(what)
        assert (found.name, found.operation) == ("paid", "POST /1")


def test_what_is_not_found_is_told_with_everything_that_there_is() -> None:
    known = catalogue([callback("created")], [callback("paid", function=function)])
    listed = "it documents created .POST .* of POST /0; paid .POST .* of POST /1"
    with pytest.raises(CallbackNotFound, match=f"no callback 'refunded'; {listed}"):
        known.find("refunded")
    with pytest.raises(CallbackNotFound, match=f"no callback 'another'; {listed}"):
        known.find(another)


def test_an_application_that_documents_nothing_says_so() -> None:
    with pytest.raises(CallbackNotFound, match="it documents none"):
        catalogue().find("paid")


def test_a_function_that_stands_for_callbacks_of_two_names_is_no_choice() -> None:
    known = catalogue([callback("paid", function=function)], [callback("settled", function=function)])
    with pytest.raises(AmbiguousCallback, match=r"different names: paid .* of POST /0; settled .* of POST /1"):
        known.find(function)
    assert known.find("settled").name == "settled"


def test_routes_that_are_added_later_are_found() -> None:
    operations = [Operation("POST", "/0", [callback("created")])]
    known = Catalogue(lambda: operations)
    with pytest.raises(CallbackNotFound):
        known.find("paid")
    operations.append(Operation("POST", "/1", [callback("paid")]))
    assert known.find("paid").operation == "POST /1"


def test_what_was_found_is_not_looked_for_again() -> None:
    looks: list[int] = []
    operations = [Operation("POST", "/0", [callback("paid", function=function)])]

    def look() -> Sequence[Operation]:
        looks.append(1)
        return operations

    known = Catalogue(look)
    for _ in range(3):
        known.find("paid")
        known.find(function)
    assert len(looks) == 2


# Bodies


def test_a_body_is_encoded_as_the_callback_declares_with_its_content_type() -> None:
    known = catalogue([callback(body=json_body("application/vnd.x+json"))])
    assert known.find("paid").encode({"a": 1}) == (b'{"a":1}', (("content-type", "application/vnd.x+json"),))


def test_a_callback_without_a_body_has_no_content_type() -> None:
    assert catalogue([callback()]).find("paid").encode(None) == (None, ())
    with pytest.raises(PayloadInvalid, match=r"paid .* declares no body"):
        catalogue([callback()]).find("paid").encode({})


def test_an_optional_body_may_be_left_out() -> None:
    optional = Body("application/json", required=False, encode=jsontext.dumps)
    assert catalogue([callback(body=optional)]).find("paid").encode(None) == (None, ())


def test_declarations_that_make_the_same_of_a_body_are_no_question() -> None:
    known = catalogue([callback(body=json_body())], [callback(body=json_body())])
    assert known.find("paid").encode([1])[0] == b"[1]"


def test_a_body_that_fits_none_of_several_declarations_is_refused() -> None:
    known = catalogue(
        [callback(body=json_body(encode=encode_numbers))], [callback(body=json_body(encode=encode_numbers))]
    )
    with pytest.raises(PayloadInvalid, match="a number"):
        known.find("paid").encode("one")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(json_body(encode=encode_wrapped), id="other bytes"),
        pytest.param(json_body("application/vnd.x+json"), id="another media type"),
        pytest.param(json_body(encode=encode_numbers), id="it fits the one alone"),
        pytest.param(None, id="the other declares no body"),
    ],
)
def test_declarations_that_differ_about_a_body_are_listed(other: Body | None) -> None:
    known = catalogue([callback(body=json_body())], [callback(body=other)])
    with pytest.raises(AmbiguousCallback, match=r"'paid' .* paid .* of POST /0; paid .* of POST /1"):
        known.find("paid").encode({"a": 1})


def test_one_function_has_one_body_however_many_operations_document_it() -> None:
    encoded: list[object] = []

    def encode(value: object) -> bytes:
        encoded.append(value)
        return b"{}"

    places = [[callback(body=json_body(encode=encode), function=function)] for _ in range(3)]
    assert catalogue(*places).find(function).encode({})[0] == b"{}"
    assert encoded == [{}]


# As applications really document them


class Event(BaseModel):
    paid: bool


class Other(BaseModel):
    refunded: bool


def application(*models: type[BaseModel]) -> tuple[FastAPI, list[Callable[..., Any]]]:
    """One operation for each model, with a callback ``notification`` of its own function."""
    app, functions = FastAPI(), []
    for number, model in enumerate(models):
        router = APIRouter()

        def notification(body: BaseModel) -> None: ...

        notification.__annotations__["body"] = model
        router.post("{$callback_url}")(notification)

        @app.post(f"/{number}", callbacks=router.routes)
        def handler(callback_url: str) -> None: ...

        functions.append(notification)
    return app, functions


def test_one_router_on_many_operations_is_one_callback() -> None:
    router = APIRouter()

    @router.post("{$callback_url}")
    def notification(body: Event) -> None: ...

    app = FastAPI()
    for path in ("/invoices/", "/orders/"):

        @app.post(path, callbacks=router.routes)
        def handler(callback_url: str) -> None: ...

    directory = discover(app, None)
    found = Catalogue(lambda: directory.operations).find(notification)
    assert len(found.places) == 2
    assert len(found.kinds) == 1
    assert found.encode(Event(paid=True))[0] == b'{"paid":true}'


def test_two_functions_of_one_name_and_model_are_one_callback() -> None:
    app, functions = application(Event, Event)
    directory = discover(app, None)
    known = Catalogue(lambda: directory.operations)
    names: list[Callable[..., Any] | str] = ["notification", *functions]
    for what in names:
        assert known.find(what).encode(Event(paid=True))[0] == b'{"paid":true}'


def test_two_functions_of_one_name_and_two_models_are_told_apart_by_function_alone() -> None:
    app, functions = application(Event, Other)
    directory = discover(app, None)
    known = Catalogue(lambda: directory.operations)
    with pytest.raises(AmbiguousCallback, match="notify it by its function"):
        known.find("notification").encode(Event(paid=True))
    assert known.find(functions[0]).encode(Event(paid=True))[0] == b'{"paid":true}'
    assert known.find(functions[1]).encode(Other(refunded=True))[0] == b'{"refunded":true}'

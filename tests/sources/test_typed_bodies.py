"""Bodies that are declared by a Python type."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import fastapi
import fastapi.routing
import pydantic
import pytest
from fastapi import APIRouter, Body, FastAPI, Form
from invoicing import (
    AuditedEvent,
    Event,
    Invoice,
    app_with_callback,
    declared_body,
    only_callback,
)
from pydantic import BaseModel, ConfigDict, Field

from callback_middleware.errors import (
    ConfigurationError,
    InvalidConfiguration,
    PayloadInvalid,
)
from callback_middleware.jsontext import loads
from callback_middleware.sources.discovery import discover
from callback_middleware.sources.typed_bodies import typed_body


def encoded(annotation: Any, value: object) -> bytes:
    return declared_body(annotation).encode(value)


def test_an_instance_of_the_model_is_written_by_alias() -> None:
    assert encoded(Event, Event(desc="x", total=1.5)) == b'{"desc":"x","total":1.5}'


def test_what_a_subclass_adds_is_not_sent() -> None:
    assert b"secret" not in encoded(Event, AuditedEvent(desc="x"))


def test_an_instance_is_not_checked_again() -> None:
    class Positive(BaseModel):
        number: Annotated[int, Field(gt=0)]

    given = Positive(number=1)
    given.number = -1
    assert encoded(Positive, given) == b'{"number":-1}'


def test_a_field_that_was_assigned_something_else_is_written_as_what_it_is() -> None:
    class Report(BaseModel):
        title: str
        event: Event

    given = Report(title="x", event=AuditedEvent(desc="y"))
    given.title = 7  # type: ignore[assignment]
    assert encoded(Report, given) == b'{"title":7,"event":{"desc":"y","total":null}}'
    given.event = {"desc": "z"}  # type: ignore[assignment]
    assert encoded(Report, given) == b'{"title":7,"event":{"desc":"z"}}'


def test_a_model_that_holds_what_has_no_json_form_is_refused() -> None:
    class Holder(BaseModel):
        held: Any

    with pytest.raises(PayloadInvalid, match="cannot be written as JSON"):
        encoded(Holder, Holder(held=object()))


def test_a_mapping_is_checked_and_written_as_it_was_given() -> None:
    assert encoded(Event, {"desc": "x", "more": [1]}) == b'{"desc":"x","more":[1]}'


def test_numbers_of_a_template_keep_their_digits() -> None:
    assert encoded(Event, {"desc": "x", "total": loads("9999.10")}) == b'{"desc":"x","total":9999.10}'


def test_a_body_that_does_not_fit_names_the_fields_and_not_the_values() -> None:
    with pytest.raises(PayloadInvalid, match="no Event: desc: Field required; total: ") as caught:
        encoded(Event, {"total": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_dates_and_models_within_containers_are_written() -> None:
    value = {"id": pydantic.TypeAdapter(Any).validate_python("x"), "event": Event(desc="y")}
    assert encoded(dict[str, Any], value) == b'{"id":"x","event":{"desc":"y","total":null}}'
    assert encoded(list[Event], [Event(desc="x"), {"desc": "y"}]) == b'[{"desc":"x","total":null},{"desc":"y"}]'


def test_a_strict_model_takes_json_as_json() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        day: dt.date

    assert encoded(Strict, {"day": "2026-11-22"}) == b'{"day":"2026-11-22"}'


def test_what_has_no_json_form_is_refused() -> None:
    for value in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(PayloadInvalid, match="JSON"):
            encoded(Annotated[Any, Body()], value)


def test_a_form_is_written_from_a_mapping_or_a_model() -> None:
    def notify(name: Annotated[str, Form()], tags: Annotated[list[str], Form()]) -> None: ...

    body = only_callback(discover(app_with_callback(notify), None)).body
    assert body is not None
    assert body.media_type == "application/x-www-form-urlencoded"
    assert body.encode({"name": "a b", "tags": ["x", "y"]}) == b"name=a+b&tags=x&tags=y"


def test_files_cannot_be_sent_and_that_is_an_error_at_start() -> None:
    def notify(file: fastapi.UploadFile) -> None: ...

    with pytest.raises(InvalidConfiguration, match="multipart/form-data"):
        discover(app_with_callback(notify), None)


def test_a_body_may_be_optional() -> None:
    def notify(body: Event | None = None) -> None: ...

    body = only_callback(discover(app_with_callback(notify), None)).body
    assert body is not None
    assert not body.required


def test_the_response_is_the_body_only_where_both_are_one_class() -> None:
    def with_invoice(body: Invoice) -> None: ...

    def with_dict(body: dict) -> None: ...  # type: ignore[type-arg]

    app = FastAPI()

    def add(path: str, function: Any, model: Any) -> None:
        router = APIRouter()
        router.post("{$callback_url}")(function)

        @app.post(path, callbacks=router.routes, response_model=model)
        def handler(callback_url: str = "") -> Any: ...

    add("/same", with_invoice, Invoice)
    add("/other", with_invoice, Event)
    add("/dict", with_dict, dict)
    same, other, anything = discover(app, None).operations
    assert same.callbacks[0].needs.response_body
    assert len(same.automatic) == 1
    assert not other.automatic
    assert not anything.automatic
    assert other.unsendable


def test_an_unusable_type_is_a_configuration_error() -> None:
    class Unknown: ...

    with pytest.raises(ConfigurationError, match="Pydantic cannot check"):
        typed_body(Unknown)


def test_a_form_takes_models_dates_and_exact_numbers() -> None:
    form = "application/x-www-form-urlencoded"
    event = typed_body(Event, media_type=form)
    assert event.encode(Event(desc="x y", total=1.5)) == b"desc=x+y&total=1.5"
    assert event.encode({"desc": "x", "total": loads("9999.10")}) == b"desc=x&total=9999.10"
    anything = typed_body(dict[str, Any], media_type=form)
    assert anything.encode({"day": dt.date(2026, 11, 22)}) == b"day=2026-11-22"
    with pytest.raises(PayloadInvalid, match="form"):
        anything.encode({"x": object()})


def test_text_is_checked_and_sent_as_it_is() -> None:
    assert typed_body(str, media_type="text/plain").encode("hello") == b"hello"


def test_of_many_problems_the_first_few_are_listed() -> None:
    with pytest.raises(PayloadInvalid, match="and 3 more"):
        typed_body(list[int]).encode(["x"] * 8)

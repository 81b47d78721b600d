"""Answers that are declared by a Python type."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, Field, HttpUrl, computed_field, field_validator

from callback_middleware.errors import ConfigurationError
from callback_middleware.jsontext import loads
from callback_middleware.sources.typed_answers import answer_check


class Ack(BaseModel):
    ok: bool
    at: dt.date | None = None


def problem(annotation: Any, body: bytes) -> str | None:
    check = answer_check(annotation)
    assert check is not None
    return check(loads(body))


def test_what_the_model_takes_fits() -> None:
    assert problem(Ack, b'{"ok":true,"at":"2026-11-26","more":1}') is None
    assert problem(list[Ack], b"[]") is None
    assert problem(Ack | None, b"null") is None


def test_what_differs_is_named_by_field_and_rule() -> None:
    assert problem(Ack, b"{}") == "the body is no Ack: 'ok' (missing)"
    assert problem(Ack, b"5") == "the body is no Ack: it (model_type)"
    assert problem(list[Ack], b'[{"ok":5,"at":"x"}]') == (
        f"the body is no {list[Ack].__name__}: '0.ok' (bool_type), '0.at' (date_parsing)"
    )


def test_of_many_problems_the_first_few_are_listed() -> None:
    assert problem(list[int], b"[%s]" % b",".join([b'"x"'] * 8)) == (
        "the body is no list: '0' (int_type), '1' (int_type), '2' (int_type), and 5 more"
    )


def test_nothing_that_the_receiver_said_is_repeated() -> None:
    class Quoting(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def refuse(cls, name: str) -> str:
            raise ValueError(f"{name} is no name")

    assert problem(Quoting, b'{"name":"hunter2"}') == "the body is no Quoting: 'name' (value_error)"


def test_names_that_the_receiver_chose_are_escaped_and_cut() -> None:
    found = problem(dict[str, int], b'{"\\u001b[2J\\n%s":"x"}' % (b"y" * 5000))
    assert found is not None
    assert found.isascii()
    assert found.isprintable()
    assert len(found) < 400


class Kind(enum.Enum):
    PAID = "paid"


class Rich(BaseModel):
    day: dt.date
    at: dt.datetime
    id: uuid.UUID
    kind: Kind
    total: decimal.Decimal
    share: float
    where: HttpUrl
    tags: set[str]
    pair: tuple[int, str]


def test_json_is_taken_as_json_and_nothing_is_turned_into_something_else() -> None:
    text = (
        b'{"day":"2026-11-26","at":"2026-11-26T10:00:00Z","id":"01890000-0000-7000-8000-000000000001","kind":"paid",'
        b'"total":"9.10","share":1,"where":"https://ext.example/","tags":["a"],"pair":[1,"x"]}'
    )
    assert problem(Rich, text) is None
    assert problem(Ack, b'{"ok":"true"}') == "the body is no Ack: 'ok' (bool_type)"
    assert problem(list[int], b'["5"]') == "the body is no list: '0' (int_type)"


def test_a_type_that_reads_other_names_than_it_writes_is_not_asked() -> None:
    class Writing(BaseModel):
        received_at: str = Field(serialization_alias="receivedAt")

    class Reading(BaseModel):
        received_at: str = Field(validation_alias=AliasChoices("receivedAt", "received"))

    class Computing(BaseModel):
        ok: bool

        @computed_field  # type: ignore[prop-decorator]
        @property
        def failed(self) -> bool:
            return not self.ok

    class Holding(BaseModel):
        held: list[Writing]

    class Aliased(BaseModel):
        received_at: str = Field(alias="receivedAt")

    for one_way in (Writing, Reading, Computing, Holding, list[Writing]):
        assert answer_check(one_way) is None
    assert problem(Aliased, b'{"receivedAt":"now"}') is None
    assert problem(Aliased, b"{}") == "the body is no Aliased: 'receivedAt' (missing)"


class Opaque:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


class Loose(BaseModel):
    default: Any = object()


def test_a_type_that_has_no_schema_is_asked_all_the_same() -> None:
    assert problem(list[Opaque], b"[]") is None
    assert problem(list[Opaque], b"5") is not None


def test_a_default_that_has_no_json_form_warns_nobody() -> None:
    assert problem(Loose, b"{}") is None


class Either(BaseModel):
    a: int
    next: "Either | Other | None" = None  # noqa: UP037 - it is not there yet


class Other(BaseModel):
    b: int
    next: Either | Other | None = None


def test_a_receiver_does_not_decide_how_long_its_answer_is_looked_at() -> None:
    deep = b'{"next":' * 90 + b"{}" + b"}" * 90
    assert problem(Either | Other, deep) is None
    shallow = b'{"next":' * 8 + b"{}" + b"}" * 8
    assert problem(Either | Other, shallow) is not None


@pytest.mark.parametrize(("levels", "looked_into"), [(9, True), (10, True), (11, False)])
def test_ten_levels_are_looked_into(levels: int, *, looked_into: bool) -> None:
    nested = b"[" * levels + b"]" * levels
    assert (problem(Ack, nested) is not None) is looked_into
    assert (problem(Ack, b'{"a":' * levels + b"1" + b"}" * levels) is not None) is looked_into


def test_a_type_that_pydantic_does_not_know_is_an_error() -> None:
    class Unknown: ...

    with pytest.raises(ConfigurationError, match="Pydantic cannot check its receiver's answer"):
        answer_check(Unknown)

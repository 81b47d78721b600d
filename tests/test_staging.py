"""``send`` says at once what is wrong, where the handler can still do something about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from callback_middleware import jsontext
from callback_middleware.errors import CallbackNotFound, PayloadInvalid, PlanningError
from callback_middleware.operations import Body, CallbackParameter, Operation, compile_callback
from callback_middleware.options import delivery_options
from callback_middleware.staging import Callbacks

PARAMETERS = [
    CallbackParameter("X-Tenant", "header", required=True, python_name="x_tenant"),
    CallbackParameter("page", "query", required=False),
]
REQUIRED = Body("application/json", required=True, encode=jsontext.dumps)
OPTIONAL = Body("application/json", required=False, encode=jsontext.dumps)


def callbacks(body: Body | None = REQUIRED, parameters: Sequence[CallbackParameter] = (), **options: Any) -> Callbacks:
    known = compile_callback(
        name="paid",
        method="POST",
        expression="{$request.query.callback_url}",
        options=delivery_options(**options),
        body=body,
        parameters=parameters,
    )
    ids = count(1)
    return Callbacks(Operation("POST", "/invoices/", [known]), new_id=lambda: UUID(int=next(ids)))


def test_what_is_staged_has_the_id_that_send_returns() -> None:
    ours = callbacks()
    staged = [ours.send("paid", {"n": 1}), ours.send("paid", {"n": 2})]
    taken = ours.take_staged()
    assert [one.id for one in taken] == [one.id for one in staged]
    assert [one.body for one in taken] == [b'{"n":1}', b'{"n":2}']
    assert ours.take_staged() == []


def test_nothing_is_staged_by_a_send_that_raises() -> None:
    ours = callbacks()
    with pytest.raises(CallbackNotFound):
        ours.send("unpaid", {})
    assert ours.take_staged() == []


def test_an_operation_without_callbacks_says_where_to_declare_them() -> None:
    with pytest.raises(CallbackNotFound, match="callbacks="):
        Callbacks(None, new_id=lambda: UUID(int=1)).send("paid", {})


def test_a_body_for_a_callback_without_one_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="declares no body"):
        callbacks(None).send("paid", {})


def test_an_optional_body_may_be_left_out() -> None:
    ours = callbacks(OPTIONAL)
    ours.send("paid")
    assert ours.take_staged()[0].body is None


def test_none_is_a_body_where_one_is_required() -> None:
    ours = callbacks(REQUIRED)
    ours.send("paid", None)
    assert ours.take_staged()[0].body == b"null"


def test_parameters_go_by_wire_name_or_python_name() -> None:
    ours = callbacks(None, PARAMETERS)
    ours.send("paid", params={"x_tenant": "a", "page": 2})
    assert ours.take_staged()[0].params == {"X-Tenant": "a", "page": 2}


def test_an_undeclared_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(PayloadInvalid, match="no parameter 'tenant'; it declares 'X-Tenant', 'page'"):
        callbacks(None, PARAMETERS).send("paid", params={"tenant": "a"})


def test_a_required_parameter_must_be_given_or_declared() -> None:
    with pytest.raises(PayloadInvalid, match="requires the parameter 'X-Tenant'"):
        callbacks(None, PARAMETERS).send("paid")
    callbacks(None, PARAMETERS, params={"X-Tenant": "a"}).send("paid")


def test_a_header_parameter_with_a_line_break_is_refused_at_once() -> None:
    with pytest.raises(PayloadInvalid, match="X-Tenant"):
        callbacks(None, PARAMETERS).send("paid", params={"X-Tenant": "a\r\nx: 1"})


def test_a_parameter_is_checked_by_its_declaration() -> None:
    def check(value: object) -> None:
        raise PayloadInvalid(f"page: {value!r} is no number")

    declared = [CallbackParameter("page", "query", required=False, check=check)]
    with pytest.raises(PayloadInvalid, match="'x' is no number"):
        callbacks(None, declared).send("paid", params={"page": "x"})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"delay": -1}, "must not be negative"),
        ({"delay": "soon"}, "no duration"),
        ({"delay": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}, "give one"),
        ({"at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the mistake
        ({"dedupe": ""}, "no key"),
        ({"dedupe": 7}, "no key"),
        ({"tags": {"invoice": 7}}, "text to text"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        callbacks(None).send("paid", **wrong)


def test_options_are_kept() -> None:
    ours = callbacks(None)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ours.send("paid", delay=timedelta(minutes=1), dedupe="k", tags={"invoice": "7"})
    ours.send("paid", at=at)
    first, second = ours.take_staged()
    assert (first.delay, first.dedupe, first.tags) == (timedelta(minutes=1), "k", {"invoice": "7"})
    assert (second.delay, second.at) == (None, at)


def test_after_the_request_has_ended_nothing_is_staged() -> None:
    ours = callbacks(None)
    ours.close()
    with pytest.raises(PlanningError, match="has ended"):
        ours.send("paid")


def test_disabled_it_takes_everything_and_stages_nothing() -> None:
    ours = Callbacks(None, new_id=lambda: UUID(int=1), enabled=False)
    assert ours.send("whatever", object()).id == UUID(int=1)
    assert ours.take_staged() == []

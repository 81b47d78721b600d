"""Callbacks are compiled once, chosen without doubt, and sent by themselves only where someone said so."""

from __future__ import annotations

from typing import Any

import pytest

from callback_middleware import jsontext
from callback_middleware.errors import AmbiguousCallback, CallbackNotFound, ConfigurationError
from callback_middleware.expressions import Needs
from callback_middleware.operations import (
    Body,
    Callback,
    CallbackParameter,
    Operation,
    check_methods,
    compile_callback,
)
from callback_middleware.options import delivery_options

BODY = Body("application/json", required=True, encode=jsontext.dumps)
URL = "{$request.query.callback_url}"


def compiled(name: str = "paid", **changes: Any) -> Callback:
    options = {key: changes.pop(key) for key in ("payload", "headers", "params") if key in changes}
    given: dict[str, Any] = {"method": "POST", "expression": URL, "body": BODY, **changes}
    return compile_callback(name=name, options=delivery_options(**options), **given)


def test_it_needs_what_its_parts_need() -> None:
    assert compiled().needs == Needs()
    assert compiled(expression="{$request.body#/url}").needs == Needs(request_body=True)
    assert compiled(payload={"a": "$response.body#/a"}).needs == Needs(response_body=True, response=True)
    assert compiled(headers={"x-id": "{$request.body#/id}"}).needs == Needs(request_body=True)
    assert compiled(payload=lambda exchange: {}).needs == Needs(request_body=True, response_body=True, response=True)


def test_an_operation_needs_what_any_of_its_callbacks_needs() -> None:
    callbacks = [compiled("a"), compiled("b", expression="{$request.body#/url}")]
    assert Operation("POST", "/", callbacks).needs == Needs(request_body=True)


def test_a_payload_without_a_declared_body_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="declares no body"):
        compiled(body=None, payload={"a": 1})


def test_a_value_for_an_undeclared_parameter_is_refused_with_those_there_are() -> None:
    declared = [CallbackParameter("x-tenant", "header", required=False)]
    with pytest.raises(ConfigurationError, match="'tenant'; it declares x-tenant"):
        compiled(parameters=declared, params={"tenant": "a"})


@pytest.mark.parametrize("name", ["host", "Content-Length", "webhook-id", "proxy-authorization", "a b", ""])
def test_a_header_that_is_not_the_callbacks_to_set_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        compiled(headers={name: "x"})


# Which send themselves


def test_a_declared_payload_is_sent_by_itself() -> None:
    operation = Operation("POST", "/", [compiled(payload={"a": 1})])
    assert len(operation.automatic) == 1


def test_a_body_that_nobody_declared_is_not() -> None:
    assert Operation("POST", "/", [compiled()]).automatic == ()


def test_a_callback_without_a_body_is() -> None:
    assert len(Operation("POST", "/", [compiled(body=None)]).automatic) == 1


def test_the_operations_own_response_is() -> None:
    callback = compiled(response_is_body=True)
    assert len(Operation("POST", "/", [callback]).automatic) == 1
    assert callback.needs.response_body


def test_of_several_methods_that_nobody_chose_between_none_is() -> None:
    callbacks = [compiled(body=None, method="POST"), compiled(body=None, method="PUT")]
    assert Operation("POST", "/", callbacks).automatic == ()


def test_of_several_expressions_each_with_a_declared_payload_every_one_is() -> None:
    callbacks = [compiled(payload=1), compiled(payload=2, expression="{$request.query.other_url}")]
    assert len(Operation("POST", "/", callbacks).automatic) == 2


def test_a_required_parameter_without_a_value_keeps_it_from_sending_itself() -> None:
    declared = [CallbackParameter("x-tenant", "header", required=True)]
    assert Operation("POST", "/", [compiled(payload=1, parameters=declared)]).automatic == ()
    filled = compiled(payload=1, parameters=declared, params={"x-tenant": "a"})
    assert len(Operation("POST", "/", [filled]).automatic) == 1


def test_none_is_where_the_handler_takes_them_in_hand() -> None:
    assert Operation("POST", "/", [compiled(payload=1)], handler_sends=True).automatic == ()


def test_nobody_will_ever_send_it_is_said_only_where_that_is_known() -> None:
    callback = compiled()
    assert list(Operation("POST", "/", [callback], handler_sends=False).unsendable) == [callback]
    assert not Operation("POST", "/", [callback], handler_sends=True).unsendable
    assert not Operation("POST", "/", [callback], handler_sends=None).unsendable


def test_two_methods_of_one_expression_that_both_declare_a_payload_would_notify_twice() -> None:
    both = [compiled(payload=1, method="POST"), compiled(payload=1, method="PUT")]
    assert "one method alone" in str(check_methods(both))
    assert check_methods(both[:1]) is None
    assert check_methods([both[0], compiled(method="PUT")]) is None


# Finding


def first(body: object) -> None: ...
def second(body: object) -> None: ...


def test_it_is_found_by_its_function_and_by_its_name() -> None:
    callbacks = [compiled("first", function=first), compiled("second", function=second)]
    operation = Operation("POST", "/invoices/", callbacks)
    assert operation.find(second) is callbacks[1]
    assert operation.find("first") is callbacks[0]


def test_one_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    operation = Operation("POST", "/invoices/", [compiled("first", function=first)])
    with pytest.raises(CallbackNotFound, match=r"POST /invoices/ documents no callback 'second'; it documents first"):
        operation.find(second)


@pytest.mark.parametrize(
    ("changes", "choose"),
    [
        ([{"method": "POST"}, {"method": "PUT"}], "choose one with method="),
        ([{}, {"expression": "{$request.query.other_url}"}], "choose one with expression="),
        ([{"method": "PUT"}, {"expression": "{$request.query.o}"}], "expression= and method="),
        ([{"function": first}, {"function": second}], "the callback's function instead of its name"),
    ],
)
def test_where_one_name_stands_for_several_the_error_says_how_to_choose(
    changes: list[dict[str, Any]], choose: str
) -> None:
    operation = Operation("POST", "/", [compiled("paid", **change) for change in changes])
    with pytest.raises(AmbiguousCallback, match=choose):
        operation.find("paid")


def test_expression_and_method_choose() -> None:
    other = "{$request.query.other_url}"
    callbacks = [compiled(method="POST"), compiled(method="PUT"), compiled(method="POST", expression=other)]
    operation = Operation("POST", "/", callbacks)
    assert operation.find("paid", method="put") is callbacks[1]
    assert operation.find("paid", expression=other) is callbacks[2]
    assert operation.find("paid", expression=URL, method="POST") is callbacks[0]

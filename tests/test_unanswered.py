"""What can be planned before there is a response, and what cannot."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import PlanningError
from callback_middleware.exchange import Exchange
from callback_middleware.operations import CallbackParameter, Operation, compile_callback
from callback_middleware.options import delivery_options
from callback_middleware.planning import (
    Asked,
    Wanted,
    WantedEnd,
    WantedNotification,
    WantedSubscription,
    check_unanswered,
    plan,
    reads_request,
)
from callback_middleware.values import Reason
from passing import BODY, operation

ID = UUID(int=1)


def wanted(known: Operation, **given: Any) -> Wanted:
    return Wanted(id=ID, callback=known.callbacks[0], body=b"1", **given)


def parametrised(template: str) -> Operation:
    callback = compile_callback(
        name="paid",
        method="POST",
        expression="{$request.query.callback_url}",
        options=delivery_options(params={"state": template}),
        body=BODY,
        parameters=[CallbackParameter(name="state", location="query", required=True)],
    )
    return Operation("POST", "/invoices", [callback])


@pytest.mark.parametrize(
    "known",
    [
        operation("{$response.header.location}"),
        operation("{$request.query.callback_url}/{$response.body#/id}"),
        operation("{$request.query.callback_url}/{$statusCode}"),
        operation(headers={"x-status": "{$statusCode}"}),
        parametrised("{$response.body#/state}"),
    ],
)
def test_what_asks_the_response_says_that_there_is_none(known: Operation) -> None:
    with pytest.raises(PlanningError, match=r"needs something of the response .* commit_with puts it before"):
        check_unanswered([wanted(known)])
    with pytest.raises(PlanningError, match="needs something of the response"):
        check_unanswered([WantedSubscription(callback=known.callbacks[0], key="k", owner=None)])


@pytest.mark.parametrize("on", ["4XX", 201, "default"])
def test_statuses_of_its_own_decide_nothing_in_a_transaction(on: Any) -> None:
    with pytest.raises(PlanningError, match=r"sent after a response that is .*, and commit_with puts it before"):
        check_unanswered([wanted(operation(on=on))])


def test_statuses_that_are_the_usual_ones_in_other_words_are_no_matter() -> None:
    check_unanswered([wanted(operation(on="2xx"))])


def test_what_is_given_by_hand_is_not_looked_for_in_the_response() -> None:
    check_unanswered([wanted(parametrised("{$response.body#/state}"), params={"state": "paid"})])
    # A payload that is declared, and replaced by what the handler sends.
    check_unanswered([wanted(operation(payload="$response.body"))])


def test_notifications_and_ends_ask_no_exchange() -> None:
    asked: list[Asked] = [
        WantedNotification(id=ID, operation="POST /", callback="paid", key="k", owner=None, body=None),
        WantedEnd(operation="POST /", callback="paid", key="k", owner=None),
    ]
    check_unanswered(asked)


def test_without_a_response_the_status_decides_nothing() -> None:
    known = operation()
    exchange = Exchange.build(url="https://api.example/?callback_url=https%3A%2F%2Fext.example")
    asked: list[Asked] = [
        wanted(known),
        WantedNotification(id=ID, operation="POST /", callback="paid", key="k", owner=None, body=None),
    ]
    for unanswered, counts in ((True, (1, 1, 0)), (False, (0, 0, 2))):
        planned = plan(known, exchange, asked, egress=EgressPolicy(), new_id=lambda: ID, unanswered=unanswered)
        assert (len(planned.plans), len(planned.notifications), len(planned.skips)) == counts


def test_without_a_response_everything_else_is_skipped_as_ever() -> None:
    known = operation()
    exchange = Exchange.build(url="https://api.example/?callback_url=http%3A%2F%2F127.0.0.1")
    planned = plan(known, exchange, [wanted(known)], egress=EgressPolicy(), new_id=lambda: ID, unanswered=True)
    assert [skip.reason for skip in planned.skips] == [Reason.REFUSED]


def test_without_a_response_a_request_is_read_for_what_asks_it() -> None:
    assert reads_request(operation("{$request.body#/url}"), [wanted(operation("{$request.body#/url}"))], None)
    assert not reads_request(operation(), [wanted(operation())], None)

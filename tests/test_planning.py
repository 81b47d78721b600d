"""An exchange and what was staged in it become plans; what does not has a reason that a person can use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from callback_middleware import jsontext
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import PayloadInvalid
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import Reason
from callback_middleware.operations import Body, Callback, CallbackParameter, Operation, compile_callback
from callback_middleware.options import delivery_options
from callback_middleware.planning import (
    Asked,
    Plan,
    Planned,
    Skip,
    SubscriptionPlan,
    Verb,
    Wanted,
    WantedEnd,
    WantedNotification,
    WantedSubscription,
    drop,
    plan,
    reads_request,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
URL = "{$request.query.callback_url}/invoices/{$request.body#/id}"
BODY = Body("application/json", required=True, encode=jsontext.dumps)


def exchange(
    query: str = "callback_url=https://ext.example/events", body: bytes = b'{"id": "2expen51ve"}', **changes: Any
) -> Exchange:
    given: dict[str, Any] = {"response_status": 200, "headers": {"content-type": "application/json"}, **changes}
    return Exchange.build(url=f"https://api.example/invoices/?{query}", body=body, **given)


def callback(
    expression: str = URL, parameters: Sequence[CallbackParameter] = (), declared: Body = BODY, **options: Any
) -> Callback:
    return compile_callback(
        name="paid",
        method="POST",
        expression=expression,
        options=delivery_options(**options),
        body=declared,
        parameters=parameters,
    )


def planned(known: Callback, seen: Exchange | None = None, *, staged: bool = True, **wanted: Any) -> Planned:
    ids = count(1)
    operation = Operation("POST", "/invoices/", [known])
    one = Wanted(id=UUID(int=99), callback=known, body=wanted.pop("body", b"{}"), **wanted)
    return plan(
        operation,
        exchange() if seen is None else seen,
        [one] if staged else None,
        egress=EgressPolicy(),
        new_id=lambda: UUID(int=next(ids)),
    )


def the_plan(*arguments: Any, **named: Any) -> Plan:
    result = planned(*arguments, **named)
    assert not result.skips
    (only,) = result.plans
    return only


def the_skip(*arguments: Any, **named: Any) -> Skip:
    result = planned(*arguments, **named)
    assert not result.plans
    (only,) = result.skips
    return only


def test_the_seed_example_becomes_the_documented_request() -> None:
    one = the_plan(callback(), body=b'{"description":"Payment celebration","paid":true}')
    assert one.method == "POST"
    assert one.destination.url == "https://ext.example/events/invoices/2expen51ve"
    assert one.body == b'{"description":"Payment celebration","paid":true}'
    assert one.headers == [("content-type", "application/json")]
    assert (one.operation, one.callback, one.id) == ("POST /invoices/", "paid", UUID(int=99))


# Reasons


@pytest.mark.parametrize(
    ("seen", "reason", "says"),
    [
        pytest.param(exchange(""), Reason.NOT_REQUESTED, "", id="no URL: the client did not ask"),
        pytest.param(exchange("callback_url="), Reason.NOT_REQUESTED, "", id="an empty URL"),
        pytest.param(exchange(body=b"{}"), Reason.UNRESOLVED, "", id="the id is missing"),
        pytest.param(exchange(body=b'{"id": null}'), Reason.UNRESOLVED, "", id="the id is null"),
        pytest.param(exchange(body=b'{"id": [1]}'), Reason.UNRESOLVED, "", id="the id is an array"),
        pytest.param(exchange(body=b"not json"), Reason.UNRESOLVED, "JSON", id="the body is not JSON"),
        pytest.param(exchange(body=b"[" * 10_000), Reason.UNRESOLVED, "", id="the body is nested 10,000 deep"),
        pytest.param(exchange(body=b"", body_truncated=True), Reason.TRUNCATED, "", id="the body was not kept"),
        pytest.param(exchange("callback_url=https://e.example%0d%0a/"), Reason.REFUSED, "", id="a newline in the URL"),
        pytest.param(exchange("callback_url=ftp://e.example/"), Reason.REFUSED, "", id="another scheme"),
        pytest.param(exchange("callback_url=http://e.example/"), Reason.REFUSED, "https", id="refused by the policy"),
        pytest.param(exchange("callback_url=https://10.0.0.1/"), Reason.REFUSED, "", id="a private address"),
        pytest.param(exchange(response_status=404), Reason.STATUS, "404", id="the response is no success"),
        pytest.param(exchange(response_status=500), Reason.STATUS, "2XX", id="and says what it is sent after"),
    ],
)
def test_what_is_not_sent_has_a_reason(seen: Exchange, reason: Reason, says: str) -> None:
    skip = the_skip(callback(), seen)
    assert skip.reason == reason
    assert says in skip.detail
    assert (skip.operation, skip.callback, skip.id) == ("POST /invoices/", "paid", UUID(int=99))


def test_an_id_with_dot_segments_stays_one_segment() -> None:
    one = the_plan(callback(), exchange(body=b'{"id": "a/../../admin?x=1#y"}'))
    assert one.destination.url == "https://ext.example/events/invoices/a%2F..%2F..%2Fadmin%3Fx%3D1%23y"


def test_an_id_that_is_a_dot_segment_is_refused() -> None:
    assert the_skip(callback(), exchange(body=b'{"id": ".."}')).reason == Reason.REFUSED


def test_it_is_sent_after_the_statuses_that_it_names() -> None:
    known = callback(on=["2XX", 409])
    assert the_plan(known, exchange(response_status=409)).callback == "paid"
    assert the_skip(known, exchange(response_status=410)).reason == Reason.STATUS


def test_what_a_handler_staged_before_it_failed_is_dropped_with_the_cause() -> None:
    known = callback()
    one = Wanted(id=UUID(int=7), callback=known, body=b"{}")
    result = drop(Operation("POST", "/invoices/", [known]), [one], "the application raised KeyError")
    assert result == [
        Skip("POST /invoices/", "paid", Reason.STATUS, "the application raised KeyError", "", UUID(int=7))
    ]


# Callbacks that send themselves


def test_a_template_is_evaluated_and_encoded() -> None:
    known = callback(payload={"id": "$request.body#/id", "total": "{$request.body#/total}"})
    one = the_plan(known, exchange(body=b'{"id": "7", "total": 9999.10}'), staged=False)
    assert one.body == b'{"id":"7","total":"9999.10"}'
    assert one.id == UUID(int=1)


def test_a_number_in_a_template_keeps_its_digits() -> None:
    known = callback("{$request.query.callback_url}", payload={"total": "$request.body#/total"})
    one = the_plan(known, exchange(body=b'{"total": 123456789012345678901234567890.10}'), staged=False)
    assert one.body == b'{"total":123456789012345678901234567890.10}'


def test_a_missing_value_in_a_template_sends_nothing() -> None:
    known = callback(payload={"name": "$request.body#/name"})
    skip = the_skip(known, staged=False)
    assert (skip.reason, skip.expression) == (Reason.UNRESOLVED, "$request.body#/name")


def test_a_function_makes_the_payload() -> None:
    known = callback(payload=lambda seen: {"status": seen.response_status})
    assert the_plan(known, staged=False).body == b'{"status":200}'


def test_a_function_that_raises_is_a_reason_and_no_error() -> None:
    def payload(seen: Exchange) -> object:
        raise ZeroDivisionError("by zero")

    skip = the_skip(callback(payload=payload), staged=False)
    assert skip.reason == Reason.NO_PAYLOAD
    assert "ZeroDivisionError('by zero')" in skip.detail


def test_a_function_that_returns_none_has_nothing_to_send() -> None:
    assert the_skip(callback(payload=lambda seen: None), staged=False).reason == Reason.NO_PAYLOAD


def test_a_payload_that_does_not_fit_is_a_reason() -> None:
    def encode(value: object) -> bytes:
        raise PayloadInvalid("paid: a boolean is expected")

    known = callback(payload={"paid": "x"}, declared=Body("application/json", required=True, encode=encode))
    skip = the_skip(known, staged=False)
    assert (skip.reason, skip.detail) == (Reason.INVALID_PAYLOAD, "paid: a boolean is expected")


def test_a_payload_function_is_not_called_for_what_is_not_sent() -> None:
    called: list[Exchange] = []
    known = callback(payload=called.append)
    assert the_skip(known, exchange(""), staged=False).reason == Reason.NOT_REQUESTED
    assert called == []


# Parameters and headers

PARAMETERS = [
    CallbackParameter("tenant", "path", required=True),
    CallbackParameter("page", "query", required=False),
    CallbackParameter("X-Trace", "header", required=False),
]


def test_declared_parameters_go_where_they_are_declared() -> None:
    known = callback("{$request.query.callback_url}/{tenant}", PARAMETERS)
    one = the_plan(known, params={"tenant": "a/b", "page": [1, True], "X-Trace": "t-1"})
    assert one.destination.url == "https://ext.example/events/a%2Fb?page=1&page=true"
    assert ("x-trace", "t-1") in one.headers


def test_declared_values_fill_the_parameters_of_what_sends_itself() -> None:
    known = callback(
        "{$request.query.callback_url}/{tenant}",
        PARAMETERS,
        payload={},
        params={"tenant": "t-{$request.body#/id}"},
        headers={"x-origin": "{$request.header.host}"},
    )
    seen = exchange(headers={"content-type": "application/json", "host": "api.example"})
    one = the_plan(known, seen, staged=False)
    assert one.destination.url == "https://ext.example/events/t-2expen51ve"
    assert ("x-origin", "api.example") in one.headers


def test_a_null_has_no_place_in_a_url_also_as_a_parameter() -> None:
    known = callback(
        "{$request.query.callback_url}", PARAMETERS, payload={}, params={"page": "{$request.body#/page}", "tenant": "t"}
    )
    skip = the_skip(known, exchange(body=b'{"page": null}'), staged=False)
    assert skip.reason == Reason.UNRESOLVED


@pytest.mark.parametrize("value", ["a\r\nx: 1", "a\x00", "a\x1b[0m", "ä"])
def test_a_header_value_from_a_request_is_refused_and_never_stripped(value: str) -> None:
    known = callback("{$request.query.callback_url}", payload={}, headers={"x-id": "{$request.body#/id}"})
    skip = the_skip(known, exchange(body=jsontext.dumps({"id": value})), staged=False)
    assert skip.reason == Reason.REFUSED


# When


def test_it_is_due_at_once_or_after_its_delay_or_at_its_time() -> None:
    assert the_plan(callback()).due(NOW) == NOW
    assert the_plan(callback(delay=60)).due(NOW) == NOW + timedelta(minutes=1)
    assert the_plan(callback(delay=60), delay=timedelta()).due(NOW) == NOW
    assert the_plan(callback(), at=NOW + timedelta(days=1)).due(NOW) == NOW + timedelta(days=1)
    assert the_plan(callback(), at=NOW - timedelta(days=1)).due(NOW) == NOW


# Subscriptions, notifications and ends

ELSEWHERE = Operation("POST", "/invoices/{id}/payments", ())


def subscription(known: Callback, **wanted: Any) -> WantedSubscription:
    return WantedSubscription(callback=known, key="7", owner="alice", **wanted)


def notification(**wanted: Any) -> WantedNotification:
    return WantedNotification(
        id=UUID(int=98), operation="POST /invoices/", callback="paid", key="7", owner="alice", body=b"{}", **wanted
    )


END = WantedEnd(operation="POST /invoices/", callback="paid", key="7", owner="alice")


def all_planned(operation: Operation, *asked: Asked, seen: Exchange | None = None) -> Planned:
    return plan(
        operation,
        exchange() if seen is None else seen,
        asked,
        egress=EgressPolicy(),
        new_id=lambda: UUID(int=1),
    )


def subscribed(known: Callback, seen: Exchange | None = None, **wanted: Any) -> SubscriptionPlan | Skip:
    result = all_planned(Operation("POST", "/invoices/", [known]), subscription(known, **wanted), seen=seen)
    found: list[SubscriptionPlan | Skip] = [*result.subscriptions, *result.skips]
    (only,) = found
    return only


def test_a_subscription_is_the_destination_and_the_headers_that_a_delivery_would_have() -> None:
    known = callback(
        "{$request.query.callback_url}/{tenant}",
        PARAMETERS,
        headers={"x-origin": "{$request.body#/id}"},
        deadline=3,
        retry={"max_attempts": 2},
    )
    one = subscribed(known, params={"tenant": "a/b", "X-Trace": "t-1"}, tags={"invoice": "7"})
    assert isinstance(one, SubscriptionPlan)
    assert one.destination.url == "https://ext.example/events/a%2Fb"
    assert one.headers == [("x-origin", "2expen51ve"), ("x-trace", "t-1")]
    assert (one.operation, one.callback, one.method) == ("POST /invoices/", "paid", "POST")
    assert (one.key, one.owner, one.tags) == ("7", "alice", {"invoice": "7"})
    assert (one.retry, one.deadline) == (known.options.retry, timedelta(seconds=3))


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param(exchange(""), Reason.NOT_REQUESTED, id="no URL: the client did not ask"),
        pytest.param(exchange(body=b"{}"), Reason.UNRESOLVED, id="the id is missing"),
        pytest.param(exchange(body=b"", body_truncated=True), Reason.TRUNCATED, id="the body was not kept"),
        pytest.param(exchange("callback_url=https://10.0.0.1/"), Reason.REFUSED, id="a private address"),
        pytest.param(exchange(response_status=404), Reason.STATUS, id="the response is no success"),
    ],
)
def test_what_is_not_subscribed_has_the_reason_that_a_send_would_have(seen: Exchange, reason: Reason) -> None:
    one = subscribed(callback(), seen)
    assert isinstance(one, Skip)
    assert (one.reason, one.verb, one.id) == (reason, Verb.SUBSCRIBE, None)
    assert (one.operation, one.callback) == ("POST /invoices/", "paid")


def test_a_subscription_is_made_after_the_statuses_that_its_callback_names() -> None:
    assert isinstance(subscribed(callback(on=202), exchange(response_status=202)), SubscriptionPlan)
    assert isinstance(subscribed(callback(on=202), exchange(response_status=201)), Skip)


@pytest.mark.parametrize(
    ("expires", "at"),
    [
        (None, None),
        (timedelta(hours=1), NOW + timedelta(hours=1)),
        (NOW + timedelta(days=1), NOW + timedelta(days=1)),
        pytest.param(timedelta.max, None, id="beyond the calendar"),
    ],
)
def test_a_subscription_expires_after_so_long_or_at_its_time_or_never(
    expires: timedelta | datetime | None, at: datetime | None
) -> None:
    one = subscribed(callback(), expires=expires)
    assert isinstance(one, SubscriptionPlan)
    assert one.expires_at(NOW) == at


@pytest.mark.parametrize(
    ("status", "planned"), [(200, True), (204, True), (299, True), (302, False), (404, False), (500, False)]
)
def test_a_notification_and_an_end_take_a_response_that_is_2xx(status: int, planned: bool) -> None:
    result = all_planned(ELSEWHERE, notification(), END, seen=exchange(response_status=status))
    assert (len(result.notifications), len(result.ends)) == ((1, 1) if planned else (0, 0))
    assert [(skip.operation, skip.callback, skip.reason, skip.verb, skip.id) for skip in result.skips] == (
        []
        if planned
        else [
            ("POST /invoices/", "paid", Reason.STATUS, Verb.NOTIFY, UUID(int=98)),
            ("POST /invoices/", "paid", Reason.STATUS, Verb.UNSUBSCRIBE, None),
        ]
    )


def test_every_kind_keeps_its_order() -> None:
    known = callback()
    first, second = notification(), notification(tags={"second": "yes"})
    other = WantedEnd(operation="POST /invoices/", callback="paid", key="8", owner="alice")
    result = all_planned(Operation("POST", "/invoices/", [known]), first, END, second, other)
    assert (result.notifications, result.ends) == ([first, second], [END, other])


@pytest.mark.parametrize(
    ("seen", "ends"),
    [
        pytest.param(exchange(), [], id="it is there"),
        pytest.param(exchange(""), [END], id="but not if nothing came of the subscription"),
    ],
)
def test_what_is_ended_and_then_subscribed_anew_is_there(seen: Exchange, ends: list[WantedEnd]) -> None:
    known = callback()
    result = all_planned(Operation("POST", "/invoices/", [known]), END, subscription(known), seen=seen)
    assert result.ends == ends


@pytest.mark.parametrize("name", ["callback", "key", "owner"])
def test_a_new_subscription_saves_no_other_from_its_end(name: str) -> None:
    known = callback()
    changed: dict[str, Any] = {"operation": "POST /invoices/", "callback": "paid", "key": "7", "owner": "alice"}
    other = WantedEnd(**{**changed, name: "another"})
    result = all_planned(Operation("POST", "/invoices/", [known]), other, subscription(known))
    assert result.ends == [other]


def test_what_is_subscribed_and_then_ended_is_over() -> None:
    known = callback()
    result = all_planned(Operation("POST", "/invoices/", [known]), subscription(known), END)
    assert (len(result.subscriptions), result.ends) == (1, [END])


def test_a_notification_is_due_at_once_or_after_its_delay_or_at_its_time() -> None:
    assert notification().due(NOW) == NOW
    assert notification(delay=timedelta(minutes=1)).due(NOW) == NOW + timedelta(minutes=1)
    assert notification(at=NOW + timedelta(days=1)).due(NOW) == NOW + timedelta(days=1)
    assert notification(at=NOW - timedelta(days=1)).due(NOW) == NOW


def test_whatever_was_staged_is_dropped_when_the_handler_fails() -> None:
    known = callback()
    skips = drop(Operation("POST", "/invoices/", [known]), [subscription(known), notification(), END], "it raised")
    assert [(skip.verb, skip.reason, skip.detail) for skip in skips] == [
        (verb, Reason.STATUS, "it raised") for verb in (Verb.SUBSCRIBE, Verb.NOTIFY, Verb.UNSUBSCRIBE)
    ]


def test_only_what_goes_by_this_exchange_reads_its_request() -> None:
    known = callback()
    operation = Operation("POST", "/invoices/", [known])
    wanted = Wanted(id=UUID(int=1), callback=known, body=b"{}")
    assert reads_request(operation, [wanted], 200)
    assert reads_request(operation, [subscription(known)], 200)
    assert not reads_request(operation, [notification(), END], 200)
    assert not reads_request(operation, [wanted, subscription(known)], 404)
    assert not reads_request(operation, [], 200)
    assert not reads_request(operation, None, 200)
    itself = Operation("POST", "/invoices/", [callback(payload={})])
    assert reads_request(itself, None, 200)

"""A callback that leads back to its own API goes around a few times, and not for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from callback_middleware.egress import EgressPolicy
from callback_middleware.exchange import Exchange
from callback_middleware.identifiers import uuid7
from callback_middleware.operations import Operation, compile_callback
from callback_middleware.options import DeliveryOptions
from callback_middleware.planning import Planned, Skip, Wanted, WantedEnd, WantedNotification, WantedSubscription, plan
from callback_middleware.planning.depth import depth_of
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.values import Reason

CALLBACK = compile_callback(
    name="paid", method="POST", expression="{$request.query.callback_url}", options=DeliveryOptions()
)
OPERATION = Operation("POST", "/invoices/", [CALLBACK], handler_sends=True)
CLOCK = VirtualClock()
ID = uuid7(CLOCK.now(), b"0123456789")


def exchange(*depths: str) -> Exchange:
    return Exchange.build(
        url="https://api.example/invoices/?callback_url=https://ext.example/e",
        headers=[("Callback-Depth", depth) for depth in depths],
        response_status=200,
    )


def planned(asked: Any, *depths: str) -> Planned:
    return plan(OPERATION, exchange(*depths), [asked], egress=EgressPolicy(), new_id=lambda: ID)


SEND = Wanted(ID, CALLBACK, None)
NOTIFY = WantedNotification(
    id=ID,
    operation="POST /invoices/",
    callback="paid",
    key="1",
    owner=None,
    body=None,
    headers=[("content-type", "a/b")],
)
SUBSCRIBE = WantedSubscription(callback=CALLBACK, key="1", owner=None, expires=timedelta(days=1))
END = WantedEnd(operation="POST /invoices/", callback="paid", key="1", owner=None)


@pytest.mark.parametrize(
    ("text", "depth"),
    [("0", 0), ("1", 1), (" 2 ", 2), ("3", 3), ("007", 7), ("9" * 5000, 3), ("-1", 0), ("", 0), ("two", 0), ("²", 0)],
)
def test_a_request_says_how_deep_it_is_or_nothing_that_counts(text: str, depth: int) -> None:
    assert depth_of(exchange(text)) == depth


def test_a_request_of_nobodys_callback_leaves_the_depth_to_the_attempt() -> None:
    assert list(planned(SEND).plans[0].headers) == []


@pytest.mark.parametrize(("depth", "next_depth"), [("1", "2"), ("2", "3")])
def test_what_a_callback_causes_is_one_deeper(depth: str, next_depth: str) -> None:
    assert planned(SEND, depth).plans[0].headers == [("callback-depth", next_depth)]
    assert planned(NOTIFY, depth).notifications[0].headers == (
        ("content-type", "a/b"),
        ("callback-depth", next_depth),
    )


def test_what_is_subscribed_says_nothing_of_the_depth_at_which_it_is_notified_later() -> None:
    assert planned(SUBSCRIBE, "2").subscriptions[0].headers == []


@pytest.mark.parametrize("asked", [SEND, NOTIFY, SUBSCRIBE], ids=["send", "notify", "subscribe"])
def test_the_third_in_a_row_calls_nobody(asked: Any) -> None:
    (skip,) = planned(asked, "3").skips

    assert isinstance(skip, Skip)
    assert skip.reason is Reason.REFUSED
    assert skip.detail == "the request is itself callback number 3 in a row, and may call nobody"


def test_but_it_may_end_a_subscription() -> None:
    assert planned(END, "3").ends == [END]


def test_what_is_skipped_for_another_reason_keeps_that() -> None:
    without = Exchange.build(url="https://api.example/", headers=[("callback-depth", "3")], response_status=200)

    (skip,) = plan(OPERATION, without, [SEND], egress=EgressPolicy(), new_id=lambda: ID).skips

    assert skip.reason is Reason.NOT_REQUESTED

"""What is staged waits; what is wrong is said at once, where the handler can still do something about it."""

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
from callback_middleware.planning import Wanted, WantedEnd, WantedNotification, WantedSubscription
from callback_middleware.staging import Callbacks, Catalogue

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


def sent(ours: Callbacks) -> list[Wanted]:
    """What was staged to be sent."""
    return [one for one in ours.take_staged() if isinstance(one, Wanted)]


def test_what_is_staged_has_the_id_that_send_returns() -> None:
    ours = callbacks()
    staged = [ours.send("paid", {"n": 1}), ours.send("paid", {"n": 2})]
    taken = sent(ours)
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
    assert sent(ours)[0].body is None


def test_none_is_a_body_where_one_is_required() -> None:
    ours = callbacks(REQUIRED)
    ours.send("paid", None)
    assert sent(ours)[0].body == b"null"


def test_parameters_go_by_wire_name_or_python_name() -> None:
    ours = callbacks(None, PARAMETERS)
    ours.send("paid", params={"x_tenant": "a", "page": 2})
    assert sent(ours)[0].params == {"X-Tenant": "a", "page": 2}


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
    first, second = sent(ours)
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


# Subscribing, notifying, unsubscribing


def everywhere(*operations: Operation, own: Operation | None = None) -> Callbacks:
    """The callbacks of a request in an application that documents these operations."""
    ids = count(1)
    return Callbacks(own, new_id=lambda: UUID(int=next(ids)), catalogue=Catalogue(lambda: operations))


INVOICES = Operation(
    "POST",
    "/invoices/",
    [
        compile_callback(
            name="paid",
            method="POST",
            expression="{$request.query.callback_url}",
            options=delivery_options(on=202),
            body=REQUIRED,
            parameters=PARAMETERS,
        )
    ],
)


def test_a_subscription_is_staged_with_its_key_and_its_owner() -> None:
    ours = everywhere(INVOICES, own=INVOICES)
    ours.subscribe("paid", key="7", owner="alice", params={"x_tenant": "a"}, tags={"invoice": "7"}, expires=60)
    (one,) = ours.take_staged()
    assert isinstance(one, WantedSubscription)
    assert (one.callback, one.key, one.owner) == (INVOICES.callbacks[0], "7", "alice")
    assert (one.params, one.tags) == ({"X-Tenant": "a"}, {"invoice": "7"})
    assert one.expires == timedelta(minutes=1)


def test_an_owner_is_never_left_out_by_mistake() -> None:
    for verb in ("subscribe", "notify", "unsubscribe"):
        with pytest.raises(TypeError, match="owner"):
            getattr(everywhere(INVOICES, own=INVOICES), verb)("paid", key="7")


def test_no_client_chooses_the_keys_that_have_no_owner() -> None:
    ours = callbacks(None)
    ours.subscribe("paid", key="7", owner=None)
    (one,) = ours.take_staged()
    assert isinstance(one, WantedSubscription)
    assert one.owner is None


def test_an_operation_subscribes_what_it_documents_itself() -> None:
    with pytest.raises(CallbackNotFound, match="callbacks="):
        everywhere(INVOICES).subscribe("paid", key="7", owner="alice")
    with pytest.raises(CallbackNotFound, match="it documents paid"):
        everywhere(INVOICES, own=INVOICES).subscribe("refunded", key="7", owner="alice")


def test_a_subscription_requires_the_parameters_that_a_send_requires() -> None:
    with pytest.raises(PayloadInvalid, match="requires the parameter 'X-Tenant'"):
        everywhere(INVOICES, own=INVOICES).subscribe("paid", key="7", owner="alice")


EXPIRIES: list[tuple[Any, str]] = [
    (0, "must be positive"),
    (timedelta(), "must be positive"),
    ("tomorrow", "no duration"),
    (datetime(2026, 1, 1), "expires=2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - that is the mistake
]


@pytest.mark.parametrize(("expires", "says"), EXPIRIES)
def test_an_expiry_that_makes_no_sense_is_refused(expires: Any, says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        callbacks(None).subscribe("paid", key="7", owner="alice", expires=expires)


@pytest.mark.parametrize("expires", [timedelta.max, datetime(2030, 1, 1, tzinfo=UTC), 0.5, None])
def test_an_expiry_is_a_duration_or_a_time(expires: Any) -> None:
    ours = callbacks(None)
    ours.subscribe("paid", key="7", owner="alice", expires=expires)
    (one,) = ours.take_staged()
    assert isinstance(one, WantedSubscription)
    assert one.expires == (timedelta(seconds=0.5) if expires == 0.5 else expires)


def test_a_notification_is_staged_from_an_operation_that_documents_nothing() -> None:
    ours = everywhere(INVOICES)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    first = ours.notify("paid", {"n": 1}, key="7", owner="alice", delay=60, dedupe="k", tags={"a": "b"})
    ours.notify("paid", {"n": 2}, key="7", owner=None, at=at)
    one, two = ours.take_staged()
    assert isinstance(one, WantedNotification)
    assert (one.id, one.operation, one.callback) == (first.id, "POST /invoices/", "paid")
    assert (one.key, one.owner, one.body) == ("7", "alice", b'{"n":1}')
    assert one.headers == (("content-type", "application/json"),)
    assert (one.delay, one.at, one.dedupe, one.tags) == (timedelta(minutes=1), None, "k", {"a": "b"})
    assert isinstance(two, WantedNotification)
    assert (two.owner, two.delay, two.at) == (None, None, at)


def test_an_end_is_staged_from_an_operation_that_documents_nothing() -> None:
    ours = everywhere(INVOICES)
    ours.unsubscribe("paid", key="7", owner="alice")
    assert ours.take_staged() == [WantedEnd(operation="POST /invoices/", callback="paid", key="7", owner="alice")]


@pytest.mark.parametrize("verb", ["subscribe", "notify", "unsubscribe"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": ""}, "key='' is no key: give text that is not empty$"),
        ({"key": 7}, "key=7 is no key"),
        ({"key": None}, "key=None is no key"),
        ({"key": "a\0b"}, r"key='a\\x00b' is no key: NUL"),
        ({"key": "\ud800"}, r"key='\\ud800' is no key: NUL and lone surrogates"),
        ({"owner": ""}, "owner='' is no key: give text that is not empty, or None"),
        ({"owner": 7}, "owner=7 is no key"),
    ],
)
def test_a_key_that_no_outbox_could_keep_is_refused_at_once(verb: str, wrong: dict[str, Any], says: str) -> None:
    options = delivery_options()
    known = compile_callback(name="paid", method="POST", expression="{$request.query.u}", options=options)
    own = Operation("POST", "/", [known])
    ours = everywhere(own, own=own)
    with pytest.raises(PlanningError, match=says):
        getattr(ours, verb)("paid", **{"key": "7", "owner": "alice", **wrong})
    assert ours.take_staged() == []


def test_a_key_that_is_refused_is_shown_cut() -> None:
    with pytest.raises(PlanningError) as raised:
        callbacks(None).subscribe("paid", key="\0" + "x" * 1000, owner=None)
    assert "x" * 257 not in str(raised.value)


def test_a_key_may_be_any_text() -> None:
    ours = callbacks(None)
    ours.subscribe("paid", key="Rechnung № 7 \U0001f4b6", owner="alice")
    assert len(ours.take_staged()) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"delay": -1}, "must not be negative"),
        ({"delay": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}, "give one"),
        ({"at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the mistake
        ({"dedupe": ""}, "no key"),
        ({"tags": {"invoice": 7}}, "text to text"),
    ],
)
def test_options_of_a_notification_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        everywhere(INVOICES).notify("paid", {}, key="7", owner="alice", **wrong)


@pytest.mark.parametrize("verb", ["subscribe", "notify", "unsubscribe"])
def test_after_the_request_has_ended_nothing_at_all_is_staged(verb: str) -> None:
    ours = everywhere(INVOICES, own=INVOICES)
    ours.close()
    with pytest.raises(PlanningError, match="has ended"):
        getattr(ours, verb)("paid", key="7", owner="alice")


def test_disabled_it_takes_subscriptions_and_notifications_too() -> None:
    ours = Callbacks(None, new_id=lambda: UUID(int=1), enabled=False)
    ours.subscribe("whatever", key="7", owner=None)
    assert ours.notify("whatever", object(), key="7", owner=None).id == UUID(int=1)
    ours.unsubscribe("whatever", key="7", owner=None)
    assert ours.take_staged() == []

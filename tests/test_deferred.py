"""Subscriptions, notifications and their end on the request path: put like what is sent, and from any operation."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.delivery import DEADLINE
from callback_middleware.errors import OutboxUnavailable, SubscriptionExists
from callback_middleware.operations import Operation
from callback_middleware.planning import Verb
from callback_middleware.responder import respond
from callback_middleware.retry import RetryPolicy
from callback_middleware.staging import Callbacks, callbacks_of
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.values import Reason
from passing import (
    HELD_AT,
    NOW,
    OneOperation,
    Recorder,
    body,
    capture_for,
    operation,
    request_body,
    run,
    scope_of,
    start,
)

KEY = SubscriptionKey("paid", "7", "alice")

Stage = Callable[[Callbacks], Any]


def subscribe(callbacks: Callbacks) -> None:
    callbacks.subscribe("paid", key="7", owner="alice")


def notify(callbacks: Callbacks) -> None:
    callbacks.notify("paid", {"paid": True}, key="7", owner="alice")


def unsubscribe(callbacks: Callbacks) -> None:
    callbacks.unsubscribe("paid", key="7", owner="alice")


def staging(*stages: Stage, answers: tuple[Message, ...] = ()) -> ASGIApp:
    """An application that stages, and answers with these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for stage in stages:
            stage(callbacks_of(scope))
        for message in answers or (start(), body()):
            await send(message)

    return app


async def elsewhere(
    app: ASGIApp, recorder: Recorder, *documented: Operation, scope: Scope | None = None, **changes: Any
) -> Recorder:
    """A request for an operation that documents nothing, of an application that documents ``paid``."""
    directory = OneOperation(None, elsewhere=documented or (operation(),))
    capture = capture_for(recorder, directory, **changes)
    await respond(capture, app, scope_of() if scope is None else scope, recorder.receive, recorder.send)
    return recorder


# Subscribing


async def test_a_subscription_is_the_destination_as_it_is_in_this_exchange() -> None:
    known = operation("{$request.query.callback_url}/{$request.body#/id}", headers={"x-host": "{$request.header.host}"})

    def stage(callbacks: Callbacks) -> None:
        callbacks.subscribe("paid", key="7", owner="alice", expires=60, tags={"tenant": "a"})

    recorder = Recorder([request_body(b'{"id": "7"}')])
    await run(staging(stage), recorder, known)
    (one,) = recorder.subscriptions
    assert (one.key, one.operation) == (KEY, "POST /invoices")
    assert (one.method, one.url, one.origin) == ("POST", "https://ext.example/e/7", "https://ext.example:443")
    assert one.headers == [("x-host", "api.example")]
    assert (one.created_at, one.expires_at) == (NOW, NOW + timedelta(minutes=1))
    assert one.tags == {"tenant": "a"}
    assert (one.retry, one.deadline) == (RetryPolicy(), DEADLINE)
    assert recorder.deliveries == []


async def test_a_subscription_keeps_what_the_callback_says_of_its_delivery() -> None:
    known = operation(retry={"max_attempts": 2}, deadline=3)
    recorder = await run(staging(subscribe), Recorder(), known)
    (one,) = recorder.subscriptions
    assert (one.retry.max_attempts, one.deadline) == (2, timedelta(seconds=3))


async def test_a_client_that_gave_no_url_has_subscribed_nothing_and_this_has_a_reason() -> None:
    recorder = await run(staging(subscribe), Recorder(), scope=scope_of(query=b""))
    assert recorder.happened == [start(), body()]
    assert [(skip.verb, skip.reason) for skip in recorder.skips] == [(Verb.SUBSCRIBE, Reason.NOT_REQUESTED)]


async def test_whatever_a_request_stages_is_one_batch() -> None:
    def send(callbacks: Callbacks) -> None:
        callbacks.send("paid", {})

    recorder = await run(staging(unsubscribe, notify, subscribe, send), Recorder(subscribed=[KEY]))
    assert recorder.happened == ["put", start(), body()]
    assert (len(recorder.deliveries), len(recorder.subscriptions), len(recorder.notifications)) == (1, 1, 1)
    assert recorder.told[0].subscribe == recorder.subscriptions


async def test_what_is_unsubscribed_and_subscribed_anew_is_there() -> None:
    recorder = await run(staging(unsubscribe, subscribe), Recorder())
    assert (len(recorder.subscriptions), recorder.ends) == (1, [])


async def test_what_is_subscribed_and_then_unsubscribed_ends() -> None:
    recorder = await run(staging(subscribe, unsubscribe), Recorder())
    assert (len(recorder.subscriptions), recorder.ends) == (1, [KEY])


async def test_a_handler_that_only_subscribes_is_never_sent_for() -> None:
    recorder = await run(staging(subscribe), Recorder(), operation(payload={"a": 1}))
    assert (len(recorder.subscriptions), recorder.deliveries) == (1, [])


# A key that is another's

TAKEN = SubscriptionExists("the key '7' of the callback paid is subscribed by another owner")


async def test_another_owners_key_is_answered_409_instead_of_a_success() -> None:
    recorder = Recorder(fails=TAKEN)
    await run(staging(subscribe, answers=(start(201, (b"location", b"/invoices/1")), body(b"{}"))), recorder)
    begin, end = recorder.sent
    headers = dict(begin["headers"])
    assert begin["status"] == 409
    assert headers.keys() == {b"content-type", b"content-length"}
    assert int(headers[b"content-length"]) == len(end["body"])
    assert "somebody else" in json.loads(end["body"])["detail"]
    assert recorder.losses == [TAKEN]


async def test_another_owners_key_breaks_off_a_response_that_is_half_sent() -> None:
    recorder = Recorder(fails=TAKEN)
    with pytest.raises(SubscriptionExists):
        await run(staging(subscribe, answers=(start(), body(b"half", more=True), body(b"rest"))), recorder)
    assert recorder.sent == [start(), body(b"half", more=True)]


async def test_told_to_log_alone_another_owners_key_changes_no_response() -> None:
    recorder = Recorder(fails=TAKEN)
    await run(staging(subscribe), recorder, respond=False)
    assert recorder.sent == [start(), body()]
    assert recorder.losses == [TAKEN]


async def test_another_owners_key_in_a_background_task_is_told_and_nothing_else() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks = callbacks_of(scope)
        await send(start())
        await send(body())
        subscribe(callbacks)

    recorder = await run(app, Recorder(fails=TAKEN))
    assert recorder.sent == [start(), body()]
    assert recorder.losses == [TAKEN]


# Notifying, from an operation that documents nothing


@pytest.mark.parametrize(("method", "messages", "put_at"), HELD_AT)
async def test_a_notification_is_put_before_the_message_that_completes_the_response(
    method: str, messages: list[Message], put_at: int
) -> None:
    recorder = await elsewhere(
        staging(notify, answers=tuple(messages)), Recorder(subscribed=[KEY]), scope=scope_of(method)
    )
    assert recorder.sent == messages
    assert recorder.happened.index("put") == put_at


async def test_a_notification_has_what_the_callbacks_declaration_makes_of_it() -> None:
    ids = []

    def stage(callbacks: Callbacks) -> None:
        ids.append(callbacks.notify("paid", {"n": 1}, key="7", owner="alice", delay=60, dedupe="k", tags={"a": "b"}).id)

    recorder = await elsewhere(staging(stage), Recorder(subscribed=[KEY]))
    (one,) = recorder.notifications
    assert (one.id, one.key) == (ids[0], KEY)
    assert (one.body, one.headers) == (b'{"n":1}', (("content-type", "application/json"),))
    assert (one.created_at, one.due_at) == (NOW, NOW + timedelta(minutes=1))
    assert (one.dedupe, one.tags) == ("k", {"a": "b"})
    assert recorder.told[0].notify == [one]


async def test_a_notification_reads_nothing_of_the_request() -> None:
    recorder = Recorder([request_body(b"x")], subscribed=[KEY])
    await elsewhere(staging(notify), recorder, operation("{$request.body#/url}"))
    assert len(recorder.requests) == 1
    assert len(recorder.notifications) == 1


async def test_a_key_that_nobody_subscribed_is_a_reason_and_no_error() -> None:
    recorder = await elsewhere(staging(notify), Recorder())
    assert recorder.sent == [start(), body()]
    (skip,) = recorder.skips
    assert (skip.operation, skip.callback, skip.verb) == ("POST /invoices", "paid", Verb.NOTIFY)
    assert (skip.reason, skip.id) == (Reason.NOBODY_SUBSCRIBED, recorder.notifications[0].id)
    assert "'7'" in skip.detail
    assert "alice" not in skip.detail
    assert recorder.told[0].notify == []


@pytest.mark.parametrize("stage", [notify, unsubscribe], ids=["a notification", "an end"])
async def test_it_is_dropped_when_the_handler_answers_outside_2xx(stage: Stage) -> None:
    recorder = await elsewhere(staging(stage, answers=(start(404), body())), Recorder(subscribed=[KEY]))
    assert recorder.happened == [start(404), body()]
    assert [skip.reason for skip in recorder.skips] == [Reason.STATUS]


async def test_what_the_callback_says_of_statuses_is_about_the_operation_that_documents_it() -> None:
    recorder = await elsewhere(staging(notify), Recorder(subscribed=[KEY]), operation(on=202))
    assert len(recorder.notifications) == 1


@pytest.mark.parametrize("stage", [subscribe, notify, unsubscribe], ids=["a subscription", "a notification", "an end"])
async def test_it_is_dropped_when_the_handler_raises(stage: Stage) -> None:
    recorder = Recorder(subscribed=[KEY])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        stage(callbacks_of(scope))
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await run(app, recorder)
    assert recorder.happened == []
    assert [(skip.reason, skip.detail) for skip in recorder.skips] == [
        (Reason.STATUS, "the application raised KeyError")
    ]


async def test_a_client_that_goes_away_during_a_success_changes_nothing() -> None:
    recorder = await elsewhere(staging(notify, answers=(start(), body(b"half", more=True))), Recorder(subscribed=[KEY]))
    assert recorder.happened == [start(), body(b"half", more=True), "put"]


async def test_an_outbox_that_fails_turns_the_success_into_a_503() -> None:
    recorder = await elsewhere(staging(notify), Recorder(fails=OutboxUnavailable("no disk")))
    assert recorder.sent[0]["status"] == 503
    assert [str(error) for error in recorder.losses] == ["no disk"]


async def test_a_handler_that_takes_its_callbacks_and_stages_nothing_puts_nothing() -> None:
    recorder = await elsewhere(staging(lambda callbacks: callbacks), Recorder())
    assert recorder.happened == [start(), body()]


async def test_a_stream_that_notifies_while_it_runs_is_held_at_its_end() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        notify(callbacks_of(scope))
        await send(body(b"b", more=True))
        await send(body())

    recorder = await elsewhere(app, Recorder(subscribed=[KEY]))
    assert recorder.happened == [start(), body(b"a", more=True), body(b"b", more=True), "put", body()]


@pytest.mark.parametrize("early", [True, False], ids=["taken in the handler", "taken in the task"])
@pytest.mark.parametrize("routed", [True, False], ids=["routed", "in a copy of the scope"])
async def test_what_a_background_task_notifies_is_put_when_the_application_returns(early: bool, routed: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if early:
            callbacks_of(scope)
        await receive()
        await send(start(201))
        await send(body())
        notify(callbacks_of(scope))

    recorder = Recorder(subscribed=[KEY])
    directory = OneOperation(None, elsewhere=[operation()], routed=routed)
    await respond(capture_for(recorder, directory), app, scope_of(), recorder.receive, recorder.send)
    assert recorder.happened == [start(201), body(), "put"]


@pytest.mark.parametrize("early", [True, False], ids=["taken in the handler", "taken in the task"])
async def test_what_a_background_task_notifies_after_a_failure_is_dropped(early: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if early:
            callbacks_of(scope)
        await send(start(500))
        await send(body())
        notify(callbacks_of(scope))

    recorder = await elsewhere(app, Recorder(subscribed=[KEY]))
    assert recorder.happened == [start(500), body()]
    assert [skip.reason for skip in recorder.skips] == [Reason.STATUS]


async def test_cancelled_in_the_middle_of_a_success_it_is_put_all_the_same() -> None:
    recorder = Recorder(subscribed=[KEY])
    started = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        notify(callbacks_of(scope))
        await send(start())
        await send(body(b"half", more=True))
        started.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(elsewhere, app, recorder)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert recorder.happened == [start(), body(b"half", more=True), "put"]


async def test_where_two_wrap_one_application_the_innermost_puts_what_is_notified() -> None:
    outer, inner = Recorder(subscribed=[KEY]), Recorder(subscribed=[KEY])
    directory = OneOperation(None, elsewhere=[operation()])

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(capture_for(inner, directory), staging(notify), scope, receive, send)

    await respond(capture_for(outer, directory), wrapped, scope_of(), outer.receive, outer.send)
    assert (len(outer.notifications), len(inner.notifications)) == (0, 1)


async def test_a_request_that_notified_and_is_over_is_held_by_nothing() -> None:
    recorder = Recorder(subscribed=[KEY])
    responders: list[weakref.ref[Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        responders.append(weakref.ref(scope["callback_middleware"]))
        await staging(notify)(scope, receive, send)

    gc.disable()
    try:
        scope = scope_of()
        await elsewhere(app, recorder, scope=scope)
        assert len(recorder.notifications) == 1
        assert responders[0]() is None
    finally:
        gc.enable()


# An end


async def test_any_operation_may_end_a_subscription() -> None:
    recorder = await elsewhere(staging(unsubscribe), Recorder())
    assert recorder.happened == ["put", start(), body()]
    assert recorder.ends == [KEY]
    assert recorder.told[0].end == [KEY]

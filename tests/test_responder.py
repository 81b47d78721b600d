"""The request path, in raw ASGI messages: nothing is changed but the moment of two of them."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.delivery import Delivery
from callback_middleware.errors import NotMounted, OutboxUnavailable, OutboxUncertain, PlanningError
from callback_middleware.expressions import Reason
from callback_middleware.operations import Operation
from callback_middleware.ports import Batch, PutReport
from callback_middleware.recording import CaptureLimits
from callback_middleware.responder import respond
from callback_middleware.staging import callbacks_of
from passing import (
    HELD_AT,
    NOW,
    OneOperation,
    Recorder,
    answering,
    body,
    capture_for,
    operation,
    request_body,
    run,
    scope_of,
    start,
)

# Where a response is held


@pytest.mark.parametrize(("method", "messages", "put_at"), HELD_AT)
async def test_the_put_comes_before_the_message_that_completes_the_response(
    method: str, messages: list[Message], put_at: int
) -> None:
    recorder = await run(answering(*messages), Recorder(), scope=scope_of(method))
    assert recorder.sent == messages
    assert recorder.happened.index("put") == put_at


async def test_path_parameters_are_what_the_directory_says() -> None:
    known = operation("{$request.query.callback_url}/{$request.path.from}")
    recorder = await run(answering(start(), body()), Recorder(), known)
    assert recorder.deliveries[0].url == "https://ext.example/e/the%20directory"


async def test_304_completes_at_its_start() -> None:
    messages = [start(304), body(more=True), body()]
    recorder = await run(answering(*messages), Recorder(), operation(on="304"))
    assert recorder.happened == ["put", *messages]


async def test_the_start_is_held_until_the_next_message_and_no_longer() -> None:
    seen: list[int] = []
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        seen.append(len(recorder.sent))
        await send(body(b"a", more=True))
        seen.append(len(recorder.sent))
        await send(body())

    await run(app, recorder)
    assert seen == [0, 2]


async def test_early_hints_pass_before_the_response_begins() -> None:
    hint: Message = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]}
    recorder = await run(answering(hint, start(), body()), Recorder())
    assert recorder.happened == [hint, "put", start(), body()]


async def test_messages_are_the_applications_own_objects() -> None:
    messages = [start(), body(b"a", more=True), body(b"b")]
    recorder = await run(answering(*messages), Recorder())
    assert all(sent is given for sent, given in zip(recorder.sent, messages, strict=True))


async def test_a_route_without_callbacks_is_not_held_and_its_body_not_kept() -> None:
    recorder = Recorder([request_body(b"x" * 100)])
    directory = OneOperation(None)
    before: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == request_body(b"x" * 100)
        await send(start())
        before.append(len(recorder.sent))
        await send(body())
        assert scope["callback_middleware"]._tap is None

    await respond(capture_for(recorder, directory), app, scope_of(), recorder.receive, recorder.send)
    assert before == [1]
    assert recorder.happened == [start(), body()]


# What becomes of what was staged


async def test_a_staged_callback_is_put_with_the_id_that_send_gave() -> None:
    ids: list[UUID] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ids.append(callbacks_of(scope).send("paid", {"paid": True}, tags={"tenant": "a"}, dedupe="k", delay=60).id)
        await send(start())
        await send(body())

    recorder = await run(app, Recorder())
    (delivery,) = recorder.deliveries
    assert delivery.id == ids[0]
    assert delivery.url == "https://ext.example/e/paid"
    assert delivery.body == b'{"paid":true}'
    assert delivery.headers == [("content-type", "application/json")]
    assert (delivery.tags, delivery.dedupe) == ({"tenant": "a"}, "k")
    assert (delivery.created_at, delivery.due_at) == (NOW, NOW + timedelta(seconds=60))


async def test_nothing_is_put_after_a_status_that_the_callback_does_not_name() -> None:
    recorder = await run(answering(start(404), body()), Recorder())
    assert recorder.deliveries == []
    assert [skip.reason for skip in recorder.skips] == [Reason.STATUS]
    assert recorder.sent == [start(404), body()]


async def test_what_was_staged_is_dropped_when_the_handler_raises() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await run(app, recorder)
    assert recorder.happened == []
    assert [(skip.reason, skip.detail) for skip in recorder.skips] == [
        (Reason.STATUS, "the application raised KeyError")
    ]


async def test_what_was_staged_is_dropped_when_it_raises_after_the_start() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        await send(start())
        await send(body(b"half", more=True))
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await run(app, recorder)
    assert recorder.happened == [start(), body(b"half", more=True)]


async def test_a_client_that_goes_away_during_a_success_is_called_back_all_the_same() -> None:
    recorder = await run(answering(start(), body(b"half", more=True)), Recorder())
    assert recorder.happened == [start(), body(b"half", more=True), "put"]


async def test_a_start_that_is_still_held_when_the_application_returns_is_put_and_passed_on() -> None:
    recorder = await run(answering(start()), Recorder())
    assert recorder.happened == ["put", start()]


async def test_an_application_that_answers_nothing_sends_nothing() -> None:
    recorder = await run(answering(), Recorder())
    assert recorder.happened == []
    assert [skip.detail for skip in recorder.skips] == ["the application returned without a response"]


async def test_cancelled_in_the_middle_of_a_success_counts_as_success() -> None:
    recorder = Recorder()
    started = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        await send(start())
        await send(body(b"half", more=True))
        started.set()
        await anyio.sleep_forever()

    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    recorder.requests = [request_body(b'{"id": 7}')]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, app, recorder, known)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert recorder.happened == [start(), body(b"half", more=True), "put"]


async def test_a_put_is_not_cut_short_by_the_cancellation_of_its_request() -> None:
    putting, goes_on = anyio.Event(), anyio.Event()

    class Slow(Recorder):
        async def put(self, batch: Batch) -> PutReport:
            putting.set()
            await goes_on.wait()
            return await super().put(batch)

    recorder = Slow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, answering(start(), body()), recorder)
        await putting.wait()
        tasks.cancel_scope.cancel()
        goes_on.set()
    assert len(recorder.deliveries) == 1


async def test_a_send_that_fails_after_the_put_takes_nothing_back() -> None:
    recorder = Recorder()

    async def broken(message: Message) -> None:
        raise OSError("the client is gone")

    directory = OneOperation(operation())
    with pytest.raises(OSError, match="gone"):
        await respond(
            capture_for(recorder, directory), answering(start(), body()), scope_of(), recorder.receive, broken
        )
    assert len(recorder.deliveries) == 1


async def test_what_a_background_task_stages_is_put_when_the_application_returns() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks = callbacks_of(scope)
        await send(start())
        await send(body())
        callbacks.send("paid", {"late": True})

    recorder = await run(app, Recorder())
    assert recorder.happened == [start(), body(), "put"]
    assert recorder.deliveries[0].body == b'{"late":true}'


async def test_staging_after_the_request_has_ended_is_an_error() -> None:
    kept: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(callbacks_of(scope))
        await send(start())
        await send(body())

    await run(app, Recorder())
    with pytest.raises(PlanningError, match="has ended"):
        kept[0].send("paid", {})


async def test_asking_for_callbacks_without_the_middleware_says_how_to_mount_it() -> None:
    with pytest.raises(NotMounted, match="add_middleware"):
        callbacks_of(scope_of())


# The request's body


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param(3, id="the handler reads it all"),
        pytest.param(1, id="it reads a part"),
        pytest.param(0, id="nothing"),
    ],
)
async def test_a_body_that_an_expression_needs_is_read_to_its_end_and_still_the_applications(reads: int) -> None:
    chunks = [request_body(b'{"id"', more=True), request_body(b': "2e', more=True), request_body(b'xp"}')]
    recorder = Recorder(list(chunks))
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        for _ in range(reads):
            got.append(await receive())
        await send(start())
        await send(body())
        for _ in range(4 - reads):
            got.append(await receive())

    await run(app, recorder, operation("{$request.query.callback_url}/{$request.body#/id}"))
    assert recorder.deliveries[0].url == "https://ext.example/e/2exp"
    assert got == [*chunks, {"type": "http.disconnect"}]


async def test_a_body_that_no_expression_needs_is_left_unread() -> None:
    recorder = Recorder([request_body(b"x")])
    await run(answering(start(), body()), recorder)
    assert len(recorder.requests) == 1
    assert len(recorder.deliveries) == 1


async def test_a_body_is_left_unread_when_the_status_sends_nothing() -> None:
    recorder = Recorder([request_body(b"x")])
    await run(answering(start(400), body()), recorder, operation("{$request.body#/url}"))
    assert len(recorder.requests) == 1


async def test_a_body_over_the_limit_is_truncated_for_the_callback_and_whole_for_the_handler() -> None:
    chunks = [request_body(b"x" * 60, more=True), request_body(b"x" * 60)]
    recorder = Recorder(list(chunks))
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        got.extend([await receive(), await receive()])
        await send(start())
        await send(body())

    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    await run(app, recorder, known, limits=CaptureLimits(request_body=100))
    assert got == chunks
    assert [skip.reason for skip in recorder.skips] == [Reason.TRUNCATED]


async def test_a_body_that_never_ends_is_waited_for_no_longer_than_the_limit() -> None:
    recorder = Recorder([request_body(b"{", more=True)])

    async def receive() -> Message:
        if recorder.requests:
            return recorder.requests.pop(0)
        await anyio.sleep_forever()
        raise AssertionError

    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    capture = capture_for(recorder, OneOperation(known), limits=CaptureLimits(drain_seconds=0))
    await respond(capture, answering(start(), body()), scope_of(), receive, recorder.send)
    assert [skip.reason for skip in recorder.skips] == [Reason.TRUNCATED]
    assert recorder.sent == [start(), body()]


async def test_a_middleware_that_reads_the_body_before_the_router_does_not_hide_it() -> None:
    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    directory = OneOperation(known, routed=False)
    recorder = Recorder([request_body(b'{"id": 7}')])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        directory.routed = True
        callbacks_of(scope).send("paid", {})
        await send(start())
        await send(body())

    await respond(capture_for(recorder, directory), app, scope_of(), recorder.receive, recorder.send)
    assert recorder.deliveries[0].url == "https://ext.example/e/7"


class OneAtATime:
    """A server's ``receive`` that two readers must not wait in at once, as queues of servers are."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.arrives, self.listening = anyio.Event(), anyio.Event()
        self._busy = False

    async def __call__(self) -> Message:
        assert not self._busy, "two readers wait for one message"
        self._busy = True
        try:
            self.listening.set()
            await self.arrives.wait()
            await anyio.lowlevel.checkpoint()
            return self.messages.pop(0) if self.messages else {"type": "http.disconnect"}
        finally:
            self._busy = False


async def test_the_application_may_begin_to_listen_while_the_rest_of_the_body_is_read() -> None:
    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    recorder = Recorder([])
    receive = OneAtATime(request_body(b'{"id":', more=True), request_body(b" 7}"))
    got: list[Message] = []

    async def app(scope: Scope, receive_: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})

        async def answer() -> None:
            await send(start())
            await send(body())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            await receive.listening.wait()
            tasks.start_soon(listen)
            await anyio.lowlevel.checkpoint()
            receive.arrives.set()

        assert recorder.deliveries[0].url == "https://ext.example/e/7"

    async def listen() -> None:
        while not got or got[-1]["type"] != "http.disconnect":
            got.append(await responders[0].receive())

    responders: list[Any] = []

    async def outer(scope: Scope, receive_: Receive, send: Send) -> None:
        responders.append(scope["callback_middleware"])
        await app(scope, receive_, send)

    await respond(capture_for(recorder, OneOperation(known)), outer, scope_of(), receive, recorder.send)
    assert got == [request_body(b'{"id":', more=True), request_body(b" 7}"), {"type": "http.disconnect"}]


async def test_a_listener_for_the_clients_leaving_and_the_drain_do_not_take_each_others_messages() -> None:
    """A streaming response waits in ``receive`` while the rest of the request's body is needed."""
    known = operation("{$request.query.callback_url}/{$request.body#/id}")
    recorder = Recorder([])
    receive = OneAtATime(request_body(b'{"id":', more=True), request_body(b" 7}"))
    arrives, listening = receive.arrives, receive.listening
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})

        async def listen() -> None:
            while not got or got[-1]["type"] != "http.disconnect":
                got.append(await receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await listening.wait()

            async def answer() -> None:
                await send(start())
                await send(body())

            tasks.start_soon(answer)
            # The drain has begun, and finds the listener waiting.
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            arrives.set()

    await respond(capture_for(recorder, OneOperation(known)), app, scope_of(), receive, recorder.send)
    assert recorder.deliveries[0].url == "https://ext.example/e/7"
    assert got == [request_body(b'{"id":', more=True), request_body(b" 7}"), {"type": "http.disconnect"}]


# The response's body


async def test_a_response_that_an_expression_needs_is_kept_while_it_streams() -> None:
    known = operation("{$response.body#/url}")
    parts = [
        start(200, (b"content-type", b"application/json")),
        body(b'{"url": "https://', more=True),
        body(b'ext.example"}'),
    ]
    recorder = await run(answering(*parts), Recorder(), known)
    assert recorder.deliveries[0].url == "https://ext.example/"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(
            [start(200, (b"content-type", b"application/json")), body(b"x" * 200)], id="larger than the limit"
        ),
        pytest.param([start(), {"type": "http.response.pathsend", "path": "/f"}], id="a file that the server sends"),
    ],
)
async def test_a_response_that_is_not_kept_whole_is_truncated_never_half_a_document(parts: list[Message]) -> None:
    recorder = Recorder()
    await run(answering(*parts), recorder, operation("{$response.body#/url}"), limits=CaptureLimits(response_body=100))
    assert [skip.reason for skip in recorder.skips] == [Reason.TRUNCATED]
    assert recorder.sent == parts


# Callbacks that send themselves


async def test_a_declared_payload_is_sent_without_any_handler_code() -> None:
    known = operation(payload={"id": "{$request.body#/id}", "ok": "$statusCode"})
    recorder = Recorder([request_body(b'{"id": "7"}')])
    await run(answering(start(201), body(), sends=False), recorder, known)
    assert [one.body for one in recorder.deliveries] == [b'{"id":"7","ok":201}']


async def test_a_handler_that_takes_its_callbacks_in_hand_is_never_sent_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope)
        await send(start())
        await send(body())

    recorder = await run(app, Recorder(), operation(payload={"a": 1}))
    assert recorder.deliveries == []


async def test_an_explicit_send_replaces_a_declared_payload() -> None:
    recorder = await run(answering(start(), body()), Recorder(), operation(payload={"a": 1}))
    assert [one.body for one in recorder.deliveries] == [b'{"paid":true}']


# Two instances


async def test_where_two_wrap_one_application_the_innermost_owns_the_request() -> None:
    outer, inner = Recorder(), Recorder()
    known = OneOperation(operation())

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(capture_for(inner, known), answering(start(), body()), scope, receive, send)

    await respond(capture_for(outer, known), wrapped, scope_of(), outer.receive, outer.send)
    assert (len(outer.deliveries), len(inner.deliveries)) == (0, 1)
    assert outer.sent == [start(), body()]


async def test_where_two_wrap_one_application_one_alone_sends_what_sends_itself() -> None:
    outer, inner = Recorder(), Recorder()
    known = OneOperation(operation(payload={"a": 1}))

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(capture_for(inner, known), answering(start(), body(), sends=False), scope, receive, send)

    await respond(capture_for(outer, known), wrapped, scope_of(), outer.receive, outer.send)
    assert (len(outer.deliveries), len(inner.deliveries)) == (0, 1)


async def test_a_request_that_is_over_is_held_by_nothing() -> None:
    """Not even by itself: what reference counting frees is not left to the garbage collector."""
    recorder = Recorder()
    responders: list[weakref.ref[Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        responders.append(weakref.ref(scope["callback_middleware"]))
        await answering(start(), body())(scope, receive, send)

    gc.disable()
    try:
        # Servers keep the scope, and are kept by what a responder sends through.
        scope = scope_of()
        await run(app, recorder, scope=scope)
        assert len(recorder.deliveries) == 1
        assert responders[0]() is None
    finally:
        gc.enable()


# An outbox that fails


async def test_a_success_whose_callback_could_not_be_stored_becomes_a_503_without_retry_after() -> None:
    recorder = Recorder(fails=OutboxUnavailable("no disk"))
    await run(answering(start(201, (b"location", b"/invoices/1")), body(b"{}")), recorder)
    begin, end = recorder.sent
    assert begin["status"] == 503
    assert b"location" not in dict(begin["headers"])
    assert b"retry-after" not in dict(begin["headers"])
    assert int(dict(begin["headers"])[b"content-length"]) == len(end["body"])
    assert [str(error) for error in recorder.losses] == ["no disk"]


async def test_a_response_that_is_half_sent_is_broken_off_when_its_callback_could_not_be_stored() -> None:
    recorder = Recorder(fails=OutboxUnavailable("no disk"))
    with pytest.raises(OutboxUnavailable):
        await run(answering(start(), body(b"half", more=True), body(b"rest")), recorder)
    assert recorder.sent == [start(), body(b"half", more=True)]


async def test_a_cancellation_stays_one_where_the_outbox_fails_in_the_middle_of_it() -> None:
    recorder = Recorder(fails=OutboxUnavailable("no disk"))
    started = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {})
        await send(start())
        await send(body(b"half", more=True))
        started.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, app, recorder)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancelled_caught
    assert len(recorder.losses) == 1


async def test_an_engine_that_raises_what_it_should_not_is_an_outbox_that_failed() -> None:
    class Broken(Recorder):
        async def put(self, batch: Batch) -> PutReport:
            raise ConnectionError("reset")

    recorder = Broken()
    await run(answering(start(), body()), recorder)
    assert recorder.sent[0]["status"] == 503
    assert isinstance(recorder.losses[0], ConnectionError)


async def test_a_mistake_in_planning_is_never_the_applications(caplog: pytest.LogCaptureFixture) -> None:
    class Mistaken(OneOperation):
        def path_params(self, scope: Scope, operation: Operation) -> dict[str, Any]:
            raise ZeroDivisionError

    recorder = Recorder()
    capture = capture_for(recorder, Mistaken(operation()))
    await respond(capture, answering(start(), body()), scope_of(), recorder.receive, recorder.send)
    assert recorder.happened == [start(), body()]
    assert "POST /invoices: its callbacks are not sent" in caplog.text


async def test_a_delay_beyond_the_calendar_harms_no_response(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks_of(scope).send("paid", {}, delay=timedelta.max)
        await send(start())
        await send(body())

    recorder = await run(app, Recorder())
    assert recorder.happened == [start(), body()]
    assert "POST /invoices: its callbacks are not sent" in caplog.text


async def test_told_to_log_alone_the_response_is_forwarded() -> None:
    recorder = Recorder(fails=OutboxUnavailable("no disk"))
    await run(answering(start(), body()), recorder, respond=False)
    assert recorder.sent == [start(), body()]
    assert len(recorder.losses) == 1


async def test_a_put_whose_outcome_is_unknown_is_put_again_with_the_same_ids() -> None:
    class Wavering(Recorder):
        batches: list[Sequence[Delivery]]

        async def put(self, batch: Batch) -> PutReport:
            self.batches.append(batch.deliveries)
            if len(self.batches) == 1:
                raise OutboxUncertain("the connection broke")
            return await super().put(batch)

    recorder = Wavering()
    recorder.batches = []
    await run(answering(start(), body()), recorder)
    assert recorder.batches[0] == recorder.batches[1]
    assert recorder.sent == [start(), body()]


async def test_an_outbox_that_never_answers_is_a_503_after_the_timeout() -> None:
    class Silent(Recorder):
        async def put(self, batch: Batch) -> PutReport:
            await anyio.sleep_forever()
            raise AssertionError

    recorder = Silent()
    await run(answering(start(), body()), recorder, put_timeout=0)
    assert recorder.sent[0]["status"] == 503
    assert isinstance(recorder.losses[0], OutboxUncertain)


# An outbox that is known to be down

DOWN = OutboxUnavailable("no disk \x1b[2J")


class Asked(OneOperation):
    """Counts who asks it before a router has run."""

    asked = 0

    def rematch(self, scope: Scope) -> Operation | None:
        self.asked += 1
        return super().rematch(scope)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the handler must not run")


async def test_while_the_outbox_is_down_a_request_that_documents_callbacks_never_reaches_its_handler() -> None:
    recorder = Recorder(outage=DOWN)
    directory = OneOperation(operation(), routed=False)
    scope = scope_of()
    await respond(capture_for(recorder, directory), never, scope, recorder.receive, recorder.send)
    begin, end = recorder.sent
    headers = dict(begin["headers"])
    assert begin["status"] == 503
    assert int(headers[b"retry-after"]) > 0
    assert int(headers[b"content-length"]) == len(end["body"])
    assert "not carried out" in json.loads(end["body"])["detail"]
    assert scope == scope_of()


async def test_while_the_outbox_is_down_other_requests_pass() -> None:
    recorder = Recorder(outage=DOWN)
    capture = capture_for(recorder, OneOperation(None))
    await respond(capture, answering(start(), body(), sends=False), scope_of(), recorder.receive, recorder.send)
    assert recorder.sent == [start(), body()]


async def test_told_to_log_alone_nothing_is_refused() -> None:
    recorder = Recorder(outage=DOWN, fails=DOWN)
    await run(answering(start(), body()), recorder, respond=False)
    assert recorder.sent == [start(), body()]
    assert recorder.losses == [DOWN]


async def test_while_the_outbox_works_no_route_is_looked_for() -> None:
    recorder, directory = Recorder(), Asked(operation())
    await respond(
        capture_for(recorder, directory), answering(start(), body()), scope_of(), recorder.receive, recorder.send
    )
    assert directory.asked == 0


async def test_an_outage_is_told_once_and_the_next_one_again(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    capture = capture_for(recorder, OneOperation(operation()))

    async def request(app: ASGIApp) -> None:
        await respond(capture, app, scope_of(), recorder.receive, recorder.send)

    for app, outage in (
        (never, DOWN),
        (never, OutboxUnavailable("still no disk")),
        (answering(start(), body()), None),
        (never, OutboxUnavailable("again")),
        (never, OutboxUnavailable("still")),
    ):
        recorder.outage = outage
        await request(app)
    told = [record.getMessage() for record in caplog.records if "the outbox is down" in record.getMessage()]
    assert len(told) == 2
    assert "'no disk \\x1b[2J'" in told[0]
    assert "'again'" in told[1]

"""The double that applications' own tests are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel

from callback_middleware import CallbackMiddleware, State, deliver, notify
from callback_middleware.errors import ConfigurationError, NobodySubscribed
from callback_middleware.expressions import Reason
from callback_middleware.fastapi import Callbacks
from callback_middleware.outcomes import Accepted, Answer, Phase, Unreachable
from callback_middleware.planning import Verb
from callback_middleware.retry import RetryPolicy
from callback_middleware.testing import CapturedCallbacks, capture


class Event(BaseModel):
    paid: bool


router = APIRouter()


@router.post("{$callback_url}")
def paid(body: Event) -> None: ...


def application(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware, **options)

    @app.post("/", callbacks=router.routes)
    def handler(
        callbacks: Callbacks, callback_url: str | None = None, delay: float = 0, key: str | None = None
    ) -> dict[str, str]:
        return {"id": str(callbacks.send(paid, Event(paid=True), delay=delay, dedupe=key, tags={"a": "b"}).id)}

    return app


@pytest.fixture
def captured() -> Iterator[tuple[TestClient, CapturedCallbacks]]:
    app = application()
    with capture(app) as callbacks:
        yield TestClient(app), callbacks


ASKED = "/?callback_url=https://ext.example/e"


def test_what_is_sent_can_be_looked_at_at_once(captured: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = captured
    answer = client.post(ASKED)
    (sent,) = callbacks.sent
    assert str(sent.id) == answer.json()["id"]
    assert (sent.callback, sent.method, sent.url) == ("paid", "POST", "https://ext.example/e")
    assert (sent.json, sent.tags) == ({"paid": True}, {"a": "b"})
    assert sent.headers["content-type"] == "application/json"


def test_what_is_not_sent_has_its_reason(captured: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = captured
    client.post("/")
    client.post("/?callback_url=https://10.0.0.1/")
    assert [skip.reason for skip in callbacks.skipped] == [Reason.NOT_REQUESTED, Reason.REFUSED]
    assert callbacks.sent == []


def test_a_repeated_request_under_one_key_is_sent_once_and_says_so(
    captured: tuple[TestClient, CapturedCallbacks],
) -> None:
    client, callbacks = captured
    first, again = (client.post(ASKED + "&key=k").json()["id"] for _ in range(2))
    assert [str(sent.id) for sent in callbacks.sent] == [first]
    assert [(str(skip.id), skip.reason) for skip in callbacks.skipped] == [(again, Reason.DUPLICATE)]
    assert "24 hours" in callbacks.skipped[0].detail
    assert list(callbacks.drain().values()) == [State.DELIVERED]


def test_drain_delivers_everything_and_says_where_it_ended(captured: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = captured
    client.post(ASKED)
    assert callbacks.drain() == {callbacks.sent[0].id: State.DELIVERED}
    assert len(callbacks.attempts) == 1


def test_scripted_answers_come_in_turn_and_the_clock_moves_by_itself(
    captured: tuple[TestClient, CapturedCallbacks],
) -> None:
    client, callbacks = captured
    client.post(ASKED)
    start = callbacks.clock.now()
    callbacks.answer(503, Unreachable(Phase.CONNECT, "refused"), 200)
    assert list(callbacks.drain().values()) == [State.DELIVERED]
    assert [attempt.number for attempt in callbacks.attempts] == [1, 2, 3]
    assert callbacks.clock.now() - start > timedelta(minutes=5)


def test_the_last_answer_stays(captured: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = captured
    client.post(ASKED)
    callbacks.answer(500)
    assert list(callbacks.drain().values()) == [State.DEAD]
    assert len(callbacks.attempts) == 10


def test_a_delay_is_waited_for_on_the_virtual_clock(captured: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = captured
    client.post(ASKED + "&delay=3600")
    start = callbacks.clock.now()
    assert callbacks.sent[0].due_at == start + timedelta(hours=1)
    assert list(callbacks.drain().values()) == [State.DELIVERED]
    assert callbacks.clock.now() == start + timedelta(hours=1)


async def test_it_works_in_asynchronous_tests() -> None:
    app = application()
    with capture(app) as callbacks:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api.example") as client:
            await client.post(ASKED)
    assert len(callbacks.sent) == 1


def test_the_applications_own_policy_decides_about_retries() -> None:
    app = application(retry=RetryPolicy.fixed(1))
    with capture(app) as callbacks:
        TestClient(app).post(ASKED)
        callbacks.answer(500)
        callbacks.drain()
    assert len(callbacks.attempts) == 2


def test_after_the_block_nothing_is_captured() -> None:
    app = application(dispatch=False)
    client = TestClient(app)
    with capture(app) as first:
        client.post(ASKED)
    client.post(ASKED)
    with capture(app) as second:
        client.post(ASKED)
    assert (len(first.sent), len(second.sent)) == (1, 1)


def test_the_middleware_itself_may_be_given() -> None:
    middleware = CallbackMiddleware(FastAPI())
    with capture(middleware) as callbacks:
        assert callbacks.sent == []


def test_an_application_without_the_middleware_says_how_to_mount_it() -> None:
    with pytest.raises(ConfigurationError, match="add_middleware"), capture(FastAPI()):
        pass


# Deferred callbacks


def deferring() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/invoices/{key}", callbacks=router.routes)
    def create(key: str, callbacks: Callbacks, callback_url: str | None = None, user: str = "alice") -> None:
        callbacks.subscribe(paid, key=key, owner=user, expires=3600, tags={"invoice": key})

    @app.post("/invoices/{key}/payments")
    async def pay(key: str, callbacks: Callbacks, user: str = "alice", delay: float = 0) -> dict[str, str]:
        staged = callbacks.notify(paid, Event(paid=True), key=key, owner=user, delay=delay, tags={"kind": "payment"})
        return {"id": str(staged.id)}

    @app.delete("/invoices/{key}")
    def withdraw(key: str, callbacks: Callbacks, user: str = "alice") -> None:
        callbacks.unsubscribe(paid, key=key, owner=user)

    return app


@pytest.fixture
def deferred() -> Iterator[tuple[TestClient, CapturedCallbacks]]:
    app = deferring()
    with capture(app) as callbacks:
        yield TestClient(app), callbacks


CREATED = "/invoices/7?callback_url=https://ext.example/e"


def test_what_was_subscribed_can_be_looked_at(deferred: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    (one,) = callbacks.subscribed
    assert (one.key.callback, one.key.key, one.key.owner) == ("paid", "7", "alice")
    assert (one.url, one.expires_at) == ("https://ext.example/e", callbacks.clock.now() + timedelta(hours=1))
    assert callbacks.sent == []


def test_what_is_notified_is_sent_where_it_was_subscribed(deferred: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    answer = client.post("/invoices/7/payments")
    (sent,) = callbacks.sent
    assert str(sent.id) == answer.json()["id"]
    assert (sent.url, sent.json) == ("https://ext.example/e", {"paid": True})
    assert sent.tags == {"invoice": "7", "kind": "payment"}
    assert sent.headers["content-type"] == "application/json"
    assert callbacks.drain() == {sent.id: State.DELIVERED}


def test_a_subscription_is_notified_as_often_as_one_likes(deferred: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    for delay in (0, 60):
        client.post(f"/invoices/7/payments?delay={delay}")
    assert [sent.due_at - callbacks.clock.now() for sent in callbacks.sent] == [timedelta(), timedelta(minutes=1)]
    assert list(callbacks.drain().values()) == [State.DELIVERED] * 2


def test_a_replaced_subscription_is_notified_at_its_new_destination(
    deferred: tuple[TestClient, CapturedCallbacks],
) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    client.post("/invoices/7?callback_url=https://new.example/e")
    client.post("/invoices/7/payments")
    assert [one.url for one in callbacks.subscribed] == ["https://ext.example/e", "https://new.example/e"]
    assert [sent.url for sent in callbacks.sent] == ["https://new.example/e"]


def test_another_owners_key_is_a_409_and_changes_nothing(deferred: tuple[TestClient, CapturedCallbacks]) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    answer = client.post("/invoices/7?callback_url=https://thief.example/&user=mallory")
    assert answer.status_code == 409
    client.post("/invoices/7/payments")
    assert len(callbacks.subscribed) == 1
    assert [sent.url for sent in callbacks.sent] == ["https://ext.example/e"]


def gone(client: TestClient, callbacks: CapturedCallbacks) -> None:
    client.post("/invoices/7/payments")
    callbacks.answer(410)
    assert list(callbacks.drain().values()) == [State.DEAD]


Change = Callable[[TestClient, CapturedCallbacks], object]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda client, callbacks: client.delete("/invoices/7"), id="by hand"),
        pytest.param(lambda client, callbacks: callbacks.clock.advance(timedelta(hours=1)), id="by expiry"),
        pytest.param(gone, id="by a receiver's 410"),
    ],
)
def test_a_subscription_that_ended_is_notified_no_more(
    deferred: tuple[TestClient, CapturedCallbacks], change: Change
) -> None:
    client, callbacks = deferred
    client.post(CREATED)
    change(client, callbacks)
    before = len(callbacks.sent)
    client.post("/invoices/7/payments")
    assert len(callbacks.sent) == before
    assert [(skip.verb, skip.reason) for skip in callbacks.skipped] == [(Verb.NOTIFY, Reason.NOBODY_SUBSCRIBED)]


async def test_the_test_of_a_job_notifies_the_captured_outbox() -> None:
    app = deferring()
    with capture(app) as callbacks:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api.example") as client:
            await client.post(CREATED)
        identifier = await notify(
            callbacks.outbox, paid, Event(paid=True), key="7", owner="alice", clock=callbacks.clock
        )
        with pytest.raises(NobodySubscribed):
            await notify(callbacks.outbox, paid, Event(paid=True), key="7", owner="mallory")
    assert [sent.id for sent in callbacks.sent] == [identifier]


class Received(BaseModel):
    ok: bool


def test_how_a_scripted_answer_differs_from_the_declared_one_is_on_its_attempt() -> None:
    declaring = APIRouter()

    @declaring.post("{$callback_url}", response_model=Received)
    @deliver(payload={"paid": True})
    def received(body: Event) -> None: ...

    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/", callbacks=declaring.routes)
    def handler(callback_url: str) -> None: ...

    json = (("content-type", "application/json"),)
    with capture(app) as callbacks:
        for _ in range(4):
            TestClient(app).post(ASKED)
        callbacks.answer(200, 202, *(Accepted(Answer(200, json, body)) for body in (b'{"ok":true}', b"{}")))
        assert set(callbacks.drain().values()) == {State.DELIVERED}
    assert [attempt.mismatch for attempt in callbacks.attempts] == [
        "",
        "answered 202; declared: 200",
        "",
        "the body is no Received: 'ok' (missing)",
    ]


def committing() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/invoices", callbacks=router.routes)
    def create_invoice(callbacks: Callbacks, callback_url: str, answer: int = 200) -> Response:
        callbacks.send(paid, Event(paid=True))
        callbacks.commit_with_sync(object())
        return Response(status_code=answer)

    @app.post("/refunds", callbacks=router.routes)
    async def create_refund(callbacks: Callbacks, callback_url: str, answer: int = 200) -> Response:
        callbacks.send(paid, Event(paid=False))
        await callbacks.commit_with(object())
        return Response(status_code=answer)

    return app


@pytest.mark.parametrize("path", ["/invoices", "/refunds"])
def test_what_is_committed_with_a_transaction_is_sent_if_the_request_ends_well(path: str) -> None:
    app = committing()
    with capture(app) as callbacks:
        client = TestClient(app)
        client.post(f"{path}?callback_url=https://ext.example/e")
        assert len(callbacks.sent) == 1
        client.post(f"{path}?callback_url=https://ext.example/e&answer=409")
        assert len(callbacks.sent) == 1
        assert [skip.reason for skip in callbacks.skipped] == [Reason.STATUS]

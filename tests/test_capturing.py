"""The double that applications' own tests are written with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from callback_middleware import CallbackMiddleware, State
from callback_middleware.errors import ConfigurationError
from callback_middleware.expressions import Reason
from callback_middleware.fastapi import Callbacks
from callback_middleware.outcomes import Phase, Unreachable
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

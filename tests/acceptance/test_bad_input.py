"""Whatever a client types, the API answers as it would without the middleware, and the log says why."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel

from callback_middleware import CallbackMiddleware, deliver
from callback_middleware.errors import PayloadInvalid
from callback_middleware.expressions import Reason
from callback_middleware.fastapi import Callbacks
from callback_middleware.testing import capture

MEGABYTE = 1024 * 1024


class Event(BaseModel):
    paid: bool


router = APIRouter()


@router.post("{$request.query.callback_url}/invoices/{$request.body#/id}")
@deliver(payload={"paid": True})
def paid(body: Event) -> None: ...


@router.post("{$request.query.callback_url}/unfit")
@deliver(payload={"paid": "$request.body#/id"})
def unfit(body: Event) -> None: ...


def application(*, mounted: bool) -> FastAPI:
    """It answers with the number of bytes that it read, whatever they are."""
    app = FastAPI()
    if mounted:
        app.add_middleware(CallbackMiddleware)

    @app.post("/paid", callbacks=[router.routes[0]])
    async def handle(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/unfit", callbacks=[router.routes[1]])
    async def handle_unfit(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    return app


@dataclass(frozen=True)
class Bad:
    """A request, and what is said of the callback that does not come of it."""

    reason: Reason
    says: str
    url: str | None = "https://ext.example/events"
    body: bytes = b'{"id": "2expen51ve"}'
    content_type: str = "application/json"
    path: str = "/paid"


BAD = {
    "a body that is not JSON": Bad(Reason.UNRESOLVED, "JSON", body=b"id=7"),
    "a body of 10 MB": Bad(
        Reason.TRUNCATED,
        "larger than what is captured",
        body=json.dumps({"id": "7", "x": "x" * 10 * MEGABYTE}).encode(),
    ),
    "JSON nested 10,000 deep": Bad(Reason.UNRESOLVED, "deep", body=b'{"id":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "no URL": Bad(Reason.NOT_REQUESTED, "", url=None),
    "an empty URL": Bad(Reason.NOT_REQUESTED, "", url=""),
    "a URL with a newline": Bad(Reason.REFUSED, "", url="https://ext.example/\r\nx: 1"),
    "a URL that is no URL": Bad(Reason.REFUSED, "", url="call me"),
    "a private address": Bad(Reason.REFUSED, "private", url="https://192.168.0.1/"),
    "a metadata address": Bad(Reason.REFUSED, "EgressPolicy(", url="http://169.254.169.254/latest/"),
    "an id of dot segments": Bad(Reason.REFUSED, "'..' has no place in a path", body=b'{"id": ".."}'),
    "an id that is null": Bad(Reason.UNRESOLVED, "null", body=b'{"id": null}'),
    "no id": Bad(Reason.UNRESOLVED, "", body=b"{}"),
    "a payload that does not fit": Bad(Reason.INVALID_PAYLOAD, "paid", path="/unfit"),
    "another content type": Bad(Reason.UNRESOLVED, "image/png", body=b"\x89PNG", content_type="image/png"),
    "half of a surrogate pair": Bad(Reason.UNRESOLVED, "surrogate", body=b'{"id": "\\ud800"}'),
}


def ask(app: FastAPI, bad: Bad) -> tuple[int, bytes, dict[str, str]]:
    params = {} if bad.url is None else {"callback_url": bad.url}
    answer = TestClient(app).post(bad.path, params=params, content=bad.body, headers={"content-type": bad.content_type})
    return answer.status_code, answer.content, dict(answer.headers)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_response_is_that_of_the_application_and_the_reason_one_that_helps(
    bad: Bad, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "callback_middleware")
    app = application(mounted=True)
    with capture(app) as callbacks:
        answered = ask(app, bad)
    assert answered == ask(application(mounted=False), bad)
    assert answered[0] == 200

    (skip,) = callbacks.skipped
    assert callbacks.sent == []
    assert skip.reason == bad.reason
    assert bad.says in skip.detail
    (record,) = [record for record in caplog.records if f"{bad.path}" in record.getMessage()]
    assert bad.reason.value in record.getMessage()
    assert record.levelno == (logging.DEBUG if bad.reason is Reason.NOT_REQUESTED else logging.WARNING)


def test_an_id_with_a_way_up_stays_one_segment() -> None:
    app = application(mounted=True)
    with capture(app) as callbacks:
        ask(app, Bad(Reason.REFUSED, "", body=b'{"id": "../../admin?x=1#y"}'))
    assert callbacks.sent[0].url == "https://ext.example/events/invoices/..%2F..%2Fadmin%3Fx%3D1%23y"


def test_a_payload_that_does_not_fit_is_the_handlers_error_before_anything_is_planned() -> None:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware)

    @app.post("/", callbacks=router.routes[:1])
    async def handle(callbacks: Callbacks) -> dict[str, Any]:
        try:
            callbacks.send("paid", {"paid": "certainly"})
        except PayloadInvalid as error:
            return {"said": str(error)}
        return {}

    with capture(app) as callbacks:
        said = TestClient(app).post("/?callback_url=https://ext.example").json()["said"]
    assert "paid" in said
    assert (callbacks.sent, callbacks.skipped) == ([], [])

"""The lifespan protocol around an application that serves it, refuses it, fails in it or never heard of it."""

from __future__ import annotations

from typing import Any

import pytest

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.errors import ConfigurationError
from callback_middleware.lifespan import serve_lifespan

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}
STARTED: Message = {"type": "lifespan.startup.complete"}
STOPPED: Message = {"type": "lifespan.shutdown.complete"}


class Service:
    """Writes down what it is asked, in one list with what the server hears."""

    def __init__(self, happened: list[Any], **errors: ConfigurationError) -> None:
        self.happened = happened
        self.errors = errors

    async def prepare(self, scope: Scope) -> None:
        self._happens("prepare")

    async def open(self) -> None:
        self._happens("open")

    def start(self) -> None:
        self.happened.append("start")

    async def stop(self) -> None:
        self.happened.append("stop")

    async def aclose(self) -> None:
        self.happened.append("close")

    def _happens(self, what: str) -> None:
        self.happened.append(what)
        if what in self.errors:
            raise self.errors[what]


async def run(app: ASGIApp, **errors: ConfigurationError) -> list[Any]:
    happened: list[Any] = []
    messages = [STARTUP, SHUTDOWN]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        happened.append(message)

    try:
        await serve_lifespan(Service(happened, **errors), app, {"type": "lifespan"}, receive, send)
    except RuntimeError as raised:
        happened.append(raised)
    return happened


async def test_an_application_with_a_lifespan_of_its_own_is_started_and_stopped_in_order() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await send(STARTED)
        seen.append(await receive())
        await send(STOPPED)

    assert await run(app) == ["prepare", "open", "start", STARTED, "stop", STOPPED, "close"]
    assert seen == [STARTUP, SHUTDOWN]


async def test_deliveries_end_before_the_application_hears_of_the_shutdown() -> None:
    happened: list[str] = []

    class Recording(Service):
        async def stop(self) -> None:
            happened.append("drained")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(STARTED)
        await receive()
        happened.append("the application closes its pools")
        await send(STOPPED)

    messages = [STARTUP, SHUTDOWN]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None: ...

    await serve_lifespan(Recording([]), app, {"type": "lifespan"}, receive, send)
    assert happened == ["drained", "the application closes its pools"]


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("only HTTP here")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def reads_then_raises(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("unknown message")


@pytest.mark.parametrize("app", [raises, returns, reads_then_raises])
async def test_where_the_application_serves_no_lifespan_the_middleware_does(app: ASGIApp) -> None:
    assert await run(app) == ["prepare", "open", "start", STARTED, "stop", STOPPED, "close"]


async def test_a_mistake_in_the_callbacks_stops_the_start_with_its_message() -> None:
    happened = await run(returns, prepare=ConfigurationError("1 error in the application's callbacks"))
    assert happened == [
        "prepare",
        {"type": "lifespan.startup.failed", "message": "1 error in the application's callbacks"},
        "close",
    ]


async def test_an_outbox_that_cannot_be_used_as_it_is_stops_the_start_with_its_message() -> None:
    happened = await run(returns, open=ConfigurationError("its schema is old: callback-middleware migrate"))
    assert happened == [
        "prepare",
        "open",
        {"type": "lifespan.startup.failed", "message": "its schema is old: callback-middleware migrate"},
        "close",
    ]


async def test_an_application_that_fails_to_start_is_passed_on_and_nothing_is_started() -> None:
    failed: Message = {"type": "lifespan.startup.failed", "message": "no database"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(failed)
        raise RuntimeError("no database")

    happened = await run(app)
    assert happened[:-1] == ["prepare", "open", failed, "close"]
    assert isinstance(happened[-1], RuntimeError)

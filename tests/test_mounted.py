"""The middleware of an application, wherever it stands, and the dispatcher that it gives to others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from callback_middleware import CallbackMiddleware, EgressPolicy, MemoryOutbox, RetryPolicy
from callback_middleware.asgi import Receive, Scope, Send
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.errors import ConfigurationError
from callback_middleware.identifiers import uuid7
from callback_middleware.mounted import find_middleware
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, outcome_of
from callback_middleware.ports import Batch


class Wrapper:
    """As most middleware is."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def mounted() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware)
    return app


def test_it_is_found_among_an_applications_middleware() -> None:
    app = mounted()
    app.add_middleware(GZipMiddleware)
    assert isinstance(find_middleware(app), CallbackMiddleware)


def test_the_one_that_is_found_is_the_one_that_serves() -> None:
    app = mounted()
    found = find_middleware(app)
    assert find_middleware(app) is found


def test_it_is_found_within_what_wraps_the_application() -> None:
    app = mounted()
    assert find_middleware(Wrapper(Wrapper(app))) is find_middleware(app)


def test_of_several_the_innermost_owns_the_requests() -> None:
    app = mounted()
    assert find_middleware(CallbackMiddleware(Wrapper(app))) is find_middleware(app)
    inner = CallbackMiddleware(FastAPI())
    assert find_middleware(CallbackMiddleware(inner)) is inner


def test_an_application_without_one_says_how_to_mount_it() -> None:
    with pytest.raises(ConfigurationError, match=r"FastAPI has no CallbackMiddleware: app\.add_middleware"):
        find_middleware(FastAPI())


def test_what_wraps_itself_ends_the_search() -> None:
    wrapper = Wrapper(None)
    wrapper.app = wrapper
    with pytest.raises(ConfigurationError, match="Wrapper has no CallbackMiddleware"):
        find_middleware(wrapper)


def test_a_middleware_that_refuses_its_arguments_says_so() -> None:
    app = FastAPI()
    app.add_middleware(CallbackMiddleware, concurrency=0)
    with pytest.raises(ConfigurationError, match="concurrency=0"):
        find_middleware(app)


class KeepingSender:
    """A sender that keeps what it was given."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.urls.append(request.url)
        return outcome_of(Answer(200))

    async def aclose(self) -> None: ...


async def test_its_dispatcher_delivers_what_it_has_only_put() -> None:
    outbox, sender = MemoryOutbox(), KeepingSender()
    middleware = CallbackMiddleware(FastAPI(), outbox=outbox, sender=sender, dispatch=False)
    now = SystemClock().now()
    url = "https://here.example/events"
    await middleware.outbox.put(
        Batch(
            [
                Delivery(
                    id=uuid7(now, bytes(10)),
                    operation="POST /invoices/",
                    callback="invoice_notification",
                    method="POST",
                    url=url,
                    origin="https://here.example:443",
                    headers=(),
                    body=b"{}",
                    created_at=now,
                    due_at=now,
                    retry=RetryPolicy(),
                    deadline=DEADLINE,
                )
            ]
        )
    )
    assert await middleware.dispatcher().deliver_due() == 1
    assert sender.urls == [url]


def test_a_disabled_one_has_no_dispatcher() -> None:
    with pytest.raises(ConfigurationError, match="enabled=False"):
        CallbackMiddleware(FastAPI(), enabled=False).dispatcher()

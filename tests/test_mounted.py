"""The middleware of an application, wherever it stands."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from callback_middleware import CallbackMiddleware
from callback_middleware.asgi import Receive, Scope, Send
from callback_middleware.errors import ConfigurationError
from callback_middleware.mounted import find_middleware


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

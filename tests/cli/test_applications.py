"""From what is typed to a middleware, and what is said where that leads nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callback_middleware import CallbackMiddleware
from callback_middleware.cli.applications import application
from callback_middleware.cli.refusals import Refused
from callback_middleware.errors import ConfigurationError

SHOP = """
from callback_middleware import CallbackMiddleware

async def bare(scope, receive, send): ...

class Api:
    app = CallbackMiddleware(bare)

app = Api.app

def create(): return app

def create_for(tenant): return app

async def create_later(): return app

def refusing():
    from fastapi import FastAPI
    app = FastAPI()
    app.add_middleware(CallbackMiddleware, concurrency=0)
    return app

number = 7
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a module ``shop`` in it, which is the current one."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    # As the console script begins: with the folder of its own, and without the current one.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("shop"):
            del sys.modules[name]


def refusal(target: str, *, factory: bool = False) -> str:
    with pytest.raises(Refused) as refused:
        application(target, factory=factory)
    message = refused.value.message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("target", ["shop:app", "shop:Api.app"])
def test_an_attribute_or_a_path_of_attributes_is_followed(target: str) -> None:
    _, found = application(target, factory=False)
    assert isinstance(found, CallbackMiddleware)
    assert found is sys.modules["shop"].app


def test_a_factory_is_called() -> None:
    assert application("shop:create", factory=True)[1] is sys.modules["shop"].app


@pytest.mark.parametrize(
    "target", ["", "shop", "shop:", ":app", ".shop:app", "./shop:app", "shop:app()", "shop:app:app"]
)
def test_what_is_no_module_and_attribute_is_told_its_form(target: str) -> None:
    assert refusal(target) == f"APP is {target!r}, and must be module:attribute, as in invoices:app"


@pytest.mark.parametrize("module", ["shopp", "shop.api", "shops.api"])
def test_a_module_that_is_not_there_is_told_where_it_was_looked_for(module: str) -> None:
    message = refusal(f"{module}:app")
    assert message.startswith(f"there is no module {module!r} in {Path.cwd()}, ")


def test_a_file_in_place_of_its_module_is_told_the_module() -> None:
    assert refusal("shop.py:app").endswith("APP has a module's name, and not a file's: shop:…")


def test_an_attribute_that_is_not_there_is_told_what_was_perhaps_meant() -> None:
    assert refusal("shop:ap") == "shop has no attribute 'ap': perhaps 'app'?"
    assert refusal("shop:Api.apps") == "shop.Api has no attribute 'apps': perhaps 'app'?"
    assert refusal("shop:zzz") == "shop has no attribute 'zzz': which attribute is the application?"


def test_an_application_without_the_middleware_is_told_how_to_mount_it() -> None:
    assert refusal("shop:number").startswith("shop:number: int has no CallbackMiddleware: app.add_middleware(")


def test_a_middleware_that_refuses_its_arguments_is_heard() -> None:
    assert refusal("shop:refusing", factory=True) == "shop:refusing: concurrency=0 must be at least 1"


def test_a_function_is_told_of_factory() -> None:
    assert refusal("shop:create") == "shop:create is a function: if it makes the application, add --factory"


def test_what_cannot_be_called_for_an_application_says_so() -> None:
    assert refusal("shop:number", factory=True) == "--factory: shop:number is no function that returns an application"
    assert "shop:create_later is no function" in refusal("shop:create_later", factory=True)
    message = refusal("shop:create_for", factory=True)
    assert message == "--factory: shop:create_for is called without arguments (missing a required argument: 'tenant')"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import shop_that_is_not_there", ModuleNotFoundError),
        ("raise LookupError('no database')", LookupError),
        ("this is no Python", SyntaxError),
        # The sentence would not say which line of it is wrong.
        ("from callback_middleware import CallbackMiddleware as C; C(None, concurrency=0)", ConfigurationError),
    ],
)
def test_what_the_module_itself_raises_comes_as_it_is(text: str, error: type[Exception]) -> None:
    Path("shop_broken.py").write_text(text)
    with pytest.raises(error) as raised:
        application("shop_broken:app", factory=False)
    assert not isinstance(raised.value, Refused)

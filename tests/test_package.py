"""The package's face: about twenty names, each loaded on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import callback_middleware

NAMES = {
    "Attempt",
    "BacklogLimits",
    "Callback",
    "CallbackMiddleware",
    "CaptureLimits",
    "Delivery",
    "Dispatcher",
    "EgressPolicy",
    "Exchange",
    "MemoryOutbox",
    "Operation",
    "Outcome",
    "ReceiverLimits",
    "RetryPolicy",
    "SQLiteOutbox",
    "StandardWebhooksSigner",
    "State",
    "deliver",
    "errors",
    "notify",
    "ports",
    "testing",
}


def test_the_package_exports_these_names_and_no_others() -> None:
    assert set(callback_middleware.__all__) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(callback_middleware, name) is not None
    assert name in dir(callback_middleware)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Webhook'"):
        _ = callback_middleware.Webhook


def _imported_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return set(shown.split())


def test_importing_the_package_imports_none_of_its_parts() -> None:
    assert not {"anyio", "httpx", "callback_middleware.middleware"} & _imported_by("import callback_middleware")


def test_the_middleware_imports_no_framework_and_no_extra() -> None:
    foreign = {"fastapi", "starlette", "pydantic", "jsonschema", "yaml", "aiohttp", "trio", "python_multipart"}
    assert not foreign & _imported_by("from callback_middleware import CallbackMiddleware")

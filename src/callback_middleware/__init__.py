"""ASGI middleware that sends the callbacks an OpenAPI operation documents.

The names below load on first use (PEP 562), so that importing one part, a receiver's for example,
imports nothing that the other parts need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callback_middleware import errors, ports, testing
    from callback_middleware.backlog import BacklogLimits
    from callback_middleware.delivery import Delivery
    from callback_middleware.dispatcher import Dispatcher
    from callback_middleware.egress import EgressPolicy
    from callback_middleware.exchange import Exchange
    from callback_middleware.isolation import ReceiverLimits
    from callback_middleware.middleware import CallbackMiddleware
    from callback_middleware.notifying import notify
    from callback_middleware.operations import Callback, Operation
    from callback_middleware.options import deliver
    from callback_middleware.outbox.memory import MemoryOutbox
    from callback_middleware.outbox.sqlite import SQLiteOutbox
    from callback_middleware.outcomes import Attempt, Outcome
    from callback_middleware.recording import CaptureLimits
    from callback_middleware.retry import RetryPolicy
    from callback_middleware.signing import StandardWebhooksSigner
    from callback_middleware.states import State

__all__ = [
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
]

_HOMES = {
    "Attempt": "outcomes",
    "BacklogLimits": "backlog",
    "Callback": "operations",
    "CallbackMiddleware": "middleware",
    "CaptureLimits": "recording",
    "Delivery": "delivery",
    "Dispatcher": "dispatcher",
    "EgressPolicy": "egress",
    "Exchange": "exchange",
    "MemoryOutbox": "outbox.memory",
    "Operation": "operations",
    "Outcome": "outcomes",
    "ReceiverLimits": "isolation",
    "RetryPolicy": "retry",
    "SQLiteOutbox": "outbox.sqlite",
    "StandardWebhooksSigner": "signing",
    "State": "states",
    "deliver": "options",
    "notify": "notifying",
}
_MODULES = frozenset({"errors", "ports", "testing"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""For tests: of applications that send callbacks, and of outboxes that keep them.

The names load on first use (PEP 562): only :class:`OutboxContract` needs pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from callback_middleware.testing.capturing import CapturedCallbacks, Sent, capture
    from callback_middleware.testing.clock import VirtualClock
    from callback_middleware.testing.outbox_contract import OutboxContract

__all__ = ["CapturedCallbacks", "OutboxContract", "Sent", "VirtualClock", "capture"]

_HOMES: Final = {
    "CapturedCallbacks": "capturing",
    "OutboxContract": "outbox_contract",
    "Sent": "capturing",
    "VirtualClock": "clock",
    "capture": "capturing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

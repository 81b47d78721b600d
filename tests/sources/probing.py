"""Sends requests through an application by hand, and notes what a directory says of each on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from callback_middleware.operations import Operation
from callback_middleware.sources.discovery import Directory
from callback_middleware.sources.unknowns import Unrouted

App = Callable[..., Awaitable[None]]


@dataclass
class Seen:
    """What became of one request.

    Attributes:
        scope: The scope that the application got.
        received: What the directory said whenever the application read the body.
        answered: What it said when the response began.
        rematched: What it said when it asked the routes once more.
        status: Of the response.
    """

    scope: MutableMapping[str, Any]
    received: list[Operation | Unrouted | None] = field(default_factory=list)
    answered: Operation | Unrouted | None = None
    rematched: Operation | None = None
    status: int = 0


async def request(
    app: App,
    directory: Directory,
    method: str,
    path: str,
    *,
    body: bytes = b'{"id": "1"}',
    raw_path: bytes | None = None,
    **more: Any,
) -> Seen:
    """Serve one request; ``more`` goes into its scope."""
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode() if raw_path is None else raw_path,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api.example"), (b"content-type", b"application/json")],
        "server": ("api.example", 80),
        **more,
    }
    seen = Seen(scope)

    async def receive() -> Mapping[str, Any]:
        seen.received.append(directory.find(scope))
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
            seen.answered = directory.find(scope)
            seen.rematched = directory.rematch(scope)

    await app(scope, receive, send)
    return seen


def listed(directory: Directory) -> dict[str, list[str]]:
    """The operations of a directory, and the names of their callbacks."""
    return {str(one): [callback.name for callback in one.callbacks] for one in directory.operations}

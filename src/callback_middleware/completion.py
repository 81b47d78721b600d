"""When a client has the whole of a response (RFC 9112, section 6.3).

It knows that from the status, its own request's method or ``Content-Length``, and does not wait for the last ASGI
message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from callback_middleware.asgi import Message

WHOLE_FILES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""The messages that stand for a whole body, which the server reads itself."""

_BODILESS: Final = frozenset({204, 304})


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """How many bytes a response's body has, as far as its headers say."""
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def ends_at_start(method: str, status: int, length: int | None) -> bool:
    """Whether a response has no body, so that its start is all of it."""
    return method == "HEAD" or status in _BODILESS or length == 0


class Remainder:
    """What a client is still to get of a response.

    Attributes:
        length: How many bytes of its body; None where its headers do not say.
    """

    __slots__ = ("length",)

    def __init__(self, length: int | None) -> None:
        self.length = length

    def ends_with(self, message: Message) -> bool:
        """Whether the client has the whole response once it has this message, the next one."""
        kind = message["type"]
        if kind in WHOLE_FILES:
            return True
        if kind != "http.response.body":
            return False
        if self.length is not None:
            self.length -= len(message.get("body", b""))
            if self.length <= 0:
                return True
        return not message.get("more_body", False)

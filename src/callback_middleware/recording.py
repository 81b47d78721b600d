"""Keeping a body while it passes by: references to its chunks, up to a limit, never a copy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import anyio

from callback_middleware.asgi import Message, Receive
from callback_middleware.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """How much of an exchange is kept for expressions that need it. Nothing is kept for those that do not.

    Attributes:
        request_body: Bytes; a larger body is ``truncated`` for its callbacks, and untouched for the application.
        response_body: Bytes; likewise.
        drain_seconds: How long the rest of a request body is waited for that the handler did not read.
    """

    request_body: int = 1024 * 1024
    response_body: int = 1024 * 1024
    drain_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in ("request_body", "response_body", "drain_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"CaptureLimits({name}={getattr(self, name)!r}) must not be negative")


class Recording:
    """The chunks of one body. Whole, or truncated and then empty: never half a document."""

    __slots__ = ("_chunks", "_left", "ended", "truncated")

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
        self._left = limit
        self.ended = False
        self.truncated = False

    def add(self, chunk: bytes) -> None:
        """Keep one more chunk; beyond the limit everything is let go."""
        if not chunk or self.truncated:
            return
        self._left -= len(chunk)
        if self._left < 0:
            self.truncate()
        else:
            self._chunks.append(chunk)

    def truncate(self) -> None:
        """Give up on this body: it is too large, or will never be seen whole."""
        self.truncated = True
        self._chunks.clear()

    @property
    def content(self) -> bytes:
        """The whole body; empty where it was truncated."""
        return b"".join(self._chunks)


class RequestTap:
    """Stands in a request's ``receive``, records its body, and can read what the application left unread.

    The application still gets every message, in order: what :meth:`drain` read early is handed out first.
    """

    __slots__ = ("_draining", "_moved", "_receive", "_receiving", "_replay", "recording")

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._receiving = 0
        self._replay: deque[Message] = deque()
        self._draining: anyio.Event | None = None
        self._moved: anyio.Event | None = None
        self.recording = Recording(limit)

    async def receive(self) -> Message:
        if self._draining is not None:
            await self._draining.wait()
        if self._replay:
            return self._replay.popleft()
        self._receiving += 1
        try:
            return self._record(await self._receive())
        finally:
            self._receiving -= 1
            if self._moved is not None:
                self._moved.set()

    async def whole(self, seconds: float) -> Recording:
        """The body to its end, which is waited for no longer than this."""
        if not self.recording.ended:
            await self.drain(seconds)
        return self.recording

    async def drain(self, seconds: float) -> None:
        """Read to the end of the body, for at most this long; a body that does not end by then is truncated."""
        with anyio.move_on_after(seconds):
            while not self.recording.ended:
                if self._receiving:
                    # The application waits for the same message (a streaming response listens for the client's
                    # leaving): two readers would take each other's, so let it come through there.
                    self._moved = anyio.Event()
                    await self._moved.wait()
                else:
                    await self._read_ahead()
        if not self.recording.ended:
            self.recording.truncate()

    async def _read_ahead(self) -> None:
        self._draining = anyio.Event()
        try:
            self._replay.append(self._record(await self._receive()))
        finally:
            self._draining.set()
            self._draining = None

    def _record(self, message: Message) -> Message:
        recording = self.recording
        if message["type"] == "http.request":
            recording.add(message.get("body", b""))
            if not message.get("more_body", False):
                recording.ended = True
        elif not recording.ended:
            # The client went away in the middle of its own request.
            recording.truncate()
            recording.ended = True
        if recording.truncated:
            recording.ended = True
        return message

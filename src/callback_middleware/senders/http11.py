"""One HTTP/1.1 connection, and one exchange at a time on it (RFC 9112)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import h11
from anyio import lowlevel

from callback_middleware.outcomes import Answer, Phase
from callback_middleware.senders.progress import AttemptFailed, Progress
from callback_middleware.senders.streams import Stream
from callback_middleware.senders.wire import MAX_HEAD, MAX_HEADERS, MAX_INFORMATIONAL, WireRequest

__all__ = ["HttpConnection"]

_AT_ONCE: Final = 16 * 1024

_TURN: Final = 16
"""Pieces that are read without letting others have the loop. An honest answer has fewer."""

_END: Final = h11.EndOfMessage()


@lru_cache(maxsize=64)
def _stand_in(method: str) -> h11.Request:
    """What h11 is told instead of the request, to know which answers may follow.

    Checking and writing a head of ten lines takes h11 longer than everything else that it does for an exchange
    (25 of 47 microseconds, measured); :meth:`WireRequest.encoded` does it in five.
    """
    return h11.Request(method=method, target="/", headers=[("Host", "stand-in")])


_Event: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class HttpConnection:
    """A connection to a receiver. After an exchange that raised or was cancelled it is good for nothing: close it."""

    __slots__ = ("_http", "_pieces", "_read_so_far", "_stream", "reusable")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pieces = 0
        self._read_so_far = 0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.reusable = False
        """Whether the last exchange left the connection at the beginning of the next one."""

    async def exchange(self, request: WireRequest, progress: Progress, max_answer: int) -> Answer:
        """Send a request and read its answer, of the body no more than ``max_answer`` bytes.

        Raises:
            AttemptFailed: The answer is none, or breaks off, or is larger than anything reasonable.
            OSError: The connection failed.
        """
        self.reusable = False
        progress.phase = Phase.SEND
        pieces = self._written(request)
        refused: OSError | None = None
        try:
            for piece in pieces:
                await self._stream.send(piece)
        except OSError as error:
            # A receiver may answer before it has read everything, and close: then the answer counts.
            refused = error
        else:
            progress.phase = Phase.HEADERS
        try:
            answer = await self._read(progress, max_answer)
        except (AttemptFailed, OSError):
            if refused is not None and progress.phase is Phase.SEND:
                raise refused from None
            raise
        except h11.RemoteProtocolError as error:
            # Only the kind of mistake: what follows the colon are the receiver's own bytes.
            raise AttemptFailed(f"malformed answer: {str(error).partition(':')[0]}") from None
        self.reusable = not answer.truncated and refused is None and self._begin_again()
        return answer

    def is_quiet(self) -> bool:
        """Whether an idle connection is still idle: see :meth:`Stream.is_quiet`."""
        return self._stream.is_quiet()

    def close(self) -> None:
        self._stream.close()

    def _written(self, request: WireRequest) -> Sequence[bytes]:
        try:
            pieces = request.encoded()
        except ValueError:
            # Not the error's own words: they might repeat a secret.
            raise AttemptFailed("the request's method, target or headers cannot be written") from None
        self._http.send(_stand_in(request.method))
        self._http.send(_END)
        return pieces

    async def _read(self, progress: Progress, max_answer: int) -> Answer:
        response = await self._head()
        progress.phase = Phase.BODY
        # What is kept is not all that comes: a chunk of one byte may have an extension of thirty thousand.
        enough = self._read_so_far + max_answer + MAX_HEAD
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in response.headers]
        body = bytearray()
        while type(event := await self._next_event()) is not h11.EndOfMessage:
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > max_answer or self._read_so_far > enough:
                    return Answer(response.status_code, headers, bytes(body[:max_answer]), truncated=True)
        return Answer(response.status_code, headers, bytes(body))

    async def _head(self) -> h11.Response:
        for _ in range(MAX_INFORMATIONAL + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                if len(event.headers) > MAX_HEADERS:
                    raise AttemptFailed(f"malformed answer: more than {MAX_HEADERS} headers")
                # RFC 9112, 6.3: somebody in between may have read another answer than this one.
                if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                    raise AttemptFailed("malformed answer: both a length and a transfer encoding")
                return event
        raise AttemptFailed(f"malformed answer: more than {MAX_INFORMATIONAL} informational ones")

    async def _next_event(self) -> _Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._stream.receive(_AT_ONCE)
            self._read_so_far += len(data)
            self._pieces += 1
            if not self._pieces % _TURN:
                # Reading what is there waits for nothing. A receiver that sends without end, and fast, would keep the
                # loop for itself, and its own deadline away.
                await lowlevel.checkpoint()
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise AttemptFailed("the connection was closed without an answer")
            self._http.receive_data(data)
        return event

    def _begin_again(self) -> bool:
        """Whether both sides are done and nothing came after the answer: it would be taken for the next one's."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data != (b"", False):
            return False
        self._http.start_next_cycle()
        return True

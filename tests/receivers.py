"""A receiver on loopback, in threads of its own: notes what it hears, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 30.0
"""Seconds until a callback that should have come is missed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One callback, as it came.

    Attributes:
        target: Path and query.
        headers: By lower-case name.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Answers one status after the other; the last one repeats.

    Attributes:
        url: Without a path.
    """

    def __init__(self, *statuses: int) -> None:
        self._statuses = statuses or (200,)
        self._heard: list[Heard] = []
        self._news = threading.Condition()
        self._may_answer = threading.Event()
        self._may_answer.set()
        # Bound from now on: until it listens, whoever calls is refused.
        self._server = _Server(self._answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def listen(self) -> None:
        """Take calls."""
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name=f"receiver {self.url}").start()
        self._server.serving = True

    def close(self) -> None:
        self.release()
        if self._server.serving:
            self._server.shutdown()
        self._server.server_close()

    def hold(self) -> None:
        """Hear, and leave the caller waiting until :meth:`release`."""
        self._may_answer.clear()

    def release(self) -> None:
        """Answer those who wait, and everybody from now on."""
        self._may_answer.set()

    @property
    def heard(self) -> Sequence[Heard]:
        """Everything so far, in the order in which it came."""
        with self._news:
            return tuple(self._heard)

    def wait(self, count: int = 1) -> Sequence[Heard]:
        """What was heard, as soon as it is at least this much. Fails if it never is."""
        with self._news:
            came = self._news.wait_for(lambda: len(self._heard) >= count, PATIENCE)
            assert came, f"{len(self._heard)} of {count} callbacks came within {PATIENCE} s: {self._heard}"
            return tuple(self._heard)

    def _answer(self, heard: Heard) -> int:
        with self._news:
            status = self._statuses[min(len(self._heard), len(self._statuses) - 1)]
            self._heard.append(heard)
            self._news.notify_all()
        self._may_answer.wait()
        return status


@contextmanager
def receiving(*statuses: int, listen: bool = True) -> Iterator[Receiver]:
    """A :class:`Receiver` for as long as the block lasts."""
    receiver = Receiver(*statuses)
    try:
        if listen:
            receiver.listen()
        yield receiver
    finally:
        receiver.close()


class _Server(ThreadingHTTPServer):
    # A connection that its client keeps open must not keep the test open.
    daemon_threads = True
    serving = False

    def __init__(self, answer: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.answer = answer
        self.server_bind()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        # A caller that is held goes away in the end.
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.answer(Heard(self.command, self.path, headers, body))
        content = b'{"ok":true}'
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - http.server asks for these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass

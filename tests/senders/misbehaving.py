"""Receivers that misbehave without end, each on a port of its own, in threads: for senders in another process."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, TypeAlias

Script: TypeAlias = Callable[[socket.socket], None]

TOGETHER: Final = 50
"""So many healthy deliveries are answered together, and none before the last one has come."""

OK: Final = b"HTTP/1.1 200 OK\r\n"
ANSWER: Final = OK + b"Content-Length: 2\r\n\r\nok"
BOMB: Final = gzip.compress(b"\0" * 2**26)


def read_request(connection: socket.socket) -> bool:
    """Read one request. False at the end."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        if not data:
            return False
        received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return True


def until_gone(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def after_the_request(first: bytes, again: bytes = b"") -> Script:
    """Reads a request, sends one thing and then another without end, or waits."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(first)
        # Whole pages of it: fast is worse.
        piece = again * (1 + 65536 // len(again)) if again else b""
        while piece:
            connection.sendall(piece)
        until_gone(connection)

    return script


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_at_the_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(OK + b"Content-Length: 100\r\n\r\nhalf")
    reset(connection)


def never_read(connection: socket.socket) -> None:
    # It polls for the end only: what was sent stays where it is.
    threading.Event().wait(60)


CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"

SCRIPTS: Final[Mapping[str, Script]] = {
    "endless body": after_the_request(OK + b"\r\n", b"x"),
    "endless chunks": after_the_request(CHUNKED, b"1\r\nx\r\n"),
    "endless extensions": after_the_request(CHUNKED, b"1;" + b"e" * 20_000 + b"\r\nx\r\n"),
    "one endless extension": after_the_request(CHUNKED + b"1;", b"e"),
    "endless trailers": after_the_request(CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n"),
    "endless headers": after_the_request(OK, b"A: b\r\n"),
    "endless header": after_the_request(OK + b"A: ", b"b"),
    "endless status": after_the_request(b"HTTP/1.1 200 ", b"O"),
    "endless hints": after_the_request(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "endless lines": after_the_request(b"", b"\r\n"),
    "a bomb": after_the_request(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "a huge length": after_the_request(OK + b"Content-Length: 999999999999999\r\n\r\n", b"x"),
    "reset at once": reset,
    "reset at the body": reset_at_the_body,
    "silence": after_the_request(b""),
    "half an answer": after_the_request(OK + b"Content-Length: 100\r\n\r\nhalf"),
    "no handshake": until_gone,
    "unread": never_read,
}


@contextmanager
def misbehaving() -> Iterator[Mapping[str, int]]:
    """The port of each script; ``healthy`` and ``unaccepted`` besides."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(_served(script)) for name, script in SCRIPTS.items()}
        barrier = threading.Barrier(TOGETHER)

        def healthy(connection: socket.socket) -> None:
            while read_request(connection):
                barrier.wait(60)
                connection.sendall(ANSWER)

        ports["healthy"] = stack.enter_context(_served(healthy))
        ports["unaccepted"] = stack.enter_context(unaccepted())
        yield ports


@contextmanager
def _served(script: Script) -> Iterator[int]:
    listener = socket.socket()
    # Small, so that little of what is not read is on its way.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)

    def converse(connection: socket.socket) -> None:
        with connection, suppress(OSError, threading.BrokenBarrierError):
            script(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        accepting.join()
        listener.close()


@contextmanager
def unaccepted() -> Iterator[int]:
    """A port whose queue is full: what knocks there is not answered."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]

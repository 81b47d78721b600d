"""A TCP or TLS connection to one checked address, on any event loop.

One non-blocking socket and anyio's readiness do for asyncio and trio what their transports do, with two gains:
nothing but ``connect`` here ever opens a socket, and closing is immediate, on a loop that is gone too.
"""

from __future__ import annotations

import os
import socket
import ssl

import anyio

from callback_middleware.egress.addresses import Address

__all__ = ["Stream"]


class Stream:
    """Bytes to and from a receiver. Used by one task at a time; after any error or cancellation, closed."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    @classmethod
    async def connect(cls, address: Address, port: int) -> Stream:
        """Connect to an address that the policy allowed. Raises ``OSError``."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP versions
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _connected(opened, (str(address), port))
        except BaseException:
            opened.close()
            raise
        return cls(opened)

    async def secure(self, context: ssl.SSLContext, server_name: str) -> None:
        """Speak TLS from here on. Raises ``OSError``, of which ``ssl.SSLError`` is one.

        For a ``server_name`` that is an address no SNI is sent, and the certificate must name the address.
        """
        secured = context.wrap_socket(self._socket, server_hostname=server_name, do_handshake_on_connect=False)
        self._socket = secured
        while True:
            try:
                return secured.do_handshake()
            except ssl.SSLWantReadError:
                await anyio.wait_readable(secured)
            except ssl.SSLWantWriteError:
                await anyio.wait_writable(secured)

    async def send(self, data: bytes) -> None:
        """Send all of ``data``. Raises ``OSError``."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await anyio.wait_writable(self._socket)
            except ssl.SSLWantReadError:
                await anyio.wait_readable(self._socket)

    async def receive(self, most: int) -> bytes:
        """At least one byte and at most ``most``, or nothing at the end. Raises ``OSError``."""
        while True:
            try:
                return self._socket.recv(most)
            except (BlockingIOError, ssl.SSLWantReadError):
                await anyio.wait_readable(self._socket)
            except ssl.SSLWantWriteError:
                await anyio.wait_writable(self._socket)

    def is_quiet(self) -> bool:
        """Whether the receiver has sent nothing that was not asked for, and has not closed. Looks; never waits."""
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()


async def _connected(opened: socket.socket, where: tuple[str, int]) -> None:
    try:
        opened.connect(where)
    except BlockingIOError:
        await anyio.wait_writable(opened)
        if error := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error)) from None

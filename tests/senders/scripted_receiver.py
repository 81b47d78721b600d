"""A receiver that plays whatever a test wrote for it, byte by byte, on a real socket."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.outcomes import AttemptRequest
from callback_middleware.ports import Sender

BODY = b'{"paid": true}'
HEADERS = (("Content-Type", "application/json"), ("Webhook-Id", "0192f0c1"))
SOON = timedelta(seconds=0.2)
"""The deadline of an attempt that is to miss it."""
LATER = timedelta(seconds=30)
"""The deadline of an attempt that is to meet it."""
LOOPBACK = EgressPolicy(
    schemes=("http", "https"),
    ports=None,
    allowed_hosts=("*.example", "localhost", "127.0.0.0/8", "::1"),
    allowed_networks=("127.0.0.0/8", "::1/128"),
)


@dataclass
class Peer:
    """One connection, from the receiver's side."""

    stream: ByteStream
    receiver: Receiver
    received: bytes = b""

    async def request(self) -> bytes:
        """The next whole request, as it came."""
        while b"\r\n\r\n" not in self.received:
            self.received += await self.stream.receive()
        head, _, rest = self.received.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(rest) < length:
            rest += await self.stream.receive()
        self.received = rest[length:]
        request = head + b"\r\n\r\n" + rest[:length]
        self.receiver.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def close(self) -> None:
        await self.stream.aclose()

    async def reset(self) -> None:
        """Close at once with an RST, not with a FIN."""
        raw = self.stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()

    async def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on."""
        self.stream = await TLSStream.wrap(
            self.stream, server_side=True, ssl_context=context, standard_compatible=False
        )

    def certificate(self) -> object:
        """What the other side showed of itself in TLS; empty if nothing."""
        return self.stream.extra(TLSAttribute.peer_certificate_binary)  # noqa: S610 - anyio's

    async def gone(self) -> None:
        """Return when the other side has closed, whatever it sent before."""
        try:
            while True:
                await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


Script = Callable[[Peer], Awaitable[None]]

MakeSender = Callable[..., Sender]
"""Makes the sender that a test is parametrized with; its settings are the constructor's."""


@dataclass
class Receiver:
    """What a scripted receiver saw."""

    port: int
    accepted: int = 0
    requests: list[bytes] = field(default_factory=list)

    def url(self, target: str = "/", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{target}"

    def post(self, target: str = "/", *, host: str = "127.0.0.1", scheme: str = "http") -> AttemptRequest:
        return AttemptRequest("POST", self.url(target, host=host, scheme=scheme), HEADERS, BODY)


@asynccontextmanager
async def serve(script: Script) -> AsyncIterator[Receiver]:
    """Listen on every loopback address and play ``script`` to each caller."""
    listeners = await anyio.create_tcp_listener(local_host="0.0.0.0", local_port=0, family=socket.AF_INET)  # noqa: S104 - all of 127/8
    async with listeners, anyio.create_task_group() as tasks:
        receiver = Receiver(listeners.extra(SocketAttribute.local_port))  # noqa: S610 - anyio's

        async def converse(stream: SocketStream) -> None:
            receiver.accepted += 1
            try:
                async with stream:
                    await script(Peer(stream, receiver))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the sender went away: what most scripts wait for

        tasks.start_soon(listeners.serve, converse)
        yield receiver
        tasks.cancel_scope.cancel()


def answer(status: str = "200 OK", body: bytes = b"ok", *headers: str) -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(response: bytes) -> Script:
    """Answers every request alike, on one connection for as long as it lasts."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(response)

    return script


def names(**known: str | Sequence[str]) -> Callable[[str], Sequence[Address]]:
    """A lookup that knows these names, their dots written as underscores."""

    def lookup(name: str) -> Sequence[Address]:
        found = known.get(name.removesuffix(".").replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [ip_address(text) for text in ([found] if isinstance(found, str) else found)]

    return lookup

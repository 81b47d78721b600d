"""What aiohttp is given in place of its own: addresses, sockets and connections, each only if they were checked.

aiohttp calls these in the task of a request, or in one that inherits its context: they find the attempt that they are
called for in a context variable.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from callback_middleware.egress.addresses import Address, address_of
from callback_middleware.outcomes import Phase
from callback_middleware.senders.occupancy import Occupancy
from callback_middleware.senders.progress import AttemptFailed, Progress
from callback_middleware.senders.wire import MAX_INFORMATIONAL

__all__ = [
    "CheckedAddresses",
    "CheckedConnector",
    "CurrentAttempt",
    "checked_socket",
    "current_attempt",
    "tell_of_bad_bodies",
]


_RECEIVED_AT_ONCE: Final = 32 * 1024


@dataclass(slots=True, kw_only=True)
class CurrentAttempt(Progress):
    """What aiohttp's hooks must know of the attempt that they are called for.

    Attributes:
        occupancy: The places at every address.
        addresses: The checked ones: nothing else may be connected to.
        opened: Whether a connection was opened for this attempt.
        full: An address that there was no place at.
        places: The addresses that it has a place at.
        transport: What it is carried by.
    """

    occupancy: Occupancy
    addresses: Sequence[Address] = ()
    opened: bool = False
    full: Address | None = None
    places: list[Address] = field(default_factory=list)
    transport: asyncio.Transport | None = None

    def enter(self, address: Address) -> bool:
        """Take a place at an address, unless it has one. False where none is free."""
        if address not in self.places:
            if not self.occupancy.enter(address):
                self.full = address
                return False
            self.places.append(address)
        return True

    def stay_at(self, address: Address) -> None:
        """Give back the places at all other addresses."""
        if len(self.places) > 1:
            for other in self.places:
                if other != address:
                    self.occupancy.leave(other)
            self.places = [address]

    def check_room(self) -> None:
        """Raise ``AddressBusy`` if it did not get as far as a connection, and at a full address it might have."""
        if self.full is not None and self.phase is Phase.CONNECT:
            raise self.occupancy.turn_away(self.full)

    def end(self) -> None:
        """Give back everything that it has."""
        for address in self.places:
            self.occupancy.leave(address)
        self.places.clear()
        # Whatever is not kept goes at once. Closing politely would wait for a receiver that does not read what is left,
        # or says nothing at the end of TLS: for half a minute, or for ever.
        if self.transport is not None and self.transport.is_closing():
            self.transport.abort()


current_attempt: Final[ContextVar[CurrentAttempt]] = ContextVar("callback-attempt")


class CheckedAddresses(AbstractResolver):
    """Resolves a host to what was resolved and checked for this attempt."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # aiohttp asks for any
        return [
            ResolveResult(hostname=host, host=str(address), port=port, family=_family(address), proto=0, flags=0)
            for address in current_attempt.get().addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP versions


def checked_socket(addr_info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address, if it is a checked one: aiohttp asks no resolver about addresses in URLs."""
    family, kind, protocol, _, where = addr_info
    attempt, address = current_attempt.get(), address_of(where[0])
    if address not in attempt.addresses:
        raise AttemptFailed("the address was not checked")
    if not attempt.enter(address):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # aiohttp tries the next one
    attempt.opened = True
    opened = socket.socket(family, kind, protocol)
    # aiohttp parses everything that has come before it gives anything of it away: of 1xx answers, or of chunks of one
    # byte, a quarter of a megabyte makes twenty.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_AT_ONCE)
    return opened


class CheckedConnector(aiohttp.TCPConnector):
    """Uses a kept-alive connection again only while its address is among the attempt's, and nothing came unasked."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> aiohttp.connector.Connection:
        attempt = current_attempt.get()
        attempt.phase = Phase.CONNECT
        while True:
            connection = await super().connect(req, traces, timeout)
            address = _peer(connection)
            # A receiver that has gone already was reached all the same: an attempt is one try.
            if attempt.opened or (address in attempt.addresses and _is_quiet(connection)):
                break
            connection.close()
        if address is not None:
            if not attempt.enter(address):
                connection.release()
                raise attempt.occupancy.turn_away(address)
            attempt.stay_at(address)
        if connection.protocol is not None:
            _let_few_pass(connection.protocol)
        attempt.transport = connection.transport
        attempt.phase = Phase.HEADERS
        return connection


def _peer(connection: aiohttp.connector.Connection) -> Address | None:
    """Whom a connection leads to; None if to nobody any more."""
    where = None if connection.transport is None else connection.transport.get_extra_info("peername")
    return None if where is None else address_of(where[0])


def _is_quiet(connection: aiohttp.connector.Connection) -> bool:
    return connection.protocol is not None and not connection.protocol.should_close


def _let_few_pass(protocol: ResponseHandler) -> None:
    """Bound the 1xx answers before the one that counts: aiohttp passes over any number."""
    read, left = partial(ResponseHandler.read, protocol), MAX_INFORMATIONAL + 1

    async def read_one() -> tuple[aiohttp.http.RawResponseMessage, aiohttp.StreamReader]:
        nonlocal left
        if not left:
            raise AttemptFailed(f"malformed answer: more than {MAX_INFORMATIONAL} informational ones")
        left -= 1
        return await read()

    protocol.read = read_one  # type: ignore[method-assign]


def tell_of_bad_bodies(response: aiohttp.ClientResponse) -> None:
    """See to it that who reads a body hears that it is malformed: aiohttp tells it to nobody, and he waits for ever."""
    protocol = None if response.connection is None else response.connection.protocol
    if protocol is None:  # the body is there, whole
        return

    def set_exception(error: BaseException, *cause: BaseException) -> None:
        ResponseHandler.set_exception(protocol, error, *cause)
        if response.content.exception() is None and not response.content.is_eof():
            response.content.set_exception(aiohttp.ClientPayloadError())

    protocol.set_exception = set_exception  # type: ignore[assignment, method-assign]

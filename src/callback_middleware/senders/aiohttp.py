"""The fastest sender, for asyncio. Needs the extra ``aiohttp``."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address, address_of
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, Phase, TimedOut, outcome_of
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.progress import AttemptFailed, Progress, failed, reason
from callback_middleware.senders.resolver import ADDRESSES_TRIED, Lookup, Resolver, system_lookup
from callback_middleware.senders.tls import checked_context, default_context
from callback_middleware.senders.wire import MAX_ANSWER, MAX_HEADERS, WireRequest

try:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
    from yarl import URL
except ImportError as error:  # pragma: no cover - the test removes the module instead
    raise ImportError("AiohttpSender needs aiohttp: pip install 'callback_middleware[aiohttp]'") from error

__all__ = ["AiohttpSender"]

_LARGE: Final = 2**20
_ADDED_BY_AIOHTTP: Final = ("Accept", "Content-Type")


class AiohttpSender:
    """Sends with aiohttp, on asyncio only.

    It keeps every promise of :class:`~callback_middleware.senders.httpx.HttpxSender` but three, which aiohttp leaves
    no room for: 1xx answers are bounded by the deadline instead of by their number; ``TimedOut`` tells neither TLS
    from connecting nor sending from waiting for the answer; and a ``?`` with no query after it is not sent.

    Args:
        max_answer: Bytes of an answer's body that are kept.
        ssl_context: In place of the default one; it must verify.
        limits: How many connections are kept; of them, ``idle`` and ``idle_per_key`` are not aiohttp's to set.
        lookup: How names are resolved; blocking, called in threads.

    Raises:
        ConfigurationError: ``ssl_context`` does not verify.
    """

    def __init__(
        self,
        *,
        max_answer: int = MAX_ANSWER,
        ssl_context: ssl.SSLContext | None = None,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - frozen
        lookup: Lookup = system_lookup,
    ) -> None:
        self._max_answer = max_answer
        self._ssl_context = None if ssl_context is None else checked_context(ssl_context)
        self._limits = limits
        self._lookup = lookup
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSession] = WeakKeyDictionary()

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt: see :class:`~callback_middleware.ports.Sender`.

        Raises:
            ConfigurationError: The event loop is not asyncio's.
        """
        session = self._session()
        attempt = _Attempt()
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                try:
                    return outcome_of(await self._answer(session, request, egress, attempt))
                except (EgressRefused, AttemptFailed, OSError) as error:
                    return failed(error, attempt)
        except TimeoutError:  # the deadline's: every other has become an outcome
            return TimedOut(attempt.phase)

    async def aclose(self) -> None:
        """Close the connections of the running event loop. Needed before the loop ends: aiohttp warns otherwise."""
        session = self._sessions.pop(_running_loop(), None)
        if session is not None:
            await session.client.close()

    def _session(self) -> _LoopSession:
        loop = _running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = _LoopSession(_client(self._limits), Resolver(self._lookup))
        return session

    async def _answer(
        self, session: _LoopSession, request: AttemptRequest, egress: EgressPolicy, attempt: _Attempt
    ) -> Answer:
        url = HttpUrl.of(request.url)
        egress.check_authority(url.authority)
        addresses = await session.resolver.checked(url.authority, egress)
        context: ssl.SSLContext | bool = True
        if url.authority.scheme == "https":
            context = self._ssl_context or await default_context()
        attempt.addresses = addresses[:ADDRESSES_TRIED]
        _attempt.set(attempt)
        wire = WireRequest.of(request, url)
        try:
            async with session.client.request(
                wire.method,
                URL(f"{url.authority.scheme}://{url.authority.text}{wire.target.decode('ascii')}", encoded=True),
                headers=wire.headers,
                data=_payload(wire.body),
                ssl=context,
                allow_redirects=False,
                middlewares=() if wire.method == "POST" else (_once,),
            ) as response:
                attempt.phase = Phase.BODY
                return await _read(response, self._max_answer)
        except aiohttp.ClientError as error:
            raise _meaning(error, attempt) from None
        except ValueError:
            raise AttemptFailed("the request's method, target or headers cannot be written") from None


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError("AiohttpSender runs on asyncio only; use HttpxSender on trio") from None


@dataclass(frozen=True, slots=True)
class _LoopSession:
    """What one event loop has open."""

    client: aiohttp.ClientSession
    resolver: Resolver


@dataclass(slots=True)
class _Attempt(Progress):
    """What aiohttp's hooks must know of the attempt that they are called for.

    Attributes:
        addresses: The checked ones: nothing else may be connected to.
        opened: Whether a connection was opened for this attempt.
    """

    addresses: Sequence[Address] = ()
    opened: bool = False


# aiohttp calls its hooks in the task of the request, or in one that inherits its context.
_attempt: ContextVar[_Attempt] = ContextVar("callback-attempt")


def _client(limits: PoolLimits) -> aiohttp.ClientSession:
    connector = _CheckedConnector(
        resolver=_CheckedAddresses(),
        socket_factory=_checked_socket,
        use_dns_cache=False,
        limit=limits.connections,
        keepalive_timeout=limits.keepalive,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=_ADDED_BY_AIOHTTP,
    )


class _CheckedAddresses(AbstractResolver):
    """Resolves a host to what was resolved and checked for this attempt."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # aiohttp asks for any
        return [
            ResolveResult(hostname=host, host=str(address), port=port, family=_family(address), proto=0, flags=0)
            for address in _attempt.get().addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP versions


def _checked_socket(addr_info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address, if it is a checked one: aiohttp asks no resolver about addresses in URLs."""
    family, kind, protocol, _, where = addr_info
    attempt = _attempt.get()
    if address_of(where[0]) not in attempt.addresses:
        raise AttemptFailed("the address was not checked")
    attempt.opened = True
    return socket.socket(family, kind, protocol)


class _CheckedConnector(aiohttp.TCPConnector):
    """Uses a kept-alive connection again only while its address is among the attempt's, and nothing came unasked."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> aiohttp.connector.Connection:
        attempt = _attempt.get()
        attempt.phase = Phase.CONNECT
        while True:
            connection = await super().connect(req, traces, timeout)
            if attempt.opened or _still_good(connection, attempt.addresses):
                attempt.phase = Phase.HEADERS
                return connection
            connection.close()


def _still_good(connection: aiohttp.connector.Connection, addresses: Sequence[Address]) -> bool:
    transport, protocol = connection.transport, connection.protocol
    if transport is None or protocol is None or protocol.should_close:
        return False
    return address_of(transport.get_extra_info("peername")[0]) in addresses


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send once. When the connection breaks, aiohttp sends again what is idempotent; but an attempt is one try."""
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _meaning(error, _attempt.get()) from None


def _meaning(error: aiohttp.ClientError, progress: Progress) -> AttemptFailed:
    """What an error of aiohttp's means, without what it repeats of the URL or the answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLError() as cause):
            progress.phase, detail = Phase.TLS, reason(cause)
        case aiohttp.ClientSSLError(os_error=OSError() as cause):
            progress.phase, detail = Phase.TLS, reason(cause)
        case aiohttp.ClientConnectorError(os_error=OSError() as cause):
            detail = reason(cause)
        case aiohttp.ClientOSError(errno=int()):
            detail = reason(error)
        case aiohttp.ServerDisconnectedError():
            detail = "the connection was closed without an answer"
        case aiohttp.ClientOSError():
            detail = "the connection was closed"
        case _:
            detail = f"malformed answer: {type(error).__name__}"
    return AttemptFailed(detail)


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """A body as aiohttp wants it: a large one as a file, which it writes piece by piece."""
    if len(body) > _LARGE:
        return io.BytesIO(body)
    return body or None


async def _read(response: aiohttp.ClientResponse, max_answer: int) -> Answer:
    if len(response.raw_headers) > MAX_HEADERS:
        raise AttemptFailed(f"malformed answer: more than {MAX_HEADERS} headers")
    headers = _text(response.raw_headers)
    body = b""
    while chunk := await response.content.readany():
        body = body + chunk if body else chunk
        if len(body) > max_answer:
            response.close()
            return Answer(response.status, headers, body[:max_answer], truncated=True)
    return Answer(response.status, headers, body)


def _text(raw: Iterable[tuple[bytes, bytes]]) -> Sequence[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]

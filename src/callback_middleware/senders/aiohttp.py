"""The fastest sender, for asyncio. Needs the extra ``aiohttp``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from weakref import WeakKeyDictionary

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, Phase, TimedOut, outcome_of
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.occupancy import Occupancy
from callback_middleware.senders.progress import AttemptFailed, Progress, failed, reason
from callback_middleware.senders.resolver import ADDRESSES_TRIED, Lookup, Resolver, system_lookup
from callback_middleware.senders.tls import NO_CONTEXTS, Identities
from callback_middleware.senders.wire import MAX_ANSWER, MAX_HEADERS, WireRequest

try:
    import aiohttp
    from yarl import URL

    from callback_middleware.senders.aiohttp_checks import (
        CheckedAddresses,
        CheckedConnector,
        CurrentAttempt,
        checked_socket,
        current_attempt,
        tell_of_bad_bodies,
    )
except ImportError as error:  # pragma: no cover - the test removes the module instead
    raise ImportError("AiohttpSender needs aiohttp: pip install 'callback_middleware[aiohttp]'") from error

__all__ = ["AiohttpSender"]

_PIECE: Final = 64 * 1024
_ADDED_BY_AIOHTTP: Final = ("Accept", "Content-Type")


class AiohttpSender:
    """Sends with aiohttp, on asyncio only.

    It keeps every promise of :class:`~callback_middleware.senders.httpx.HttpxSender` but three, which aiohttp leaves
    no room for: ``TimedOut`` tells neither TLS from connecting nor sending from waiting for the answer; a ``?`` with no
    query after it is not sent; and what surrounds the chunks of an answer's body is bounded by the deadline alone.

    Args:
        max_answer: Bytes of an answer's body that are kept.
        ssl_context: In place of the default one; it must verify. A client certificate in it is shown to every
            receiver that asks.
        ssl_contexts: In place of both, for these hosts alone: a CA of their own, or a client certificate.
        limits: How many connections are kept, and how many attempts go to one address at once. Of them, ``idle`` and
            ``idle_per_key`` are not aiohttp's to set, and ``connections`` leaves out those that are idle.
        lookup: How names are resolved; blocking, called in threads.

    Raises:
        ConfigurationError: An ``SSLContext`` does not verify.
    """

    def __init__(
        self,
        *,
        max_answer: int = MAX_ANSWER,
        ssl_context: ssl.SSLContext | None = None,
        ssl_contexts: Mapping[str, ssl.SSLContext] = NO_CONTEXTS,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - frozen
        lookup: Lookup = system_lookup,
    ) -> None:
        self._max_answer = max_answer
        self._identities = Identities(ssl_context, ssl_contexts)
        self._limits = limits
        self._lookup = lookup
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSession] = WeakKeyDictionary()

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt: see :class:`~callback_middleware.ports.Sender`.

        Raises:
            ConfigurationError: The event loop is not asyncio's.
        """
        session = self._session()
        attempt = CurrentAttempt(occupancy=session.occupancy)
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                try:
                    return outcome_of(await self._answer(session, request, egress, attempt))
                except (EgressRefused, AttemptFailed, OSError) as error:
                    attempt.check_room()
                    return failed(error, attempt)
        except TimeoutError:  # the deadline's: every other has become an outcome
            attempt.check_room()
            return TimedOut(attempt.phase)
        finally:
            attempt.end()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. Needed before the loop ends: aiohttp warns otherwise."""
        session = self._sessions.pop(_running_loop(), None)
        if session is not None:
            await session.client.close()

    def _session(self) -> _LoopSession:
        loop = _running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = _LoopSession(
                _client(self._limits), Resolver(self._lookup), Occupancy(self._limits.per_address)
            )
        return session

    async def _answer(
        self, session: _LoopSession, request: AttemptRequest, egress: EgressPolicy, attempt: CurrentAttempt
    ) -> Answer:
        url = HttpUrl.of(request.url)
        egress.check_authority(url.authority)
        addresses = await session.resolver.checked(url.authority, egress)
        context: ssl.SSLContext | bool = True
        if url.authority.scheme == "https":
            context = await self._identities.towards(url.authority.host)
        attempt.addresses = addresses[:ADDRESSES_TRIED]
        current_attempt.set(attempt)
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
                headers = _headers(response)
                attempt.phase = Phase.BODY
                tell_of_bad_bodies(response)
                answer = await _read(response, headers, self._max_answer)
                if answer.truncated and attempt.transport is not None:
                    attempt.transport.abort()  # aiohttp may have read the rest, and kept the connection
                return answer
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
    occupancy: Occupancy


def _client(limits: PoolLimits) -> aiohttp.ClientSession:
    connector = CheckedConnector(
        resolver=CheckedAddresses(),
        socket_factory=checked_socket,
        use_dns_cache=False,
        limit=limits.connections,
        # Where none of the addresses answers, aiohttp takes so many off the list and tries the rest anew: four would be
        # ten sockets. So it takes all.
        interleave=ADDRESSES_TRIED,
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


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send once. When the connection breaks, aiohttp sends again what is idempotent; but an attempt is one try."""
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _meaning(error, current_attempt.get()) from None


def _meaning(error: aiohttp.ClientError, progress: Progress) -> AttemptFailed:
    """What an error of aiohttp's means, without what it repeats of the URL or the answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLError() as cause):
            progress.phase, detail = Phase.TLS, reason(cause)
        case aiohttp.ClientSSLError(os_error=OSError() as cause):
            progress.phase, detail = Phase.TLS, reason(cause)
        case aiohttp.ClientConnectorError(os_error=OSError() as cause):
            # What can be reset was connected: it was about to speak TLS.
            if isinstance(error.ssl, ssl.SSLContext) and isinstance(cause, ConnectionResetError):
                progress.phase = Phase.TLS
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


def _payload(body: bytes) -> bytes | _Pieces | None:
    """A body as aiohttp wants it: a large one in pieces, or it is copied, for every attempt."""
    return _Pieces(body) if len(body) > _PIECE else body or None


class _Pieces:
    """A body, a piece at a time. No generator: of one that is left half read, asyncio would have to be told."""

    def __init__(self, body: bytes) -> None:
        self._left = memoryview(body)

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        if not self._left:
            raise StopAsyncIteration
        piece, self._left = self._left[:_PIECE], self._left[_PIECE:]
        return piece


def _headers(response: aiohttp.ClientResponse) -> Sequence[tuple[str, str]]:
    raw = response.raw_headers
    if len(raw) > MAX_HEADERS:
        raise AttemptFailed(f"malformed answer: more than {MAX_HEADERS} headers")
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]


async def _read(response: aiohttp.ClientResponse, headers: Sequence[tuple[str, str]], max_answer: int) -> Answer:
    body = b""
    while chunk := await response.content.readany():
        body = body + chunk if body else chunk
        if len(body) > max_answer:
            return Answer(response.status, headers, body[:max_answer], truncated=True)
    return Answer(response.status, headers, body)

"""The default sender: asyncio and trio, and any httpx transport in place of the network."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from datetime import timedelta
from typing import Protocol

import anyio
import httpx

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, Phase, TimedOut, outcome_of
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.pool import Pool
from callback_middleware.senders.progress import AttemptFailed, Progress, failed
from callback_middleware.senders.resolver import Lookup, system_lookup
from callback_middleware.senders.tls import NO_CONTEXTS
from callback_middleware.senders.wire import MAX_ANSWER, WireRequest

__all__ = ["HttpxSender"]


class HttpxSender:
    """Sends over connections of its own, or through an httpx transport.

    Without ``transport`` every address is checked before a socket to it is opened. A given transport decides by
    itself what it connects to: only the URL's text is checked, so give it what stays inside the process
    (``httpx.MockTransport``, ``httpx.ASGITransport``), or guards itself.

    Args:
        transport: Used in place of the network. It is called directly: no redirects, cookies, proxies or decoding.
        max_answer: Bytes of an answer's body that are kept.
        ssl_context: In place of the default one; it must verify. A client certificate in it is shown to every
            receiver that asks.
        ssl_contexts: In place of both, for these hosts alone: a CA of their own, or a client certificate.
        limits: How many connections are kept, and how many attempts go to one address at once.
        lookup: How names are resolved; blocking, called in threads.

    Raises:
        ConfigurationError: An ``SSLContext`` does not verify, or a setting for the network comes with a transport.
    """

    def __init__(
        self,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        max_answer: int = MAX_ANSWER,
        ssl_context: ssl.SSLContext | None = None,
        ssl_contexts: Mapping[str, ssl.SSLContext] = NO_CONTEXTS,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - frozen
        lookup: Lookup = system_lookup,
    ) -> None:
        if transport is not None and (ssl_context is not None or ssl_contexts):
            raise ConfigurationError("HttpxSender: give ssl_context to the transport, not beside it")
        self._max_answer = max_answer
        self._carrier: _Carrier = (
            Pool(ssl_context=ssl_context, ssl_contexts=ssl_contexts, limits=limits, lookup=lookup)
            if transport is None
            else _Through(transport)
        )

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        """One attempt: see :class:`~callback_middleware.ports.Sender`."""
        progress = Progress()
        with anyio.move_on_after(deadline.total_seconds()):
            try:
                return outcome_of(await self._answer(request, egress, progress))
            except (EgressRefused, AttemptFailed, OSError) as error:
                return failed(error, progress)
        return TimedOut(progress.phase)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._carrier.aclose()

    async def _answer(self, request: AttemptRequest, egress: EgressPolicy, progress: Progress) -> Answer:
        url = HttpUrl.of(request.url)
        egress.check_authority(url.authority)
        return await self._carrier.exchange(
            WireRequest.of(request, url), egress=egress, progress=progress, max_answer=self._max_answer
        )


class _Carrier(Protocol):
    async def exchange(
        self, request: WireRequest, *, egress: EgressPolicy, progress: Progress, max_answer: int
    ) -> Answer: ...

    async def aclose(self) -> None: ...


class _Through:
    """Carries requests through somebody else's transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def exchange(
        self,
        request: WireRequest,
        *,
        egress: EgressPolicy,  # noqa: ARG002 - a transport opens no connection that could be checked
        progress: Progress,
        max_answer: int,
    ) -> Answer:
        progress.phase = Phase.HEADERS
        try:
            response = await self._transport.handle_async_request(_as_httpx(request))
            try:
                progress.phase = Phase.BODY
                return await _read(response, max_answer)
            finally:
                await response.aclose()
        except Exception as error:
            # The transport stands for the receiver: whatever it raises is a receiver that fails.
            raise AttemptFailed(f"the transport raised {type(error).__name__}") from error

    async def aclose(self) -> None:
        await self._transport.aclose()


def _as_httpx(request: WireRequest) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url,
        headers=list(request.headers),
        stream=_OnePiece(request.body),
        # httpx would resolve dot segments; its transports send this instead.
        extensions={"target": request.target},
    )


class _OnePiece(httpx.AsyncByteStream):
    """A request's body. No generator: trio complains of one that a transport leaves half read."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


async def _read(response: httpx.Response, max_answer: int) -> Answer:
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw]
    body = bytearray()
    assert isinstance(response.stream, AsyncIterable)  # noqa: S101 - what handle_async_request promises
    # The stream itself: `aiter_raw` refuses the ready-made responses of a MockTransport.
    chunks = aiter(response.stream)
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_answer:
                return Answer(response.status_code, headers, bytes(body[:max_answer]), truncated=True)
    finally:
        if isinstance(chunks, AsyncGenerator):  # left half read, trio would complain of it
            await chunks.aclose()
    return Answer(response.status_code, headers, bytes(body))

"""The one way TLS is spoken: verified, 1.2 or newer, HTTP/1.1."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Final

import httpx
from anyio import to_thread

from callback_middleware.egress.hosts import DEFAULT_PORTS, HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.values import excerpt

__all__ = ["Identities", "default_context"]

NO_CONTEXTS: Final[Mapping[str, ssl.SSLContext]] = {}


class Identities:
    """Which context TLS is spoken with, by host: whom we trust there, and who we say that we are.

    Args:
        everywhere: For hosts that are not listed; None for the default one.
        by_host: For these hosts alone, each written as in a URL. A client certificate belongs here: no other host can
            ask for it.

    Raises:
        ConfigurationError: A context would trust anybody or speak an old TLS, or a host is none.
    """

    def __init__(self, everywhere: ssl.SSLContext | None, by_host: Mapping[str, ssl.SSLContext]) -> None:
        self._everywhere = None if everywhere is None else _checked("ssl_context", everywhere)
        self._by_host = {_host(text): _checked(f"ssl_contexts[{text!r}]", context) for text, context in by_host.items()}

    async def towards(self, host: str) -> ssl.SSLContext:
        """The context for a host, as :class:`~callback_middleware.egress.hosts.Authority` spells it."""
        return self._by_host.get(host) or self._everywhere or await default_context()


async def default_context() -> ssl.SSLContext:
    """The process's shared context, made at first need and off the loop: reading the roots takes some 30 ms."""
    if _default.cache_info().currsize:
        return _default()
    return await to_thread.run_sync(_default)


@cache
def _default() -> ssl.SSLContext:
    # httpx's roots: certifi's, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
    context = httpx.create_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _checked(name: str, context: ssl.SSLContext) -> ssl.SSLContext:
    """A context of the user's own, if it verifies."""
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigurationError(f"{name} must verify certificates and host names; load your own CA into it instead")
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(f"{name}: minimum_version must be TLS 1.2 or newer")
    return context


def _host(text: str) -> str:
    """A host as URLs spell it, so that the two compare equal."""
    try:
        url = HttpUrl.of(f"https://{text}")
    except EgressRefused as error:
        raise ConfigurationError(f"ssl_contexts: {excerpt(text)} is no host: {error.rule}") from None
    if url.target != b"/" or url.authority.port != DEFAULT_PORTS["https"]:
        raise ConfigurationError(f"ssl_contexts: {excerpt(text)} is more than a host")
    return url.authority.host

"""The one way TLS is spoken: verified, 1.2 or newer, HTTP/1.1."""

from __future__ import annotations

import ssl
from functools import cache

import httpx
from anyio import to_thread

from callback_middleware.errors import ConfigurationError

__all__ = ["checked_context", "default_context"]


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


def checked_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """A context of the user's own. Raises ``ConfigurationError`` if it would trust anybody or speak an old TLS."""
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigurationError(
            "ssl_context must verify certificates and host names; load your own CA into it instead"
        )
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError("ssl_context.minimum_version must be TLS 1.2 or newer")
    return context

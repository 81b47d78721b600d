"""The one way TLS is spoken."""

from __future__ import annotations

import ssl

import anyio
import pytest

from callback_middleware.errors import ConfigurationError
from callback_middleware.senders import tls


async def test_one_context_for_everybody_verified_and_modern() -> None:
    made: list[ssl.SSLContext] = []

    async def ask() -> None:
        made.append(await tls.default_context())

    await ask()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)
    assert len(set(map(id, made))) == 1
    assert made[0].verify_mode is ssl.CERT_REQUIRED
    assert made[0].check_hostname
    assert made[0].minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_context_of_the_users_own_is_taken_as_it_is_and_a_hosts_own_before_it() -> None:
    everywhere, there = ssl.create_default_context(), ssl.create_default_context()
    identities = tls.Identities(everywhere, {"Receiver.Example": there, "[2606:4700::1]": there})
    assert await identities.towards("receiver.example") is there
    assert await identities.towards("2606:4700::1") is there
    assert await identities.towards("another.receiver.example") is everywhere
    assert await tls.Identities(None, {}).towards("receiver.example") is await tls.default_context()


def test_a_context_for_servers_verifies_nobody() -> None:
    with pytest.raises(ConfigurationError, match="ssl_context must verify"):
        tls.Identities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    with pytest.raises(ConfigurationError, match=r"ssl_contexts\['receiver.example'\] must verify"):
        tls.Identities(None, {"receiver.example": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)})


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("https://receiver.example", "is no host"),
        ("user@receiver.example", "is no host"),
        ("receiver.example:8443", "more than a host"),
        ("receiver.example/path", "more than a host"),
    ],
)
def test_a_host_that_is_none_is_refused(host: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        tls.Identities(None, {host: ssl.create_default_context()})

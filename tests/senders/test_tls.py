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


def test_a_context_of_the_users_own_is_taken_as_it_is() -> None:
    context = ssl.create_default_context()
    assert tls.checked_context(context) is context


def test_a_context_for_servers_verifies_nobody() -> None:
    with pytest.raises(ConfigurationError):
        tls.checked_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

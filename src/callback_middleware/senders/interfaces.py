"""This machine's own addresses, which a callback must not lead to even where they are public.

What listens on them may trust whoever comes from the machine itself, and a firewall in front of it sees nothing of it.
Read from the operating system once per process, and again when they may have changed: temporary IPv6 addresses rotate.

What cannot be seen from here: an address that a router, a load balancer or a cloud translates to this machine. It is on
none of its interfaces. ``EgressPolicy(denied_networks=…)`` is for these.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

import anyio.to_thread

from callback_middleware.egress import EgressPolicy

__all__ = ["OwnAddresses", "of_linux", "of_this_machine", "refusing_own_addresses"]

logger = logging.getLogger("callback_middleware")

REFRESH: Final = 300.0
"""Seconds after which the operating system is asked again."""


def of_linux(ipv4_routes: str, ipv6_addresses: str) -> frozenset[str]:
    """The addresses in Linux's ``/proc/net/fib_trie`` and ``/proc/net/if_inet6``, in one network namespace."""
    found: set[str] = set()
    leaf = ""
    for line in ipv4_routes.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "|--":
            leaf = rest
        # Single addresses alone: a transparent proxy declares whole networks local that are other people's.
        elif kind == "/32" and rest.endswith("host LOCAL"):
            found.add(str(IPv4Address(leaf)))
    for line in ipv6_addresses.splitlines():
        found.add(str(IPv6Address(bytes.fromhex(line.split()[0]))))
    return frozenset(found)


def of_this_machine() -> frozenset[str]:
    """What the operating system says. Blocking; called in threads. Raises ``OSError``.

    Outside Linux the standard library cannot list interfaces: there it is what the machine's own name resolves to.
    """
    routes, ipv6_addresses = _text("/proc/net/fib_trie"), _text("/proc/net/if_inet6")
    listed = of_linux(routes, ipv6_addresses)
    if routes:
        return listed
    found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    return listed | {str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except FileNotFoundError:  # another system, or a kernel without this family
        return ""


class OwnAddresses:
    """Completes policies with this machine's addresses.

    Args:
        read: Says which they are; blocking, called in threads; raises ``OSError``.
        clock: Seconds, of which only differences count.
    """

    def __init__(
        self,
        read: Callable[[], Collection[str]] = of_this_machine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._known: frozenset[str] = frozenset()
        self._stale_at: float | None = None
        self._told = False

    async def refused_by(self, policy: EgressPolicy) -> EgressPolicy:
        """``policy``, refusing this machine's addresses too; as it is where it says itself which they are."""
        if policy.own_addresses is not None:
            return policy
        if self._stale_at is None or self._clock() >= self._stale_at:
            await self._refresh()
        return _with_own_addresses(policy, self._known)

    async def _refresh(self) -> None:
        try:
            self._known = frozenset(await anyio.to_thread.run_sync(self._read))
        except (OSError, ValueError) as error:
            if not self._told:
                self._told = True
                logger.warning(
                    "this machine's own addresses cannot be read (%s): callbacks to those that are public are not "
                    "refused; name them in EgressPolicy(own_addresses=…)",
                    type(error).__name__,
                )
        self._stale_at = self._clock() + REFRESH


# A policy is remembered by what it decided: the same one for as long as nothing changes.
@lru_cache(maxsize=64)
def _with_own_addresses(policy: EgressPolicy, own_addresses: frozenset[str]) -> EgressPolicy:
    return replace(policy, own_addresses=own_addresses)


refusing_own_addresses: Final = OwnAddresses().refused_by
"""What the dispatcher asks, for the whole process."""

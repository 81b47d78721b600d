"""Names to checked addresses, in threads of their own.

``getaddrinfo`` cannot be cancelled, and a name server that a stranger runs may let it hang for half a minute.
So nobody waits for a thread, only for its result; one name is looked up by one thread at a time, however many ask;
and the number of threads is bounded, abandoned ones included. Half of them are for names that resolved the last time:
whoever makes up any number of names that hang takes no more than the other half.
"""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeAlias

import anyio
from anyio import from_thread, lowlevel

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.egress.hosts import Authority
from callback_middleware.senders.progress import AttemptFailed, reason

__all__ = ["ADDRESSES_TRIED", "Lookup", "Resolver", "system_lookup"]

Lookup: TypeAlias = Callable[[str], Sequence[Address]]
"""Resolves a name, with a final dot if it is absolute. Blocking; raises ``OSError``; called in threads."""

ADDRESSES_TRIED: Final = 4
"""Of one name, in one attempt. A stranger's name with a thousand addresses makes nobody a port scanner."""
THREADS: Final = 32
FOR_STRANGERS: Final = 16
"""Of the threads, for names that did not resolve the last time, or were never asked for."""
REMEMBERED: Final = 4096
"""Names that resolved: the last ones."""
TIMEOUT: Final = 5.0
_LOCALHOST: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


def system_lookup(name: str) -> Sequence[Address]:
    """What the operating system resolves ``name`` to, in its order of preference."""
    # As bytes: of text, the interpreter makes something else first (its own, older IDNA).
    found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(_address(sockaddr) for *_, sockaddr in found))


def _address(sockaddr: tuple[Any, ...]) -> Address:
    text = str(sockaddr[0])
    scope = sockaddr[3] if len(sockaddr) > 3 else 0  # noqa: PLR2004 - (host, port, flow, scope) for IPv6
    # A scope is kept, so that the policy sees it and refuses.
    return ip_address(text if not scope or "%" in text else f"{text}%{scope}")


class Resolver:
    """Resolves names for one event loop."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._threads = anyio.Semaphore(THREADS, fast_acquire=True)
        self._for_strangers = anyio.Semaphore(FOR_STRANGERS, fast_acquire=True)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._under_way: dict[str, _Result] = {}

    async def checked(self, authority: Authority, egress: EgressPolicy) -> Sequence[Address]:
        """Every address of a URL's host, each one allowed, in the order in which to try them.

        A name is resolved afresh for every attempt; attempts that ask while a lookup is under way share its answer,
        which no cache holds any longer than that.

        Raises:
            EgressRefused: One of the addresses is not allowed: then none is tried.
            AttemptFailed: The name does not resolve, or not in time.
        """
        host = authority.host
        if authority.address is not None:
            egress.check_address(authority.address)
            return (authority.address,)
        if host == "localhost" or host.endswith(".localhost"):
            addresses: Sequence[Address] = _LOCALHOST  # RFC 6761, 6.3: never ask anybody
        else:
            # Absolute, so that no search domain applies to what a stranger typed. A name that the operator allowed
            # by hand is looked up as the operator's machine does it: a hosts file knows no absolute names.
            addresses = await self._resolve(host if egress.allows_host(host) else f"{host}.")
        for address in addresses:
            egress.check_address(address, host=host)
        return in_turn(addresses)

    async def _resolve(self, name: str) -> Sequence[Address]:
        with anyio.move_on_after(TIMEOUT):
            result = self._under_way.get(name) or await self._begun(name)
            await result.there.wait()
            return result.addresses()
        raise AttemptFailed(f"name not resolved within {TIMEOUT:g} s")

    async def _begun(self, name: str) -> _Result:
        """A lookup, begun by this task, or by another one while this one waited for a thread."""
        needed = (self._threads,) if name in self._known else (self._for_strangers, self._threads)
        with ExitStack() as places:
            for place in needed:
                await place.acquire()
                places.callback(place.release)
            return self._under_way.get(name) or self._begin(name, places.pop_all())

    def _begin(self, name: str, places: ExitStack) -> _Result:
        result = self._under_way[name] = _Result()
        token = lowlevel.current_token()

        def look_up() -> None:
            try:
                result.found = self._lookup(name)
            except OSError as error:
                result.failure = reason(error)
            except Exception as error:  # noqa: BLE001 - a lookup is somebody else's code; whoever waits must be told
                result.failure = f"name not resolved: {type(error).__name__}"
            with suppress(RuntimeError):  # the loop has ended: nobody waits
                from_thread.run_sync(finish, token=token)

        def finish() -> None:
            del self._under_way[name]
            places.close()
            self._remember(name, resolved=bool(result.found))
            result.there.set()

        # A daemon: a name server that hangs does not keep a process from ending.
        try:
            threading.Thread(target=look_up, name="callback-resolver", daemon=True).start()
        except RuntimeError:
            result.failure = "name not resolved: the process can start no more threads"
            finish()
        return result

    def _remember(self, name: str, *, resolved: bool) -> None:
        self._known.pop(name, None)
        if resolved:
            self._known[name] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


class _Result:
    """What a lookup will come to."""

    def __init__(self) -> None:
        self.there = anyio.Event()
        self.found: Sequence[Address] = ()
        self.failure: str | None = None

    def addresses(self) -> Sequence[Address]:
        if self.failure is not None:
            raise AttemptFailed(self.failure)
        if not self.found:
            raise AttemptFailed("name not resolved: no address")
        return self.found


def in_turn(addresses: Sequence[Address]) -> Sequence[Address]:
    """Alternate between the families, beginning with the first's (RFC 8305, 4).

    Where one family has no route, the other's turn comes after one attempt, not after all of them.
    """
    first = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    paired = [address for pair in zip(first, other, strict=False) for address in pair]
    shorter = len(paired) // 2
    return (*paired, *first[shorter:], *other[shorter:])

"""Which addresses are global unicast, decided by the registries and not by a parser's flags.

An IPv6 address may carry IPv4 addresses, which a translator or a tunnel on the way unpacks. Then it is only as global
as they are: :func:`special_purpose` tells of the address itself, :func:`carried_by` what else to ask about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from callback_middleware.egress.registries import BLOCKS, Block

__all__ = ["Address", "Network", "address_of", "carried_by", "literal", "special_purpose"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_IPV4, _IPV6 = 4, 6
_LOOPBACK: Final = 1
_LOW_32_BITS: Final = 0xFFFF_FFFF
_LOW_64_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")
_LOCAL_USE: Final = IPv6Network("64:ff9b:1::/48")
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The upper half of an interface identifier (RFC 5214, 6.1): any prefix may stand before it."""


class _Ranges:
    """One family's blocks as ranges that do not overlap: of several, the longest prefix has its say."""

    def __init__(self, blocks: Iterable[tuple[Network, Block]]) -> None:
        spans = [(int(network[0]), int(network[-1]), network.prefixlen, block) for network, block in blocks]
        self._starts = sorted({0, *(first for first, *_ in spans), *(last + 1 for _, last, *_ in spans)})
        self._purposes: list[str | None] = []
        for start in self._starts:
            covering = [(length, block) for first, last, length, block in spans if first <= start <= last]
            _, block = max(covering, key=lambda one: one[0], default=(0, None))
            self._purposes.append(block.purpose if block is not None and block.refused else None)

    def purpose(self, bits: int) -> str | None:
        return self._purposes[bisect_right(self._starts, bits) - 1]


def _ranges(version: int) -> _Ranges:
    blocks = [(ip_network(block.network), block) for block in BLOCKS]
    return _Ranges((network, block) for network, block in blocks if network.version == version)


_RANGES: Final = {version: _ranges(version) for version in (_IPV4, _IPV6)}


def special_purpose(address: Address) -> str | None:
    """Why an address is not global unicast, in a phrase, or None when it is.

    Of an address that carries others (:func:`carried_by`), those must be asked about too.
    """
    return _RANGES[address.version].purpose(int(address))


_CARRIERS: Final[Sequence[tuple[IPv6Network, Callable[[int], Sequence[int]]]]] = [
    (IPv6Network("::/96"), lambda bits: [bits]),
    (IPv6Network("::ffff:0:0/96"), lambda bits: [bits]),
    (IPv6Network("::ffff:0:0:0/96"), lambda bits: [bits]),
    (IPv6Network("64:ff9b::/96"), lambda bits: [bits]),
    (IPv6Network("2002::/16"), lambda bits: [bits >> 80]),
    # RFC 4380, 4: the server, and the client with every bit inverted. Packets go to both.
    (IPv6Network("2001::/32"), lambda bits: [bits >> 64, ~bits]),
]


def carried_by(address: Address) -> Sequence[IPv4Address]:
    """Every IPv4 address that an IPv6 address may stand for where it is unpacked.

    Covers mapped, compatible and translated addresses, NAT64 (RFC 6052, both prefixes), 6to4, Teredo and ISATAP.
    Several where forms lie within one another (an ISATAP interface behind a 6to4 prefix), where a form has several
    (a Teredo server and its client), or where a prefix may be read at several lengths.
    """
    if address.version == _IPV4:
        return ()
    bits = int(address)
    if bits <= _LOOPBACK:  # "::" and "::1" only look IPv4-compatible
        return ()
    found: list[IPv4Address] = []
    for prefix, unpack in _CARRIERS:
        if address in prefix:
            found += [IPv4Address(one & _LOW_32_BITS) for one in unpack(bits)]
    if address in _LOCAL_USE:
        found += _translated_locally(bits)
    if bits >> 32 & _LOW_32_BITS in _ISATAP:
        found.append(IPv4Address(bits & _LOW_32_BITS))
    return tuple(dict.fromkeys(found))


def _translated_locally(bits: int) -> Sequence[IPv4Address]:
    """What a translator that uses ``64:ff9b:1::/48`` may read, whichever prefix in it is its own (RFC 6052, 2.2).

    The address does not tell the prefix's length, so every reading counts. The octet "u" is no part of the address. A
    reading within 0.0.0.0/8 is what the zeros of a longer or shorter one look like, and leads nowhere: it counts where
    there is no other.
    """
    without_u = (bits >> 64) << 56 | bits & (_LOW_64_BITS >> 8)
    readings = [IPv4Address(without_u >> shift & _LOW_32_BITS) for shift in (40, 32, 24)]
    readings.append(IPv4Address(bits & _LOW_32_BITS))
    return [one for one in readings if one not in _THIS_NETWORK] or readings[:1]


@lru_cache(maxsize=4096)
def address_of(text: str) -> Address:
    """``ipaddress.ip_address``, remembered. Raises ``ValueError``."""
    return ip_address(text)


def literal(host: str) -> Address | None:
    """The address that a URL's host spells, brackets included for IPv6, or None for a name.

    Only the canonical dotted form of IPv4 counts: what ``getaddrinfo`` alone would take for an address is a name here,
    and :mod:`callback_middleware.egress.hosts` refuses it.
    """
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = address_of(host[1:-1] if bracketed else host)
    except ValueError:
        return None
    return address if bracketed == isinstance(address, IPv6Address) else None

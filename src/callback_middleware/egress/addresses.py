"""Which addresses are global unicast, decided by the registries and not by a parser's flags.

The tables follow the IANA special-purpose registries (RFC 6890 and its successors); the longest prefix decides.
Where a registry says "globally reachable" of an anycast address that leads to a machine of one's *own* network
(the port control and relay servers of RFC 7723 and RFC 8155), this library says no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

__all__ = ["Address", "Network", "address_of", "carried_by", "literal", "special_purpose"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

GLOBAL: Final = None
"""What a table says of a range that is not special after all."""

SPECIAL_PURPOSE: Final[Mapping[str, str | None]] = {
    # IANA IPv4 Special-Purpose Address Registry
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private use",
    "100.64.0.0/10": "shared address space",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link local",
    "172.16.0.0/12": "private use",
    "192.0.0.0/24": "IETF protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "automatic multicast tunneling",
    "192.88.99.0/24": "6to4 relay anycast",
    "192.168.0.0/16": "private use",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "255.255.255.255/32": "broadcast",
    # Metadata and host agents of clouds that sit on addresses which look public.
    "168.63.129.16/32": "cloud metadata",
    # IANA IPv6 Special-Purpose Address Registry. Only 2000::/3 is assigned as global unicast (RFC 4291, 2.4).
    "::/0": "outside global unicast",
    "::/96": "IPv4-compatible",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "IPv4-mapped",
    "::ffff:0:0:0/96": "IPv4-translated",
    # Global as far as the IPv4 address that it carries is: networks without IPv4 reach everything through it.
    "64:ff9b::/96": GLOBAL,
    "64:ff9b:1::/48": "local-use IPv4/IPv6 translation",
    "100::/64": "discard only",
    "2000::/3": GLOBAL,
    "2001::/23": "IETF protocol assignments",
    "2001::/32": "Teredo",
    "2001:2::/48": "benchmarking",
    "2001:db8::/32": "documentation",
    "2001:10::/28": "ORCHID",
    "2001:20::/28": "ORCHIDv2",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local",
    "fe80::/10": "link local",
    "fec0::/10": "site local",
    "ff00::/8": "multicast",
}

_CARRIERS: Final[Sequence[tuple[IPv6Network, Callable[[int], int]]]] = [
    (IPv6Network("::/96"), lambda bits: bits),
    (IPv6Network("::ffff:0:0/96"), lambda bits: bits),
    (IPv6Network("::ffff:0:0:0/96"), lambda bits: bits),
    (IPv6Network("64:ff9b::/96"), lambda bits: bits),
    # RFC 6052, 2.2: in a /48, 16 bits stand before the octet "u" and 16 after it.
    (IPv6Network("64:ff9b:1::/48"), lambda bits: (bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF),
    (IPv6Network("2002::/16"), lambda bits: bits >> 80),
    # RFC 4380, 4: the client, with every bit inverted.
    (IPv6Network("2001::/32"), lambda bits: ~bits),
]
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The upper half of an interface identifier (RFC 5214, 6.1): any prefix may stand before it."""
_LOOPBACK: Final = 1
_LOW_32_BITS: Final = 0xFFFF_FFFF


def _longest_first(table: Mapping[str, str | None]) -> Sequence[tuple[Network, str | None]]:
    parsed = [(ip_network(prefix), purpose) for prefix, purpose in table.items()]
    return sorted(parsed, key=lambda entry: entry[0].prefixlen, reverse=True)


_TABLE: Final = _longest_first(SPECIAL_PURPOSE)


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


def carried_by(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for where it is unpacked, or None.

    Covers mapped, compatible and translated addresses, NAT64 (RFC 6052, both prefixes), 6to4, Teredo and ISATAP.
    """
    bits = int(address)
    if address.version == 4 or bits <= _LOOPBACK:  # noqa: PLR2004 - "::" and "::1" only look IPv4-compatible
        return None
    for prefix, unpack in _CARRIERS:
        if address in prefix:
            return IPv4Address(unpack(bits) & _LOW_32_BITS)
    if bits >> 32 & _LOW_32_BITS in _ISATAP:
        return IPv4Address(bits & _LOW_32_BITS)
    return None


def special_purpose(address: Address) -> str | None:
    """Why an address is not global unicast, in a phrase, or None when it is.

    Of an address that carries another (:func:`carried_by`), the other must be asked about too.
    """
    for network, purpose in _TABLE:
        if address.version == network.version and address in network:
            return purpose
    return GLOBAL  # IPv4: what no registry entry covers

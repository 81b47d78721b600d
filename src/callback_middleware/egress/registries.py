"""What IANA's registries say of addresses, row by row, and the few things that they do not say.

Sources, as published on 2026-09-28 and last updated on 2025-10-09:

- https://www.iana.org/assignments/iana-ipv4-special-registry (RFC 6890, RFC 8190)
- https://www.iana.org/assignments/iana-ipv6-special-registry (likewise)
- https://www.iana.org/assignments/ipv6-unicast-address-assignments, for what of ``2000::/3`` is anybody's at all
- https://www.iana.org/assignments/ipv4-address-space and https://www.iana.org/assignments/ipv6-address-space, for
  multicast and for what lies outside ``2000::/3``

Where this library decides otherwise than the column "Globally Reachable":

- Rows that are ``True`` there are refused here, all but one. They are anycast services of the network that one is in
  (port control, relays, AS112) or identifiers that nobody listens on (ORCHID, drones): no receiver of callbacks has
  such an address, and the nearest instance of an anycast service may well be inside.
- The exception is ``64:ff9b::/96``. Machines without IPv4 reach everything that has no IPv6 through it, so it is as
  global as the IPv4 address that it carries.
- What IANA has not allocated of ``2000::/3`` is refused: nobody on the Internet has it, so whoever answers there is
  somebody inside. IANA allocates another block once in some years. Until a release adds it receivers in it are refused,
  by a rule that says so: that is the price, and it is paid on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["ALLOCATED", "BLOCKS", "IPV4_SPECIAL_PURPOSE", "IPV6_SPECIAL_PURPOSE", "OTHER", "Block"]


class Block(NamedTuple):
    """A row.

    Attributes:
        network: As the registry writes it.
        purpose: In a phrase that a refusal can end with.
        source: The document behind the row.
        globally_reachable: The registry's column; None where it is blank or not applicable.
        refused: What this library makes of it.
    """

    network: str
    purpose: str
    source: str
    globally_reachable: bool | None
    refused: bool = True


IPV4_SPECIAL_PURPOSE: Final[Sequence[Block]] = (
    Block("0.0.0.0/8", "this network", "RFC 791, 3.2", globally_reachable=False),
    Block("0.0.0.0/32", "this host", "RFC 1122, 3.2.1.3", globally_reachable=False),
    Block("10.0.0.0/8", "private use", "RFC 1918", globally_reachable=False),
    Block("100.64.0.0/10", "shared address space", "RFC 6598", globally_reachable=False),
    Block("127.0.0.0/8", "loopback", "RFC 1122, 3.2.1.3", globally_reachable=False),
    Block("169.254.0.0/16", "link local", "RFC 3927", globally_reachable=False),
    Block("172.16.0.0/12", "private use", "RFC 1918", globally_reachable=False),
    Block("192.0.0.0/24", "IETF protocol assignments", "RFC 6890, 2.1", globally_reachable=False),
    Block("192.0.0.0/29", "IPv4 service continuity", "RFC 7335", globally_reachable=False),
    Block("192.0.0.8/32", "IPv4 dummy address", "RFC 7600", globally_reachable=False),
    Block("192.0.0.9/32", "port control anycast", "RFC 7723", globally_reachable=True),
    Block("192.0.0.10/32", "relay anycast", "RFC 8155", globally_reachable=True),
    Block("192.0.0.170/32", "NAT64 discovery", "RFC 8880, RFC 7050, 2.2", globally_reachable=False),
    Block("192.0.0.171/32", "NAT64 discovery", "RFC 8880, RFC 7050, 2.2", globally_reachable=False),
    Block("192.0.2.0/24", "documentation", "RFC 5737", globally_reachable=False),
    Block("192.31.196.0/24", "AS112", "RFC 7535", globally_reachable=True),
    Block("192.52.193.0/24", "automatic multicast tunneling", "RFC 7450", globally_reachable=True),
    Block("192.88.99.0/24", "6to4 relay anycast", "RFC 7526", globally_reachable=None),
    Block("192.88.99.2/32", "6a44 relay anycast", "RFC 6751", globally_reachable=False),
    Block("192.168.0.0/16", "private use", "RFC 1918", globally_reachable=False),
    Block("192.175.48.0/24", "AS112", "RFC 7534", globally_reachable=True),
    Block("198.18.0.0/15", "benchmarking", "RFC 2544", globally_reachable=False),
    Block("198.51.100.0/24", "documentation", "RFC 5737", globally_reachable=False),
    Block("203.0.113.0/24", "documentation", "RFC 5737", globally_reachable=False),
    Block("240.0.0.0/4", "reserved", "RFC 1112, 4", globally_reachable=False),
    Block("255.255.255.255/32", "broadcast", "RFC 8190, RFC 919, 7", globally_reachable=False),
)

IPV6_SPECIAL_PURPOSE: Final[Sequence[Block]] = (
    Block("::1/128", "loopback", "RFC 4291", globally_reachable=False),
    Block("::/128", "unspecified", "RFC 4291", globally_reachable=False),
    Block("::ffff:0:0/96", "IPv4-mapped", "RFC 4291", globally_reachable=False),
    Block("64:ff9b::/96", "IPv4/IPv6 translation", "RFC 6052", globally_reachable=True, refused=False),
    Block("64:ff9b:1::/48", "local-use IPv4/IPv6 translation", "RFC 8215", globally_reachable=False),
    Block("100::/64", "discard only", "RFC 6666", globally_reachable=False),
    Block("100:0:0:1::/64", "dummy prefix", "RFC 9780", globally_reachable=False),
    Block("2001::/23", "IETF protocol assignments", "RFC 2928", globally_reachable=False),
    Block("2001::/32", "Teredo", "RFC 4380, RFC 8190", globally_reachable=None),
    Block("2001:1::1/128", "port control anycast", "RFC 7723", globally_reachable=True),
    Block("2001:1::2/128", "relay anycast", "RFC 8155", globally_reachable=True),
    Block("2001:1::3/128", "service registration anycast", "RFC 9665", globally_reachable=True),
    Block("2001:2::/48", "benchmarking", "RFC 5180", globally_reachable=False),
    Block("2001:3::/32", "automatic multicast tunneling", "RFC 7450", globally_reachable=True),
    Block("2001:4:112::/48", "AS112", "RFC 7535", globally_reachable=True),
    Block("2001:10::/28", "ORCHID", "RFC 4843", globally_reachable=None),
    Block("2001:20::/28", "ORCHIDv2", "RFC 7343", globally_reachable=True),
    Block("2001:30::/28", "drone remote identification", "RFC 9374", globally_reachable=True),
    Block("2001:db8::/32", "documentation", "RFC 3849", globally_reachable=False),
    Block("2002::/16", "6to4", "RFC 3056", globally_reachable=None),
    Block("2620:4f:8000::/48", "AS112", "RFC 7534", globally_reachable=True),
    Block("3fff::/20", "documentation", "RFC 9637", globally_reachable=False),
    Block("5f00::/16", "segment routing", "RFC 9602", globally_reachable=False),
    Block("fc00::/7", "unique local", "RFC 4193, RFC 8190", globally_reachable=False),
    Block("fe80::/10", "link local", "RFC 4291", globally_reachable=False),
)

OTHER: Final[Sequence[Block]] = (
    # The address space registries.
    Block("224.0.0.0/4", "multicast", "RFC 5771", globally_reachable=None),
    Block("::/0", "outside global unicast", "RFC 4291, 2.4", globally_reachable=None),
    Block("2000::/3", "not allocated by IANA", "RFC 4291, 2.4", globally_reachable=None),
    Block("fec0::/10", "site local", "RFC 3879", globally_reachable=None),
    Block("ff00::/8", "multicast", "RFC 4291, 2.7", globally_reachable=None),
    # Forms that carry an IPv4 address and are in no registry.
    Block("::/96", "IPv4-compatible", "RFC 4291, 2.5.5.1", globally_reachable=None),
    Block("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765, 2.1", globally_reachable=None),
    # Looks public, and is the host agent of every virtual machine in a large cloud. Other clouds' metadata services
    # are link local, shared, reserved or unique local: their rows refuse them.
    Block("168.63.129.16/32", "cloud metadata", "Microsoft Azure: what is IP address 168.63.129.16", None),
)

ALLOCATED: Final[Sequence[str]] = (
    *("2001:200::/23", "2001:400::/23", "2001:600::/23", "2001:800::/22", "2001:c00::/23", "2001:e00::/23"),
    *("2001:1200::/23", "2001:1400::/22", "2001:1800::/23", "2001:1a00::/23", "2001:1c00::/22", "2001:2000::/19"),
    *("2001:4000::/23", "2001:4200::/23", "2001:4400::/23", "2001:4600::/23", "2001:4800::/23", "2001:4a00::/23"),
    *("2001:4c00::/23", "2001:5000::/20", "2001:8000::/19", "2001:a000::/20", "2001:b000::/20", "2003::/18"),
    *("2400::/12", "2410::/12", "2600::/12", "2610::/23", "2620::/23", "2630::/12", "2800::/12", "2a00::/12"),
    *("2a10::/12", "2c00::/12"),
)
"""What IANA has given to the regional registries of ``2000::/3``. ``2001::/23`` and ``2002::/16`` are special."""

BLOCKS: Final[Sequence[Block]] = (
    *IPV4_SPECIAL_PURPOSE,
    *IPV6_SPECIAL_PURPOSE,
    *OTHER,
    *(Block(network, "global unicast", "RFC 7249", globally_reachable=None, refused=False) for network in ALLOCATED),
)
"""Every row. The longest prefix decides; of an IPv4 address that none covers, nothing is special."""

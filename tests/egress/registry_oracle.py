"""What is global, worked out a second time: the registries as IANA writes them, and nothing of the library's.

Slow and simple on purpose: every question goes through every row, and addresses are compared as bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

# https://www.iana.org/assignments/iana-ipv4-special-registry, 2025-10-09: address block, name, globally reachable.
IPV4_SPECIAL = """
0.0.0.0/8,"This network",False
0.0.0.0/32,"This host on this network",False
10.0.0.0/8,Private-Use,False
100.64.0.0/10,Shared Address Space,False
127.0.0.0/8,Loopback,False
169.254.0.0/16,Link Local,False
172.16.0.0/12,Private-Use,False
192.0.0.0/24,IETF Protocol Assignments,False
192.0.0.0/29,IPv4 Service Continuity Prefix,False
192.0.0.8/32,IPv4 dummy address,False
192.0.0.9/32,Port Control Protocol Anycast,True
192.0.0.10/32,Traversal Using Relays around NAT Anycast,True
"192.0.0.170/32, 192.0.0.171/32",NAT64/DNS64 Discovery,False
192.0.2.0/24,Documentation (TEST-NET-1),False
192.31.196.0/24,AS112-v4,True
192.52.193.0/24,AMT,True
192.88.99.0/24,Deprecated (6to4 Relay Anycast),
192.88.99.2/32,6a44-relay anycast address,False
192.168.0.0/16,Private-Use,False
192.175.48.0/24,Direct Delegation AS112 Service,True
198.18.0.0/15,Benchmarking,False
198.51.100.0/24,Documentation (TEST-NET-2),False
203.0.113.0/24,Documentation (TEST-NET-3),False
240.0.0.0/4,Reserved,False
255.255.255.255/32,Limited Broadcast,False
"""

# https://www.iana.org/assignments/iana-ipv6-special-registry, 2025-10-09.
IPV6_SPECIAL = """
::1/128,Loopback Address,False
::/128,Unspecified Address,False
::ffff:0:0/96,IPv4-mapped Address,False
64:ff9b::/96,IPv4-IPv6 Translat.,True
64:ff9b:1::/48,IPv4-IPv6 Translat.,False
100::/64,Discard-Only Address Block,False
100:0:0:1::/64,Dummy IPv6 Prefix,False
2001::/23,IETF Protocol Assignments,False
2001::/32,TEREDO,N/A
2001:1::1/128,Port Control Protocol Anycast,True
2001:1::2/128,Traversal Using Relays around NAT Anycast,True
2001:1::3/128,DNS-SD Service Registration Protocol Anycast,True
2001:2::/48,Benchmarking,False
2001:3::/32,AMT,True
2001:4:112::/48,AS112-v6,True
2001:10::/28,Deprecated (previously ORCHID),
2001:20::/28,ORCHIDv2,True
2001:30::/28,Drone Remote ID Protocol Entity Tags (DETs) Prefix,True
2001:db8::/32,Documentation,False
2002::/16,6to4,N/A
2620:4f:8000::/48,Direct Delegation AS112 Service,True
3fff::/20,Documentation,False
5f00::/16,Segment Routing (SRv6) SIDs,False
fc00::/7,Unique-Local,False
fe80::/10,Link-Local Unicast,False
"""

# https://www.iana.org/assignments/ipv6-unicast-address-assignments, 2025-10-09: the rows whose status is ALLOCATED and
# whose designation is a regional registry.
IPV6_ALLOCATED = (
    "2001:200::/23 2001:400::/23 2001:600::/23 2001:800::/22 2001:c00::/23 2001:e00::/23 2001:1200::/23 "
    "2001:1400::/22 2001:1800::/23 2001:1a00::/23 2001:1c00::/22 2001:2000::/19 2001:4000::/23 2001:4200::/23 "
    "2001:4400::/23 2001:4600::/23 2001:4800::/23 2001:4a00::/23 2001:4c00::/23 2001:5000::/20 2001:8000::/19 "
    "2001:a000::/20 2001:b000::/20 2003::/18 2400::/12 2410::/12 2600::/12 2610::/23 2620::/23 2630::/12 "
    "2800::/12 2a00::/12 2a10::/12 2c00::/12 "
)


@dataclass(frozen=True)
class Range:
    """A row's first and last address, as numbers, and what its column says."""

    text: str
    version: int
    first: int
    last: int
    length: int
    reachable: str

    @classmethod
    def of(cls, text: str, reachable: str) -> Range:
        address, _, length = text.strip().partition("/")
        begin = ip_address(address)
        size = 1 << (begin.max_prefixlen - int(length))
        assert int(begin) % size == 0, text
        return cls(text.strip(), begin.version, int(begin), int(begin) + size - 1, int(length), reachable)

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and self.first <= int(address) <= self.last


def _rows(text: str) -> Iterator[Range]:
    for blocks, _, reachable in csv.reader(text.strip().splitlines()):
        for block in blocks.split(","):
            yield Range.of(block, reachable)


SPECIAL: Sequence[Range] = [*_rows(IPV4_SPECIAL), *_rows(IPV6_SPECIAL)]
ALLOCATED: Sequence[Range] = [Range.of(block, "True") for block in IPV6_ALLOCATED.split()]
MULTICAST = Range.of("224.0.0.0/4", "False")
HOST_AGENT = ip_address("168.63.129.16")
WELL_KNOWN_TRANSLATION = "64:ff9b::/96"


def row_of(address: Address) -> Range | None:
    """The row of the special-purpose registries that decides."""
    return max((row for row in SPECIAL if address in row), key=lambda row: row.length, default=None)


def is_global_itself(address: Address) -> bool:
    """Whether callbacks may go to an address, whatever it carries."""
    row = row_of(address)
    if row is not None:
        # Everything else that is reachable by the registry is an anycast service or an identifier.
        return row.text == WELL_KNOWN_TRANSLATION
    if address.version == 4:
        return address not in MULTICAST and address != HOST_AGENT
    return any(address in block for block in ALLOCATED)


def carried(address: Address) -> set[IPv4Address]:
    """Every IPv4 address that is in there somewhere, octet by octet."""
    if address.version == 4:
        return set()
    octets = address.packed
    found: set[bytes] = set()
    if octets[:12] in (bytes(12), bytes(10) + b"\xff\xff", bytes(8) + b"\xff\xff\x00\x00"):
        found.add(octets[12:])
    if octets[:12] == b"\x00\x64\xff\x9b" + bytes(8):
        found.add(octets[12:])
    if octets[:6] == b"\x00\x64\xff\x9b\x00\x01":
        found |= {octets[6:8] + octets[9:11], octets[7:8] + octets[9:12], octets[9:13], octets[12:16]}
        # Zeros of a reading of another length: nobody is at 0.x.x.x.
        found = {one for one in found if one[0] != 0}
    if octets[:2] == b"\x20\x02":
        found.add(octets[2:6])
    if octets[:4] == b"\x20\x01\x00\x00":
        found |= {octets[4:8], bytes(octet ^ 0xFF for octet in octets[12:])}
    if octets[8:12] in (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"):
        found.add(octets[12:])
    if int(address) <= 1:
        return set()
    return {IPv4Address(one) for one in found}


def is_global(address: Address) -> bool:
    """Whether a socket may be opened to an address under the default policy."""
    scoped = isinstance(address, IPv6Address) and address.scope_id is not None
    return not scoped and all(is_global_itself(one) for one in (address, *carried(address)))

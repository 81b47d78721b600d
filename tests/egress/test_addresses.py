"""The registries, address by address, against an oracle of the tests' own."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_oracle import ALLOCATED, SPECIAL, Range, carried, is_global_itself

from callback_middleware.egress.addresses import Address, carried_by, literal, special_purpose
from callback_middleware.egress.registries import ALLOCATED as TABLE_OF_ALLOCATED
from callback_middleware.egress.registries import BLOCKS, IPV4_SPECIAL_PURPOSE, IPV6_SPECIAL_PURPOSE

COLUMN = {"True": True, "False": False, "N/A": None, "": None}
ELSEWHERE = [Range.of(text, "") for text in ("224.0.0.0/4", "2000::/3", "fec0::/10", "ff00::/8", "::/96", "2001::/16")]
ELSEWHERE += [Range.of(text, "") for text in ("::ffff:0:0:0/96", "168.63.129.16/32", "3ffe::/16", "0.0.0.0/0", "::/0")]


def same(version: int, number: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def around(row: Range) -> Sequence[Address]:
    """The first and last address of a range, and their neighbours."""
    numbers = [row.first - 1, row.first, row.first + 1, row.last - 1, row.last, row.last + 1]
    highest = (1 << (32 if row.version == 4 else 128)) - 1
    return [same(row.version, number) for number in numbers if 0 <= number <= highest]


def test_the_tables_are_the_registries_row_by_row() -> None:
    table = [*IPV4_SPECIAL_PURPOSE, *IPV6_SPECIAL_PURPOSE]
    assert {(row.network, row.globally_reachable) for row in table} == {
        (row.text, COLUMN[row.reachable]) for row in SPECIAL
    }
    assert len(table) == len(SPECIAL) == 26 + 25
    assert list(TABLE_OF_ALLOCATED) == [row.text for row in ALLOCATED]


def test_every_row_says_where_it_comes_from() -> None:
    assert all(row.purpose and row.source for row in BLOCKS)
    assert len({row.network for row in BLOCKS}) == len(BLOCKS)


@pytest.mark.parametrize("row", [*SPECIAL, *ALLOCATED, *ELSEWHERE], ids=lambda row: row.text)
def test_first_last_before_and_after_every_range(row: Range) -> None:
    for address in around(row):
        assert (special_purpose(address) is None) == is_global_itself(address), address


@pytest.mark.parametrize(
    ("inside", "purpose", "outside", "other"),
    [
        ("255.255.255.255", "broadcast", "255.255.255.254", "reserved"),
        ("192.0.0.9", "port control anycast", "192.0.0.11", "IETF protocol assignments"),
        ("0.0.0.0", "this host", "0.0.0.1", "this network"),  # noqa: S104 - compared, and bound to nothing
        ("2001::1", "Teredo", "2001:5::1", "IETF protocol assignments"),
        ("2620:4f:8000::1", "AS112", "2620:4f:8001::1", None),
        ("2001:db8::1", "documentation", "2001:db7::1", None),
        ("::1", "loopback", "::2", "IPv4-compatible"),
        ("2001:200::1", None, "2001:1000::1", "not allocated by IANA"),
        ("3fff:fff::1", "documentation", "3fff:1000::1", "not allocated by IANA"),
        ("fec0::1", "site local", "4000::1", "outside global unicast"),
    ],
)
def test_the_longest_prefix_decides(inside: str, purpose: str | None, outside: str, other: str | None) -> None:
    assert special_purpose(ip_address(inside)) == purpose
    assert special_purpose(ip_address(outside)) == other


GLOBAL = ["1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"]
GLOBAL += ["198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::200e"]
GLOBAL += ["2001:200::1", "2400:cb00::1", "64:ff9b::8.8.8.8", "2001:4860:4860::8888", "2620:fe::fe", "2c0f:fb50::1"]


@pytest.mark.parametrize("text", GLOBAL)
def test_global_unicast_is_nothing_special(text: str) -> None:
    assert special_purpose(ip_address(text)) is None


EDGES = [address for row in (*SPECIAL, *ALLOCATED, *ELSEWHERE) for address in around(row)]
ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.sampled_from(EDGES),
    # Somewhere in a range of the tables: of IPv6, chance alone finds few.
    st.sampled_from([*SPECIAL, *ALLOCATED, *ELSEWHERE]).flatmap(
        lambda row: st.integers(row.first, row.last).map(lambda number: same(row.version, number))
    ),
)


@given(ADDRESSES)
def test_any_address_is_what_the_registries_say(address: Address) -> None:
    assert (special_purpose(address) is None) == is_global_itself(address)


@given(ADDRESSES)
def test_no_address_is_global_that_the_standard_library_calls_private(address: Address) -> None:
    """It misses many, but what it knows to be private is private."""
    if special_purpose(address) is None and not carried_by(address):
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved


@pytest.mark.parametrize(
    ("text", "carrying"),
    [
        ("::ffff:10.0.0.1", ["10.0.0.1"]),
        ("::10.0.0.1", ["10.0.0.1"]),
        ("::ffff:0:10.0.0.1", ["10.0.0.1"]),
        ("64:ff9b::10.0.0.1", ["10.0.0.1"]),
        ("2002:a00:1::", ["10.0.0.1"]),
        # The server, then the client.
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", ["65.54.227.120", "10.0.0.1"]),
        ("2001:0:a00:1:8000:63bf:fefe:fefe", ["10.0.0.1", "1.1.1.1"]),
        ("2606:4700::5efe:10.0.0.1", ["10.0.0.1"]),
        ("2606:4700::200:5efe:10.0.0.1", ["10.0.0.1"]),
        # One within another.
        ("2002:808:808::5efe:10.0.0.1", ["8.8.8.8", "10.0.0.1"]),
        ("2001:0:808:808:0:5efe:f5ff:fffe", ["8.8.8.8", "10.0.0.1", "245.255.255.254"]),
        ("64:ff9b:1:808:0:5efe:a00:1", ["8.8.0.94", "8.0.94.254", "10.0.0.1"]),
        ("::1", []),
        ("::", []),
        ("2606:4700:4700::1111", []),
        ("10.0.0.1", []),
    ],
)
def test_what_an_address_carries(text: str, carrying: Sequence[str]) -> None:
    assert list(carried_by(ip_address(text))) == [IPv4Address(one) for one in carrying]


# RFC 6052, 2.4, for 192.0.2.33, with the prefixes that can lie in the /48: 48, 56, 64 and 96 bits.
@pytest.mark.parametrize(
    "text",
    ["64:ff9b:1:c000:2:2100::", "64:ff9b:1:1c0:0:221::", "64:ff9b:1:1:c0:2:2100:0", "64:ff9b:1::192.0.2.33"],
)
def test_a_translator_of_ones_own_is_read_at_every_length(text: str) -> None:
    assert IPv4Address("192.0.2.33") in carried_by(ip_address(text))


@given(
    # Nobody is at 0.x.x.x.
    st.integers(2**24, 2**32 - 1).map(IPv4Address),
    st.sampled_from([48, 56, 64, 96]),
    st.integers(0, 2**48 - 1),
)
def test_whatever_a_translators_prefix_is_its_reading_is_among_those(
    target: IPv4Address, length: int, subnet: int
) -> None:
    """Built forwards, by the rule of RFC 6052, 2.2, with anything in the bits between the /48 and the prefix's end."""
    octets = bytearray(bytes.fromhex("0064ff9b0001") + subnet.to_bytes(6, "big"))[: length // 8]
    if length == 96:
        octets[8] = 0
    for octet in target.packed:
        if len(octets) == 8:
            octets.append(0)
        octets.append(octet)
    assert target in carried_by(IPv6Address(bytes(octets.ljust(16, b"\0"))))


@given(ADDRESSES)
def test_any_address_carries_what_its_octets_say(address: Address) -> None:
    found = set(carried_by(address))
    # 0.x.x.x stands for "nothing is in there" in the local-use prefix, where there is nothing else.
    expected = carried(address)
    assert found == expected or (not expected and all(one.packed[0] == 0 for one in found))


@given(st.ip_addresses())
def test_a_literal_reads_back(address: Address) -> None:
    text = str(address)
    assert literal(f"[{text}]" if address.version == 6 else text) == address


@pytest.mark.parametrize(
    "host", ["::1", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.2.3.4.", "a.example", "", "[a]"]
)
def test_only_the_canonical_spelling_is_a_literal(host: str) -> None:
    assert literal(host) is None

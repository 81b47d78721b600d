"""The registries, address by address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.egress.addresses import SPECIAL_PURPOSE, Address, carried_by, literal, special_purpose

GLOBAL = ["1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"]
GLOBAL += ["198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::200e"]
GLOBAL += ["2001:200::1", "2400:cb00::1", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("text", GLOBAL)
def test_global_unicast_is_nothing_special(text: str) -> None:
    assert special_purpose(ip_address(text)) is None


@pytest.mark.parametrize("prefix", [prefix for prefix, purpose in SPECIAL_PURPOSE.items() if purpose is not None])
def test_both_ends_of_every_special_range_are_special(prefix: str) -> None:
    network = ip_network(prefix)
    if prefix == "::/0":  # its other end is a multicast address, and what lies between is said below
        assert special_purpose(IPv6Address("4000::")) == SPECIAL_PURPOSE[prefix]
        return
    assert special_purpose(network[0]) is not None
    assert special_purpose(network[-1]) is not None


@given(st.ip_addresses())
def test_no_address_is_global_that_the_standard_library_calls_private(address: Address) -> None:
    """It misses many, but what it knows to be private is private."""
    if special_purpose(address) is None and carried_by(address) is None:
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::10.0.0.1", "10.0.0.1"),
        ("::ffff:0:10.0.0.1", "10.0.0.1"),
        ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ("64:ff9b:1:a00:0:100::", "10.0.0.1"),  # RFC 6052, 2.4, with 10.0.0.1 in the /48
        ("2002:a00:1::", "10.0.0.1"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1"),
        ("2606:4700::5efe:10.0.0.1", "10.0.0.1"),
        ("2606:4700::200:5efe:10.0.0.1", "10.0.0.1"),
        ("::1", None),
        ("::", None),
        ("2606:4700:4700::1111", None),
        ("10.0.0.1", None),
    ],
)
def test_what_an_address_carries(text: str, carried: str | None) -> None:
    assert carried_by(ip_address(text)) == (None if carried is None else IPv4Address(carried))


@given(st.ip_addresses())
def test_a_literal_reads_back(address: Address) -> None:
    text = str(address)
    assert literal(f"[{text}]" if address.version == 6 else text) == address


@pytest.mark.parametrize(
    "host", ["::1", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.2.3.4.", "a.example", "", "[a]"]
)
def test_only_the_canonical_spelling_is_a_literal(host: str) -> None:
    assert literal(host) is None

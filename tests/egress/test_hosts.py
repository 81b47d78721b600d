"""The text of a URL."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

import httpx
import pytest
import yarl
from hostile_urls import HOSTILE, LOOPBACK_SPELLINGS
from hypothesis import given, settings
from hypothesis import strategies as st
from legitimate_urls import LEGITIMATE
from registry_oracle import Address, is_global

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.hosts import Authority, HttpUrl
from callback_middleware.errors import EgressRefused


def test_a_url_in_its_parts() -> None:
    url = HttpUrl.of("HTTPS://Receiver.Example:8443/a/../%2e?b=c&d#e")
    assert url.authority == Authority("https", "receiver.example", 8443, None, "receiver.example:8443")
    assert url.target == b"/a/../%2e?b=c&d"


@pytest.mark.parametrize(
    ("url", "host", "text", "port"),
    [
        ("https://a.example", "a.example", "a.example", 443),
        ("https://a.example:443/", "a.example", "a.example", 443),
        ("http://a.example:443/", "a.example", "a.example:443", 443),
        ("https://[2606:4700::0001]/", "2606:4700::1", "[2606:4700::1]", 443),
        ("https://[2606:4700::1]:8443/", "2606:4700::1", "[2606:4700::1]:8443", 8443),
        ("https://1.1.1.1:80", "1.1.1.1", "1.1.1.1:80", 80),
        ("https://münchen.example/", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example", 443),
        ("https://XN--MNCHEN-3YA.example/", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example", 443),
        ("https://_dmarc.a-b.example/", "_dmarc.a-b.example", "_dmarc.a-b.example", 443),
        ("https://r3---sn-abc.example/", "r3---sn-abc.example", "r3---sn-abc.example", 443),
    ],
)
def test_hosts_that_are_read(url: str, host: str, text: str, port: int) -> None:
    authority = HttpUrl.of(url).authority
    assert (authority.host, authority.text, authority.port) == (host, text, port)
    assert authority.address == (ip_address(host) if ":" in host or host == "1.1.1.1" else None)


CASES = [(rule, url) for rule, urls in HOSTILE.items() for url in urls]


@pytest.mark.parametrize(("rule", "url"), CASES, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(CASES)])
def test_a_hostile_url_is_refused_by_its_rule(rule: str, url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        EgressPolicy().check_url(url)
    assert re.search(rule, caught.value.rule)
    # Nothing that a stranger typed reaches a log as it is.
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("spelling", LOOPBACK_SPELLINGS)
def test_these_are_loopback_for_the_operating_system(spelling: str) -> None:
    """So that the list above is one of attacks, and not of nonsense."""
    assert IPv4Address(socket.inet_aton(spelling)).is_loopback


def test_two_hundred_hostile_urls_are_different_ones() -> None:
    assert len({url for _, url in CASES}) == len(CASES) >= 200
    assert len(set(LOOPBACK_SPELLINGS)) == 16


def test_three_hundred_legitimate_urls_pass() -> None:
    refused = []
    for url in LEGITIMATE:
        try:
            EgressPolicy().check_url(url)
        except EgressRefused as error:
            refused.append((url, error.rule))
    assert refused == []
    assert len(set(LEGITIMATE)) == len(LEGITIMATE) >= 300


def others(url: str) -> set[tuple[str | None, int | None]]:
    """Host and port, as three widespread parsers read them."""
    split, parsed, yarled = urlsplit(url), httpx.URL(url), yarl.URL(url)
    return {
        (split.hostname, split.port),
        (parsed.raw_host.decode("ascii"), parsed.port),
        (yarled.raw_host, yarled.explicit_port),
    }


def read_alike_by_others(url: str) -> bool:
    """Whether three widespread parsers read the host and port that are checked here."""
    authority = HttpUrl.of(url).authority
    for host, port in others(url):
        bracketed = f"[{host}]" if host and ":" in host else host
        if HttpUrl.of(f"https://{bracketed}/").authority.host != authority.host or port not in (authority.port, None):
            return False
    return True


def test_what_passes_is_read_alike_by_everybody() -> None:
    assert [url for url in LEGITIMATE if not read_alike_by_others(url)] == []


NUMBERS = ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "017700000001", "0x7f.0x0.0x0.0x1"]
NUMBERS += ["127.0.0.01", "0", "a.example.0x", "1.2.3.4.5", "256.1.1.1", "00000127.1", "0X7F.1", "127.0.0.0x1"]


@pytest.mark.parametrize("host", NUMBERS)
def test_what_looks_like_a_number_is_refused(host: str) -> None:
    with pytest.raises(EgressRefused, match="looks like a number"):
        HttpUrl.of(f"https://{host}/")


BAD_TEXT = [
    "https://a.example\\@b.example/",
    "https://a.example/a b",
    "https://a.example/\r\nX: y",
    " https://a.example",
]
BAD_TEXT += [
    "https://a.example/\t",
    "https://a.example/\x7f",
    "https://a\u00adb.example/x\u2028",
    "https://a.example/é",
]
BAD_AUTHORITY = [
    "u@a.example",
    "u:p@a.example",
    "@a.example",
    "a.example@127.0.0.1",
    "",
    ":443",
    "a.example.",
    "a..example",
]
BAD_AUTHORITY += [".a.example", "a.example:", "a.example:0", "a.example:65536", "a.example:99999999", "a.example:8o"]
BAD_AUTHORITY += [
    "a.example:080",
    "a.example:00",
    "a.example:+80",
    "a.example:443:443",
    "[::1",
    "::1",
    "[::1]a",
    "[::1]:",
    "[fe80::1%25eth0]",
    "[::1%]",
]
BAD_AUTHORITY += [
    "[::ffff:127.0.0.1]",
    "[v1.a]",
    "[a.example]",
    "[127.0.0.1]x",
    "%6cocalhost",
    "a%2eexample",
    "a*b",
    "a,b.example",
]
BAD_AUTHORITY += [
    "xn--a.example",
    "xn--.example",
    "xn--a-.example",
    "example。com",
    "\uff11\uff12\uff17.0.0.1",
    "①.example",
]
BAD_AUTHORITY += [
    "MÜNCHEN.example",
    "a\u200db.example",
    "localhost..",
    "127.0.0.1.",
    "a" * 64 + ".example",
    "a." * 126 + "bcd",
    "straße.example",
    "é" * 300,
]
BAD_URLS = [
    "",
    "/path",
    "//a.example/",
    "a.example",
    "https:a.example",
    "https:/a.example",
    "1https://a.example",
    "://a",
]


@pytest.mark.parametrize("url", [*BAD_TEXT, *BAD_URLS, *(f"https://{authority}/" for authority in BAD_AUTHORITY)])
def test_what_two_programs_might_read_differently_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        HttpUrl.of(url)
    assert caught.value.how_to_allow.startswith("no policy allows it: ")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_an_address_in_brackets_must_be_ipv6() -> None:
    with pytest.raises(EgressRefused):
        HttpUrl.of("https://[1.1.1.1]/")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_read_or_refused_and_what_is_read_can_be_sent(authority: str, rest: str) -> None:
    try:
        url = HttpUrl.of(f"https://{authority}/{rest}")
    except EgressRefused:
        return
    assert url.target.startswith(b"/")
    assert not set(url.target) & set(b" \r\n\t\0\\#")
    assert url.authority.host.isascii()
    assert url.authority.host == url.authority.host.lower()
    # What was read is its own only reading.
    assert HttpUrl.of(f"https://{url.authority.text}/").authority == url.authority


def read_by_the_system(host: str) -> Sequence[Address]:
    """What programs that trust the operating system take a host for, where they take it for an address at all."""
    found: list[Address] = []
    text = host.removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        found.append(ip_address(text))
    with suppress(OSError, UnicodeError):
        found.append(IPv4Address(socket.inet_aton(text)))
    with suppress(OSError, UnicodeError):
        answers = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found.extend(ip_address(str(sockaddr[0])) for *_, sockaddr in answers)
    return found


PARTS = st.one_of(
    st.sampled_from(
        ["0", "127", "0x7f", "0177", "00", "1", "255", "256", "65535", "0x", "08", "2130706433", "localhost"]
    ),
    st.integers(0, 2**33).map(lambda number: format(number, "d")),
    st.integers(0, 2**32).map(lambda number: format(number, "#x")),
    st.integers(0, 2**32).map(lambda number: "0" + format(number, "o")),
    st.text("0123456789abcdefxX-_", max_size=6),
    st.text(max_size=4),
)
HOSTS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=5).map(".".join),
    st.tuples(st.lists(PARTS, min_size=1, max_size=4), st.sampled_from([".", "。", "．", "｡", "%2e", "..", ""])).map(  # noqa: RUF001
        lambda both: both[1].join(both[0])
    ),
    st.ip_addresses().map(lambda address: f"[{address}]" if address.version == 6 else str(address)),
    st.text("0123456789abcdef:.%[]", max_size=24).map(lambda text: f"[{text}]"),
)


@settings(max_examples=1000)
@given(HOSTS, st.sampled_from(["", ".", ":443", ":", "@a.example", "/", "?", "#", "\\", "%00", "\t"]))
def test_whatever_a_host_that_passes_is_for_the_system_it_is_global_or_a_name(host: str, after: str) -> None:
    url = f"https://{host}{after}"
    try:
        EgressPolicy().check_url(url)
    except EgressRefused:
        return
    authority = HttpUrl.of(url).authority
    for spelled in {authority.host, urlsplit(url).hostname or "", httpx.URL(url).raw_host.decode("ascii")}:
        for address in read_by_the_system(spelled):
            assert is_global(address), spelled
            assert address == authority.address


@given(st.one_of(HOSTS, st.text(max_size=12)), st.sampled_from(["", ":443", ":8443"]), st.text(max_size=8))
def test_any_url_that_passes_is_read_alike_by_everybody(host: str, port: str, rest: str) -> None:
    url = f"https://{host}{port}/{rest}"
    try:
        HttpUrl.of(url)
    except EgressRefused:
        return
    assert read_alike_by_others(url)

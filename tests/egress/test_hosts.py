"""The text of a URL."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
BAD_AUTHORITY += ["a.example:+80", "a.example:443:443", "[::1", "::1", "[::1]a", "[::1]:", "[fe80::1%25eth0]", "[::1%]"]
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

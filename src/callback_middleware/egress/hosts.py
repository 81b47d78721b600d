"""The text of a URL's authority, read so narrowly that no two programs can read it differently.

What is refused here is refused under every policy: a spelling that one parser takes for a public name and another
for ``127.0.0.1`` serves nobody but an attacker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import idna

from callback_middleware.egress.addresses import Address, literal
from callback_middleware.errors import EgressRefused
from callback_middleware.values import excerpt

__all__ = ["Authority", "HttpUrl"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
HIGHEST_PORT: Final = 65535
_LONGEST_NAME: Final = 253
_DEVIATIONS: Final = frozenset("ßς\u200c\u200d")
"""What IDNA 2003 maps to something else, or to nothing, and IDNA 2008 keeps (UTS 46, "deviation characters")."""


def _refused(rule: str, instead: str) -> EgressRefused:
    return EgressRefused(rule, f"no policy allows it: {instead}")


@dataclass(frozen=True, slots=True)
class Authority:
    """Who a URL talks to.

    Attributes:
        host: Lower-case ASCII: a name in A-labels without a final dot, or an address without brackets.
        port: From 1 to 65535, the scheme's own where the URL has none.
        address: The address that ``host`` spells, or None for a name.
        text: ``host`` with its brackets, and the port unless it is the scheme's own: the ``Host`` header.
        origin: Scheme, host and port, always all three: ``https://example.org:443``.
        root: Where the URL's path begins: ``https://example.org``.
    """

    scheme: str
    host: str
    port: int
    address: Address | None
    text: str
    origin: str = field(init=False, repr=False, compare=False)
    root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # frozen=True leaves no other way to write once what every URL of a receiver has in common.
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "origin", f"{self.scheme}://{bracketed}:{self.port}")
        object.__setattr__(self, "root", f"{self.scheme}://{self.text}")

    def __hash__(self) -> int:
        # Looked up at every request; text remembers its hash.
        return hash(self.root)


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL in its two halves.

    Attributes:
        target: Path and query, byte for byte as in the URL, without the fragment; at least ``/``.
    """

    authority: Authority
    target: bytes

    @classmethod
    def of(cls, url: str) -> HttpUrl:
        """Split a URL. Raises :class:`~callback_middleware.errors.EgressRefused` for text that no policy allows."""
        if unsafe := _UNSAFE.search(url):
            raise _refused(
                f"the URL contains the character U+{ord(unsafe[0]):04X}", "percent-encode it in the path or the query"
            )
        split = _URL.match(url)
        if split is None:
            raise _refused("the URL is not absolute", "begin it with https:// and a host")
        scheme, authority, target = split.groups()
        if not target.isascii():
            raise _refused("the URL's path or query is not ASCII", "percent-encode it")
        # RFC 9112, 3.2.1: an empty path is sent as "/".
        absolute = target if target.startswith("/") else "/" + target
        return cls(_authority(scheme.lower(), authority), absolute.encode("ascii"))


# Receivers are few and their URLs many: what stands before the path is worth remembering. Errors are not remembered.
@lru_cache(maxsize=4096)
def _authority(scheme: str, text: str) -> Authority:
    if "@" in text:
        raise _refused("the URL carries user information", "leave it out, and send an Authorization header instead")
    default = DEFAULT_PORTS.get(scheme)
    if default is None:
        raise _refused(f"the scheme {excerpt(scheme)} is neither https nor http", "write https")
    host, port_text = _host_and_port(text)
    port = _port(port_text) if port_text is not None else default
    address = literal(host)
    if address is None:
        host = _name(host)
    else:
        _check_spelling(host, address)
        host = str(address)
    bracketed = f"[{host}]" if ":" in host else host
    return Authority(scheme, host, port, address, bracketed if port == default else f"{bracketed}:{port}")


def _host_and_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        inside, closed, after = text.partition("]")
        if not closed or (after and not after.startswith(":")):
            raise _refused("the URL's IPv6 address is not in brackets", "write [address]:port")
        if "%" in inside:
            raise _refused("the address has a zone identifier", "write it without")
        return inside + closed, after[1:] if after else None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _port(text: str) -> int:
    # One port, one spelling: no leading zeros, which some read as octal.
    if _PORT.fullmatch(text) is None or int(text) > HIGHEST_PORT:
        raise _refused("the URL's port is not a number from 1 to 65535", "leave it out, or write such a number")
    return int(text)


def _check_spelling(host: str, address: Address) -> None:
    """One address, one spelling: IPv6 has many, and only those that end in an IPv4 address are read differently."""
    if address.version == 6 and "." in host:  # noqa: PLR2004 - an IP version is its own name
        raise _refused("the IPv6 address ends in an IPv4 address", f"write [{address}]")


def _name(host: str) -> str:
    """A host name in lower-case A-labels. Raises for everything that is not plainly one."""
    if not host:
        raise _refused("the URL has no host", "write one")
    if host.startswith("["):
        raise _refused("the address in brackets is not IPv6", "write [address]:port")
    if host.endswith("."):
        raise _refused("the host ends in a dot", "write it without")
    if len(host) > _LONGEST_NAME:  # A-labels are longer than what they stand for
        raise _refused(f"the host is longer than {_LONGEST_NAME} characters", "write a shorter one")
    name = _ascii(host).lower()
    labels = name.split(".")
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(f"{excerpt(host)} is not a host name", "write labels of letters, digits and hyphens")
    if _NUMERIC.fullmatch(labels[-1]):
        # What `inet_aton` takes for an address (2130706433, 0x7f.1, 0177.0.0.01), whatever this parser thinks.
        raise _refused(f"the host {excerpt(host)} looks like a number", "write an IPv4 address as four decimal numbers")
    for label in labels:
        if label.startswith("xn--"):
            _check_a_label(label)
    return name


def _ascii(host: str) -> str:
    """The host in ASCII, if writing it back gives the same host (RFC 5891, 5.3)."""
    if host.isascii():
        return host
    if _DEVIATIONS & set(host):
        raise _refused(f"the host {excerpt(host)} is another one for older programs", "write its A-labels")
    try:
        encoded = idna.encode(host).decode("ascii")
        round_trip = idna.decode(encoded)
    except UnicodeError:  # idna's own error is one
        encoded, round_trip = "", ""
    if round_trip != host:
        raise _refused(f"the internationalized host {excerpt(host)} is not in its one true form", "write its A-labels")
    return encoded


def _check_a_label(label: str) -> None:
    try:
        round_trip = idna.encode(idna.decode(label)).decode("ascii")
    except UnicodeError:
        round_trip = ""
    if round_trip != label:
        raise _refused(f"{excerpt(label)} is not the A-label of any name", "write the one that IDNA gives")

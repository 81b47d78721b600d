"""Header fields (RFC 9110, 5): those that came, which ones a callback may set, and what their values may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from callback_middleware.errors import ConfigurationError

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""As ASGI has them."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN: Final = re.compile(r"[^\x20-\x7e]")

# Each belongs to somebody else: the framing to the sender, the connection to the hop, webhook-* to the signer, and
# the depth to the guard against callbacks that call back. A second copy is read differently by every receiver.
_RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "callback-depth",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED_PREFIXES: Final = ("proxy-", "webhook-")


class Headers(Mapping[str, str]):
    """Header fields by their name in any case. A repeated one gives its first value; :meth:`get_all` gives all.

    Bytes are read as ISO-8859-1, as ASGI frameworks do.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw

    def first(self, name: str) -> str | None:
        """The first value of a header, or None: what ``get`` gives, without an exception on the way."""
        # A linear search: an exchange is asked for one or two headers, which no table would pay for.
        wanted = name.lower().encode("latin-1", "replace")
        for field, value in self._raw:
            if field == wanted or field.lower() == wanted:
                return value.decode("latin-1")
        return None

    def content(self) -> tuple[str | None, str | None]:
        """Content type and content encoding, both in one search: whoever reads a body needs both."""
        kind = encoding = None
        for field, value in self._raw:
            name = field.lower()
            if name == b"content-type" and kind is None:
                kind = value.decode("latin-1")
            elif name == b"content-encoding" and encoding is None:
                encoding = value.decode("latin-1")
        return kind, encoding

    def __getitem__(self, name: str) -> str:
        value = self.first(name)
        if value is None:
            raise KeyError(name)
        return value

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order; an empty list where there is none."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for field, value in self._raw if field.lower() == wanted]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(field.lower().decode("latin-1") for field, _ in self._raw))

    def __len__(self) -> int:
        return len({field.lower() for field, _ in self._raw})

    def __repr__(self) -> str:
        # Names alone: values may be credentials, and a repr ends up in logs.
        return f"Headers({', '.join(self)})"


def check_header_name(name: str) -> None:
    """Refuse a header that a callback must not set.

    Raises:
        ConfigurationError: It is no field name, or it belongs to the sender, the signer or the connection.
    """
    if _TOKEN.fullmatch(name) is None:
        raise ConfigurationError(f"{name!r} is no name of a header field")
    folded = name.lower()
    if folded in _RESERVED or folded.startswith(_RESERVED_PREFIXES):
        raise ConfigurationError(
            f"the header {name!r} is not a callback's to set: sender, signer and connection set it"
        )


def check_header_value(value: str) -> str | None:
    """What is wrong with a header's value, in words; None if nothing is.

    Only printable ASCII and spaces pass. Nothing is ever stripped or replaced: libraries on the way do not agree on
    what they let through, so that a line break in a value is a header of the stranger's own at one of them.
    """
    forbidden = _FORBIDDEN.search(value)
    if forbidden is not None:
        return f"U+{ord(forbidden[0]):04X} at position {forbidden.start()} may not stand in a header"
    if value != value.strip(" "):
        return "it begins or ends with a space, which no receiver would see"
    return None

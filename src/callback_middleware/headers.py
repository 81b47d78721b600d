"""Which header fields a callback may set, and what their values may hold (RFC 9110, 5)."""

from __future__ import annotations

import re
from typing import Final

from callback_middleware.errors import ConfigurationError

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

"""Identifiers of deliveries: UUID version 7 (RFC 9562, section 5.7), ordered by the time they were made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def uuid7(now: datetime, entropy: bytes) -> UUID:
    """The identifier for a time and ten random bytes.

    Args:
        now: Aware; kept to the millisecond.
        entropy: Exactly ten bytes, of which 74 bits are used.
    """
    milliseconds = (now - _EPOCH) // _MILLISECOND
    random = int.from_bytes(entropy, "big")
    high = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64
    return UUID(int=high | 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF)

"""Identifiers of deliveries: UUID version 7 (RFC 9562, section 5.7), ordered by the time they were made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Of the lower 80 bits, those that are not random: the version, and the variant.
_FIXED = 0x7 << 76 | 0b10 << 62
_RANDOM = (1 << 80) - 1 - (0xF << 76 | 0b11 << 62)


def uuid7(now: datetime, entropy: bytes) -> UUID:
    """The identifier for a time and ten random bytes.

    Args:
        now: Aware; kept to the millisecond.
        entropy: Exactly ten bytes, of which all but six bits are used.
    """
    milliseconds = (now - _EPOCH) // _MILLISECOND
    return UUID(int=(milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(entropy, "big") & _RANDOM | _FIXED)

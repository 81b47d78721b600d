"""Secrets that nobody has to store: derived from a master for each receiver, with HKDF-SHA256 (RFC 5869).

What is derived never changes from one release to the next: receivers have it in their configuration.
"""

from __future__ import annotations

import enum
import hmac
from dataclasses import dataclass
from typing import Final, NamedTuple

from callback_middleware.errors import ConfigurationError
from callback_middleware.signing.keys import SYMMETRIC, Ed25519Key, HmacKey, decoded

_HASH_SIZE: Final = 32
_SHORTEST_MASTER: Final = 32

_SALT: Final = b"callback_middleware"
_SYMMETRIC_SECRET: Final = b"v1"
_ED25519_SEED: Final = b"v1a"
_SECRET_SIZE: Final = 32


class Kind(enum.StrEnum):
    """What receivers are told apart by."""

    OWNER = "owner"
    ORIGIN = "origin"


class Recipient(NamedTuple):
    """Whom a secret is for. An owner who is named like an origin is somebody else, and has another."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True, repr=False)
class Master:
    """What all receivers' secrets are derived from. Whoever has it signs for everybody.

    Attributes:
        pseudorandom: The pseudorandom key of RFC 5869, section 2.2.
    """

    pseudorandom: bytes

    @classmethod
    def of(cls, text: str) -> Master:
        """The master that text spells: base64 of at least 32 random bytes, as ``openssl rand -base64 32`` prints.

        Raises:
            ConfigurationError: It is none; it is not repeated.
        """
        if text.startswith(SYMMETRIC):
            raise ConfigurationError(
                "a master is nobody's secret and is written without whsec_, so that it is never shown to a receiver: "
                "openssl rand -base64 32"
            )
        material = decoded(text, "the master")
        if len(material) < _SHORTEST_MASTER:
            raise ConfigurationError(
                f"the master has {len(material)} bytes, and fewer than {_SHORTEST_MASTER} can be guessed: "
                "openssl rand -base64 32"
            )
        return cls(hkdf_extract(_SALT, material))

    def secret(self, recipient: Recipient) -> HmacKey:
        """The recipient's symmetric secret."""
        return HmacKey(self._derived(_SYMMETRIC_SECRET, recipient))

    def key_pair(self, recipient: Recipient) -> Ed25519Key:
        """The recipient's key pair, of which it is shown the public half."""
        return Ed25519Key.from_seed(self._derived(_ED25519_SEED, recipient))

    def _derived(self, purpose: bytes, recipient: Recipient) -> bytes:
        # No part but the last may hold a NUL, so that no two lists of parts are one text.
        name = recipient.name.encode("utf-8", "surrogatepass")
        info = b"\x00".join((purpose, recipient.kind.encode("ascii"), name))
        return hkdf_expand(self.pseudorandom, info, _SECRET_SIZE)


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """RFC 5869, section 2.2."""
    return hmac.digest(salt or bytes(_HASH_SIZE), material, "sha256")


def hkdf_expand(pseudorandom: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3; ``length`` is at most 255 times 32 bytes."""
    output = block = b""
    counter = 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(pseudorandom, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]

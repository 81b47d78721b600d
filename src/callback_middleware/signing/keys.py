"""Keys that sign, and how the Standard Webhooks specification writes them (1.0.0, "Signature scheme").

No error repeats what it was given: what is wrong with a secret may be one character.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from callback_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Secrets: TypeAlias = str | Sequence[str]
"""One secret or several, as text; with several, each signs."""

SYMMETRIC: Final = "whsec_"
PRIVATE: Final = "whsk_"
PUBLIC: Final = "whpk_"

_SHORTEST: Final = 24
_LONGEST: Final = 64
_SEED: Final = 32


class Key(Protocol):
    """One key of one version."""

    def sign(self, content: bytes) -> str:
        """The signature as it stands in the header: version, comma, base64."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class HmacKey:
    """Version ``v1``: HMAC-SHA256 (RFC 2104)."""

    secret: bytes

    def sign(self, content: bytes) -> str:
        return f"v1,{_base64(hmac.digest(self.secret, content, 'sha256'))}"


@dataclass(frozen=True, slots=True, repr=False)
class Ed25519Key:
    """Version ``v1a``: ed25519 (RFC 8032)."""

    private: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519Key:
        """The key of a seed of 32 bytes. Raises :class:`ConfigurationError` where the extra is not installed."""
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise ConfigurationError(
                "signing with ed25519 needs cryptography, which an extra brings: "
                "pip install 'callback_middleware[signing]'"
            ) from error
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public(self) -> str:
        """What the receiver verifies with, as ``whpk_…``: no secret."""
        return PUBLIC + _base64(self.private.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> str:
        return f"v1a,{_base64(self.private.sign(content))}"


def keys_of(secrets: Secrets) -> Sequence[Key]:
    """The keys that these secrets spell, in their order.

    Raises:
        ConfigurationError: One of them is none, there is none at all, or all are ed25519's.
    """
    keys = tuple(_key(text) for text in texts_of(secrets))
    if not any(isinstance(key, HmacKey) for key in keys):
        raise ConfigurationError(
            "there is no whsec_… secret, which signs with v1: v1a alone is verified by neither reference library"
        )
    return keys


def texts_of(secrets: Secrets) -> Sequence[str]:
    """One or several, as several. Raises :class:`ConfigurationError` for what is no text."""
    texts = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigurationError(f"a secret is given as text, as it is written, and not as {type(text).__name__}")
    return texts


def secret_text(secret: bytes) -> str:
    """A symmetric secret as the specification writes it."""
    return SYMMETRIC + _base64(secret)


def decoded(text: str, what: str) -> bytes:
    """The bytes that base64 spells.

    Strictly: padded, and without spare bits, because not every receiver's library reads anything else.

    Args:
        text: Without a prefix.
        what: What it should have been, for the error.
    """
    try:
        content = b64decode(text)
    except ValueError:
        content = b""
    if not content or _base64(content) != text:
        hint = ": strip the white space around it" if text != text.strip() else ""
        raise ConfigurationError(f"{what} is not base64{hint}")
    return content


def _key(text: str) -> Key:
    if text.startswith(SYMMETRIC):
        secret = decoded(text.removeprefix(SYMMETRIC), "a secret, after whsec_,")
        if not _SHORTEST <= len(secret) <= _LONGEST:
            raise ConfigurationError(
                f"a secret has {len(secret)} bytes, and the Standard Webhooks specification "
                f"asks for {_SHORTEST} to {_LONGEST}"
            )
        return HmacKey(secret)
    if text.startswith(PRIVATE):
        return _ed25519(decoded(text.removeprefix(PRIVATE), "a private key, after whsk_,"))
    if text.startswith(PUBLIC):
        raise ConfigurationError("a whpk_… key is public: it verifies and cannot sign; give the whsk_… one")
    raise ConfigurationError(
        "a secret begins neither with whsec_ (HMAC-SHA256) nor with whsk_ (ed25519), as the Standard Webhooks "
        "specification writes them"
    )


def _ed25519(content: bytes) -> Ed25519Key:
    """A seed of 32 bytes; or, as some write it, with the public key's 32 behind it."""
    if len(content) not in (_SEED, 2 * _SEED):
        raise ConfigurationError(f"a private key has {len(content)} bytes, and ed25519's have {_SEED} or {2 * _SEED}")
    key = Ed25519Key.from_seed(content[:_SEED])
    if content[_SEED:] not in (b"", key.private.public_key().public_bytes_raw()):
        raise ConfigurationError("the two halves of a private key do not belong together")
    return key


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")

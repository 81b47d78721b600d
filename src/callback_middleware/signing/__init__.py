"""Signatures of the Standard Webhooks specification (1.0.0, "Verifying webhook authenticity").

A signature covers id, time and body, and says nothing of whom a message is for. Where two receivers share a secret,
each may send on to the other what it was sent, and is believed. So by default everybody who is called has their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeAlias

from callback_middleware.delivery import Delivery
from callback_middleware.destinations import Destination
from callback_middleware.errors import ConfigurationError
from callback_middleware.signing.derivation import Kind, Master, Recipient
from callback_middleware.signing.keys import Key, Secrets, keys_of, secret_text, texts_of

__all__ = ["SecretFor", "Secrets", "StandardWebhooksSigner"]

SecretFor: TypeAlias = Callable[[Delivery], Secrets]
"""The secret of one delivery, or several. It is called in the event loop at every attempt, and must not block."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StandardWebhooksSigner:
    """A :class:`~callback_middleware.ports.Signer`: ``v1`` (HMAC-SHA256), and ``v1a`` (ed25519) beside it if asked.

    Exactly one of ``master``, ``secrets`` and ``secret_for`` is given. Each may be several: then all of them sign at
    once, and a receiver that knows any one verifies. That is how a secret, or a master, is rotated.

    Args:
        master: Recommended. Base64 of at least 32 random bytes (``openssl rand -base64 32``), from which everybody's
            secret is derived: of the owner of the subscription that a delivery was sent to, if it has one, else of its
            origin. :meth:`secret_of` says which one to show to whom. The newest first.
        secrets: ``whsec_…``, for all receivers: for one receiver, or several that trust each other. ``whsk_…`` (extra
            ``[signing]``) only beside it.
        secret_for: Gives the secrets of a delivery, written like ``secrets``.
        ed25519: Derive a key pair for everybody too (extra ``[signing]``), and sign with it beside the secret; its
            public half is :meth:`public_key_of`. With ``master`` alone: elsewhere give ``whsk_…``.

    Raises:
        ConfigurationError: At once, for secrets that are none; the message never repeats them. What ``secret_for``
            returns is looked at when it is used: there it fails the attempt.
    """

    master: InitVar[Secrets] = ()
    secrets: InitVar[Secrets] = ()
    secret_for: InitVar[SecretFor | None] = None
    ed25519: InitVar[bool] = False
    _keyring: _Keyring = field(init=False)

    def __post_init__(self, master: Secrets, secrets: Secrets, secret_for: SecretFor | None, ed25519: bool) -> None:
        given = [name for name, one in (("master", master), ("secrets", secrets), ("secret_for", secret_for)) if one]
        if len(given) != 1:
            raise ConfigurationError(
                f"give one of master, secrets and secret_for, and not {' and '.join(given) or 'none (or an empty one)'}"
            )
        if ed25519 and not master:
            raise ConfigurationError(f"ed25519=True derives keys from a master: beside {given[0]}, give whsk_… there")
        keyring: _Keyring
        if master:
            keyring = _Derived(tuple(Master.of(text) for text in texts_of(master)), ed25519)
            if ed25519:
                # A missing extra is for the start, and not for the first attempt.
                keyring.keys(Recipient(Kind.ORIGIN, ""))
        elif secret_for is not None:
            keyring = _Chosen(secret_for)
        else:
            keyring = _Shared(keys_of(secrets))
        # frozen=True leaves no other way to keep what was understood in place of what was written.
        object.__setattr__(self, "_keyring", keyring)

    def sign(self, delivery: Delivery, timestamp: datetime) -> Sequence[tuple[str, str]]:
        """The header ``webhook-signature``.

        Args:
            delivery: Its id and the exact bytes of its body are signed.
            timestamp: Of the attempt, aware; signed in whole seconds, rounded down.

        Raises:
            ConfigurationError: What ``secret_for`` returned is no secret.
        """
        seconds = (timestamp - _EPOCH) // _SECOND
        content = b"%s.%d.%s" % (str(delivery.id).encode("ascii"), seconds, delivery.body or b"")
        signatures = [key.sign(content) for key in self._keyring.keys_for(delivery)]
        # One space between two: the reference libraries take what lies between two spaces for a signature, and crash.
        return (("webhook-signature", " ".join(signatures)),)

    def secret_of(self, *, owner: str | None = None, url: str | None = None) -> str:
        """The secret to show to a receiver, as ``whsec_…``: what is derived for it from the newest master.

        Show an owner's to that owner, as your authentication knows it. Show an origin's only to who has proved that
        the origin is theirs: whoever knows it can write to that origin in your name.

        Args:
            owner: Of subscriptions, as ``callbacks.subscribe(…, owner=…)`` was given it.
            url: Any URL at the origin: a callback URL will do.

        Raises:
            ConfigurationError: This signer derives nothing, or not exactly one of the two was given.
            EgressRefused: ``url`` is none that anything could be sent to.
        """
        return self.secrets_of(owner=owner, url=url)[0]

    def secrets_of(self, *, owner: str | None = None, url: str | None = None) -> Sequence[str]:
        """All secrets that sign for a receiver, that of the newest master first; else as :meth:`secret_of`."""
        recipient = _recipient(owner, url)
        return [secret_text(master.secret(recipient).secret) for master in self._derived().masters]

    def public_key_of(self, *, owner: str | None = None, url: str | None = None) -> str:
        """What a receiver verifies ``v1a`` with, as ``whpk_…``; no secret, else as :meth:`secret_of`."""
        recipient = _recipient(owner, url)
        derived = self._derived()
        if not derived.ed25519:
            raise ConfigurationError("there are no key pairs: this signer was made without ed25519=True")
        return derived.masters[0].key_pair(recipient).public

    def __repr__(self) -> str:
        # Not one secret: a repr ends up in logs.
        return f"StandardWebhooksSigner({self._keyring.described})"

    def _derived(self) -> _Derived:
        if not isinstance(self._keyring, _Derived):
            raise ConfigurationError("only a signer with a master derives secrets: whoever gave this one knows them")
        return self._keyring


class _Keyring(Protocol):
    """Which keys sign a delivery."""

    @property
    def described(self) -> str: ...

    def keys_for(self, delivery: Delivery) -> Sequence[Key]: ...


@dataclass(frozen=True, slots=True, repr=False)
class _Derived:
    masters: Sequence[Master]
    ed25519: bool

    @property
    def described(self) -> str:
        return f"masters={len(self.masters)}, ed25519={self.ed25519}"

    def keys_for(self, delivery: Delivery) -> Sequence[Key]:
        owner = None if delivery.subscription is None else delivery.subscription.key.owner
        if owner is None:
            return self.keys(Recipient(Kind.ORIGIN, delivery.origin))
        return self.keys(Recipient(Kind.OWNER, owner))

    def keys(self, recipient: Recipient) -> Sequence[Key]:
        secrets: Sequence[Key] = [master.secret(recipient) for master in self.masters]
        pairs: Sequence[Key] = [master.key_pair(recipient) for master in self.masters] if self.ed25519 else ()
        return (*secrets, *pairs)


@dataclass(frozen=True, slots=True, repr=False)
class _Shared:
    keys: Sequence[Key]

    @property
    def described(self) -> str:
        return f"secrets={len(self.keys)}"

    def keys_for(self, delivery: Delivery) -> Sequence[Key]:  # noqa: ARG002 - the same for all
        return self.keys


@dataclass(frozen=True, slots=True, repr=False)
class _Chosen:
    secret_for: SecretFor

    @property
    def described(self) -> str:
        return "secret_for"

    def keys_for(self, delivery: Delivery) -> Sequence[Key]:
        # A look-up that finds nothing returns None, whatever its type says.
        return keys_of(self.secret_for(delivery) or ())


def _recipient(owner: str | None, url: str | None) -> Recipient:
    if owner is not None and url is None:
        return Recipient(Kind.OWNER, owner)
    if url is not None and owner is None:
        return Recipient(Kind.ORIGIN, Destination.parse(url).origin)
    raise ConfigurationError("say whose secret: an owner's or an origin's (owner=… or url=…)")

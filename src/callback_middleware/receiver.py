"""For the other side: is this request really from the API that was asked to call?

It verifies as the Standard Webhooks specification says (1.0.0, "Verifying signatures"), whoever signed, and imports
nothing but the standard library: a receiver needs nothing else of this package, and may copy this one file. FastAPI, or
Starlette, is imported by :func:`signed_by` alone, and cryptography for ``whpk_`` keys alone.

A signature can be sent twice: by us, who send at least once, and by whoever recorded it. Act once for each
``webhook-id``; remembering them is the receiver's.
"""

# Annotations are evaluated here and not kept as text: FastAPI reads those of a function inside another.

import hmac
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["TOLERANCE", "InvalidSignature", "Verified", "signed_by", "verify"]

TOLERANCE: Final = timedelta(minutes=5)
"""How old a signature may be, and how far ahead a sender's clock, where nobody says otherwise."""

MAX_BODY: Final = 1024 * 1024
"""Bytes that :func:`signed_by` reads, where nobody says otherwise."""

_ID: Final = "webhook-id"
_TIMESTAMP: Final = "webhook-timestamp"
_SIGNATURE: Final = "webhook-signature"

# A full stop ends the id in what is signed.
_IDENTIFIER: Final = re.compile(r"[!-\-/-~]+")
# Eleven digits last until the year 5138, and fit whatever a datetime can be compared with.
_SECONDS: Final = re.compile(r"[0-9]{1,11}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)

_SHORTEST_SECRET: Final = 24
_LONGEST_SECRET: Final = 64
_PUBLIC_KEY: Final = 32

# One is usual, two or three while a secret is rotated. Each costs time, and a stranger wrote them.
_MOST_SIGNATURES: Final = 32


class Items(Protocol):
    """A mapping, or what frameworks have in place of one."""

    def items(self) -> Iterable[tuple[Any, Any]]: ...


Headers: TypeAlias = Items | Iterable[tuple[str | bytes, str | bytes]]
"""As any framework has them: a mapping, or pairs; names in any case; text or bytes."""

Secrets: TypeAlias = str | Iterable[str]
"""``whsec_…`` or ``whpk_…``, one or several: any one of them may have signed."""


class InvalidSignature(Exception):
    """This request is not to be believed. The message says which check failed, and repeats no secret or signature."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that is what it says it is.

    Attributes:
        id: ``webhook-id``: the same however often it is sent; act once for each.
        timestamp: When this attempt was made, in UTC.
        body: The bytes that were signed. Nothing else of the request was: not its path, its query or its other headers.
    """

    id: str
    timestamp: datetime
    body: bytes = field(repr=False)


def verify(
    headers: Headers,
    body: bytes,
    secrets: Secrets,
    *,
    tolerance: timedelta = TOLERANCE,
    now: datetime | None = None,
) -> Verified:
    """What was signed, if it was, with one of these secrets, within the tolerance.

    Args:
        headers: Of the request, all of them.
        body: Of the request, the bytes as they came: JSON that was parsed and written again is something else.
        secrets: As the API's author shows them. Give the new one beside the old one while it is being rotated.
        tolerance: How old the signature may be, and how far ahead of this clock.
        now: Aware; default the system's time.

    Raises:
        InvalidSignature: It was not.
        ValueError: A secret is none, or an argument makes no sense: this receiver is set up wrongly. Nothing is
            repeated here either.
        TypeError: The body is not bytes.
        ImportError: A ``whpk_`` key needs cryptography, the extra ``[signing]``.
    """
    return _verify(headers, body, _keys(secrets, tolerance), tolerance, now)


def signed_by(
    secrets: Secrets, *, tolerance: timedelta = TOLERANCE, max_body: int = MAX_BODY
) -> Callable[[Any], Awaitable[Verified]]:
    """For FastAPI: a dependency that verifies the request. For Starlette: await what it returns, with the request.

    It reads the body, and answers 401 if that was not signed and 413 if it is larger than ``max_body`` bytes. Take the
    body from :attr:`Verified.body`: it has been read. Where a handler declares a body, FastAPI reads and parses that
    before any dependency runs: it is verified all the same, but without that limit, and what is no JSON is a 422.

    Raises:
        ValueError, ImportError: As :func:`verify`, but at once.
        ImportError: Neither FastAPI nor Starlette is installed.
    """
    keys = _keys(secrets, tolerance)
    try:
        from starlette.exceptions import HTTPException
        from starlette.requests import Request
    except ImportError as error:
        raise ImportError(
            "callback_middleware.receiver.signed_by needs FastAPI or Starlette, which an extra brings: "
            "pip install 'callback_middleware[fastapi]' (verify needs neither)"
        ) from error

    async def verified(request: Request) -> Verified:
        body = bytearray()
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > max_body:
                    raise HTTPException(413, f"the body is larger than {max_body} bytes")
        try:
            return _verify(request.headers, bytes(body), keys, tolerance, None)
        except InvalidSignature as error:
            # RFC 9110, 11.6.1: an answer of 401 has to name a scheme.
            raise HTTPException(401, str(error), {"WWW-Authenticate": "Standard-Webhooks"}) from None

    return verified


class _Key(Protocol):
    """One secret, understood."""

    @property
    def version(self) -> str: ...

    def matches(self, content: bytes, signatures: Iterable[bytes]) -> bool: ...


class _Secret:
    version = "v1"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def matches(self, content: bytes, signatures: Iterable[bytes]) -> bool:
        expected = hmac.digest(self._secret, content, "sha256")
        # Not cut short: how long it takes says nothing of which one it was.
        return True in [hmac.compare_digest(expected, signature) for signature in signatures]


class _PublicKey:
    version = "v1a"

    def __init__(self, public: bytes) -> None:
        try:
            from cryptography import exceptions
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise ImportError(
                "a whpk_ key needs cryptography, which an extra brings: pip install 'callback_middleware[signing]'"
            ) from error
        self._key = Ed25519PublicKey.from_public_bytes(public)
        self._mismatch = exceptions.InvalidSignature

    def matches(self, content: bytes, signatures: Iterable[bytes]) -> bool:
        return True in [self._verifies(content, signature) for signature in signatures]

    def _verifies(self, content: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, content)
        except self._mismatch:
            return False
        return True


def _verify(
    headers: Headers, body: bytes, keys: Sequence[_Key], tolerance: timedelta, now: datetime | None
) -> Verified:
    if not isinstance(body, bytes):
        raise TypeError(f"the body is verified as the bytes that came, and not as {type(body).__name__}")
    fields = _fields(headers)
    identifier, timestamp = fields[_ID], fields[_TIMESTAMP]
    if _IDENTIFIER.fullmatch(identifier) is None:
        # Or what was signed could be cut elsewhere: the time into the id, and the beginning of the body into the time.
        raise InvalidSignature(f"{_ID} is not visible ASCII without a full stop, as the specification asks")
    sent = _sent(timestamp, tolerance, now)
    _match(fields[_SIGNATURE], f"{identifier}.{timestamp}.".encode("ascii") + body, keys)
    return Verified(identifier, sent, body)


def _fields(headers: Headers) -> Mapping[str, str]:
    """The three headers, each exactly once: of two copies, every program on the way takes the one that it likes."""
    found: dict[str, str] = {}
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        folded = _text(name).lower()
        if folded in (_ID, _TIMESTAMP, _SIGNATURE):
            if folded in found:
                raise InvalidSignature(f"{folded} came more than once")
            found[folded] = _text(value)
    for wanted in (_ID, _TIMESTAMP, _SIGNATURE):
        if not found.get(wanted):
            raise InvalidSignature(
                f"{wanted} is missing: the request is not signed, or something on the way dropped it"
            )
    return found


def _sent(text: str, tolerance: timedelta, now: datetime | None) -> datetime:
    if _SECONDS.fullmatch(text) is None:
        raise InvalidSignature(f"{_TIMESTAMP} is no number of seconds since 1970")
    sent = _EPOCH + int(text) * _SECOND
    if now is None:
        now = datetime.now(UTC)  # noqa: TID251 - an edge: whoever receives has no clock of ours
    elif now.tzinfo is None:
        raise ValueError("now must be aware: datetime.now(UTC)")
    age, allowed = (now - sent).total_seconds(), tolerance.total_seconds()
    if age > allowed:
        raise InvalidSignature(
            f"{_TIMESTAMP} is {age:.0f} s old, and {allowed:g} s are allowed: replayed, held up, or a clock is wrong"
        )
    if -age > allowed:
        raise InvalidSignature(
            f"{_TIMESTAMP} is {-age:.0f} s ahead, and {allowed:g} s are allowed: a clock is wrong, here or there"
        )
    return sent


def _match(header: str, content: bytes, keys: Sequence[_Key]) -> None:
    """Return if any signature is the content's. Every one is tried with every key of its version."""
    candidates = [candidate.partition(",") for candidate in header.split(" ")]
    if len(candidates) > _MOST_SIGNATURES:
        raise InvalidSignature(f"{_SIGNATURE} has more than {_MOST_SIGNATURES} signatures")
    # One of another version is for receivers who know that one.
    versions = {key.version for key in keys}
    known = [(version, _decoded(encoded)) for version, _, encoded in candidates if version in versions]
    if not known:
        raise InvalidSignature(f"{_SIGNATURE} has no signature of version {' or '.join(sorted(versions))}")
    signatures = [(version, signature) for version, signature in known if signature is not None]
    if not signatures:
        raise InvalidSignature(f"{_SIGNATURE} is not base64")
    matched = [key.matches(content, [one for version, one in signatures if version == key.version]) for key in keys]
    if True not in matched:
        raise InvalidSignature(
            f"{_SIGNATURE} does not match: it was made with another secret, or for another id, time or body "
            "(the body must be verified as it came, before it is parsed)"
        )


def _keys(secrets: Secrets, tolerance: timedelta) -> Sequence[_Key]:
    if tolerance < timedelta():
        raise ValueError(f"tolerance={tolerance!r} must not be negative")
    texts = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    if not texts:
        raise ValueError("no secret is given: whsec_… or whpk_…, as the API's author shows it")
    return tuple(_key(text) for text in texts)


def _key(text: str) -> _Key:
    prefix, _, encoded = text.partition("_")
    if prefix not in ("whsec", "whpk"):
        raise ValueError("a secret begins neither with whsec_ nor with whpk_: give it as the API's author shows it")
    # Some senders leave the padding out.
    content = _decoded(encoded + "=" * (-len(encoded) % 4))
    if content is None:
        raise ValueError(f"a secret is not base64 after {prefix}_")
    shortest, longest = (_PUBLIC_KEY, _PUBLIC_KEY) if prefix == "whpk" else (_SHORTEST_SECRET, _LONGEST_SECRET)
    if not shortest <= len(content) <= longest:
        raise ValueError(f"a {prefix}_ secret has {len(content)} bytes: from {shortest} to {longest} are allowed")
    return _PublicKey(content) if prefix == "whpk" else _Secret(content)


def _decoded(encoded: str) -> bytes | None:
    """What base64 spells; None if it is none, or nothing."""
    try:
        return b64decode(encoded, validate=True) or None
    except ValueError:
        return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")

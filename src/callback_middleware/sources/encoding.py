"""From what a handler gives to bytes, by media type. Nothing is rewritten: what was given is what is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from callback_middleware import jsontext
from callback_middleware.bodies.media_types import parse_media_type
from callback_middleware.errors import ConfigurationError, PayloadInvalid

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON: ``application/json``, or any with the suffix ``+json`` (RFC 6839)."""
    essence, _ = parse_media_type(media_type)
    return essence == JSON or essence.endswith("+json")


def is_form(media_type: str) -> bool:
    """Whether a media type is that of an HTML form without files."""
    return parse_media_type(media_type)[0] == FORM


def encoder_for(media_type: str) -> Callable[[object], bytes]:
    """What writes a body of this media type.

    Raises:
        ConfigurationError: For ``multipart/*``: it would need a boundary in its content type.
    """
    if is_json(media_type):
        return json_bytes
    if is_form(media_type):
        return form_bytes
    if media_type.lower().startswith("multipart/"):
        raise ConfigurationError(f"its body is {media_type}, which is not sent: declare it as {JSON} or as {FORM}")
    charset = parse_media_type(media_type)[1].get("charset", "utf-8")
    try:
        "".encode(charset)
    except LookupError:
        raise ConfigurationError(f"its body is {media_type}, and {charset!r} is no charset that Python knows") from None
    return lambda value: _plain_bytes(value, media_type, charset)


def json_bytes(value: object) -> bytes:
    """One JSON value; a Pydantic model as that model writes itself, by alias.

    Raises:
        PayloadInvalid: It has no JSON form.
    """
    dump = getattr(type(value), "model_dump_json", None)
    try:
        return jsontext.dumps(value) if dump is None else str(dump(value, by_alias=True)).encode()
    except (TypeError, ValueError) as error:
        raise PayloadInvalid(f"the body cannot be written as JSON: {error}") from None


def form_bytes(value: object) -> bytes:
    """A mapping as a form: arrays repeat their name, objects are JSON (OpenAPI 3.2, Encoding Object), null is left out.

    Raises:
        PayloadInvalid: No mapping, or a member that has no text.
    """
    dump = getattr(type(value), "model_dump", None)
    fields = value if dump is None else dump(value, mode="json", by_alias=True)
    if not isinstance(fields, Mapping):
        raise PayloadInvalid(f"a form is written from a mapping or a model, not from a {type(value).__name__}")
    pairs = [
        (str(name), _form_text(str(name), item))
        for name, member in fields.items()
        for item in (member if isinstance(member, list | tuple) else [member])
        if item is not None
    ]
    return urlencode(pairs).encode("ascii")


def _form_text(name: str, value: Any) -> str:
    try:
        return jsontext.to_text(value)
    except (TypeError, ValueError) as error:
        raise PayloadInvalid(f"the form field {name!r} cannot be written: {error}") from None


def _plain_bytes(value: object, media_type: str, charset: str) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise PayloadInvalid(f"a body of {media_type} is given as bytes or text, not as a {type(value).__name__}")
    try:
        return value.encode(charset)
    except UnicodeEncodeError as error:
        raise PayloadInvalid(f"the body has a character at {error.start} that {charset} cannot write") from None

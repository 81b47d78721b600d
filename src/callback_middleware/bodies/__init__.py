"""From the bytes of a body to the value that expressions see, by its content type.

Nothing here raises: a body that cannot be understood is missing, with the reason. Reasons quote nothing of the
body, and what they quote of headers is escaped and cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from callback_middleware import jsontext
from callback_middleware.bodies.media_types import parse_media_type
from callback_middleware.values import MISSING, Missing, Value, excerpt

_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"

# A fixed list, because Python has codecs that are no charsets of the web (unicode_escape) or can be made to run for
# minutes (punycode), and remembers every unknown name that it is asked for.
_CHARSETS: Final = frozenset(
    {"us-ascii", "ascii", "utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"}
    | {"latin1", *(f"iso-8859-{part}" for part in range(1, 17) if part != 12)}  # noqa: PLR2004 - there is no part 12
    | {f"windows-{page}" for page in range(1250, 1259)}
    | {"shift_jis", "euc-jp", "iso-2022-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5", "koi8-r", "koi8-u"}
)
# A megabyte of "a&a&a" or of empty parts would keep an event loop busy for half a second.
MAX_FIELDS: Final = 10_000
MAX_PARTS: Final = 1_000

_UTF_8: Final = frozenset({"utf-8", "utf8"})


class Body(NamedTuple):
    """What a body says.

    Attributes:
        value: Its value, or MISSING.
        problem: Why the value is missing, in words; "" where there is a value.
    """

    value: Value | Missing
    problem: str = ""


def parse_body(content: bytes, content_type: str | None, content_encoding: str | None = None) -> Body:
    """Understand a whole body.

    JSON and ``+json`` become their value, forms an object (a repeated name an array; files are left out),
    ``text/*`` and XML one text. A charset in the content type is obeyed; without one it is UTF-8.

    Args:
        content: The bytes as they came.
        content_type: The header's value, or None.
        content_encoding: The header's value, or None. Nothing is ever decompressed.
    """
    if not content:
        return Body(MISSING, "the body is empty")
    if content_encoding is not None:
        encoding = content_encoding.strip().lower()
        if encoding not in ("", "identity"):
            return Body(MISSING, f"the body's content-encoding is {excerpt(encoding)}, and nothing is decompressed")
    if content_type is None:
        return Body(MISSING, "the body has no content type")
    try:
        return Body(_reader_for(content_type)(content))
    except ValueError as error:
        return Body(MISSING, f"the body cannot be read: {error}")


def form_pairs(content: str, charset: str = "utf-8") -> list[tuple[str, str]]:
    """Names and values of a query or form (WHATWG URL, 5.1): ``+`` is a space, blank values are kept, order too.

    Escapes that are no text in the charset become U+FFFD.
    """
    pairs = []
    for pair in content.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            if "%" in pair or "+" in pair:
                name, value = unquote_plus(name, charset, "replace"), unquote_plus(value, charset, "replace")
            pairs.append((name, value))
    return pairs


# Clients spell few content types, and a body comes with every request. At most 4 MiB, whatever strangers send;
# refusals are not remembered.
@lru_cache(maxsize=64)
def _reader_for(content_type: str) -> Callable[[bytes], Value]:
    """What reads a body of this type. Raises ``ValueError``, as the reader does."""
    media_type, options = parse_media_type(content_type)
    charset = _charset(options)
    if media_type == "application/json" or media_type.endswith("+json"):
        return jsontext.loads if charset in _UTF_8 else lambda content: jsontext.loads(_decode(content, charset))
    if media_type == _FORM:
        return partial(_form, charset=charset)
    if media_type == _MULTIPART:
        boundary = options.get("boundary", "")
        return lambda content: _object(_text_parts(content, boundary))
    if media_type.startswith("text/") or media_type == "application/xml" or media_type.endswith("+xml"):
        return partial(_decode, charset=charset)
    raise ValueError(f"its content type is {excerpt(media_type)}")


def _form(content: bytes, charset: str) -> Mapping[str, Value]:
    _check_count("fields", content.count(b"&") + 1, MAX_FIELDS)
    return _object(form_pairs(_decode(content, charset), charset))


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"it has more than {most} {what}")


def _charset(options: Mapping[str, str]) -> str:
    label = options.get("charset", "utf-8").lower()
    if label not in _CHARSETS:
        raise ValueError(f"its charset {excerpt(label)} is unknown")
    return label


def _decode(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not {charset}, at byte {error.start}") from None


def _object(pairs: Iterable[tuple[str, str]]) -> Mapping[str, Value]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name not in members:
            members[name] = value
        elif isinstance(members[name], list):
            members[name].append(value)
        else:
            members[name] = [members[name], value]
    return members


def _text_parts(content: bytes, boundary: str) -> Iterable[tuple[str, str]]:
    try:
        from callback_middleware.bodies.multipart import text_parts
    except ModuleNotFoundError:
        raise ValueError("multipart/form-data needs callback_middleware[multipart]") from None
    _check_count("parts", content.count(b"--" + boundary.encode("latin-1", "replace")) - 1, MAX_PARTS)
    for part in text_parts(content, boundary):
        _, options = parse_media_type(part.content_type)
        yield part.name, _decode(part.content, _charset(options))

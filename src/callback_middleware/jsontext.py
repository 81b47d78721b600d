"""JSON (RFC 8259) whose numbers keep their digits.

``9999.10`` that came in goes out as ``9999.10``: into a URL, a text or a payload. Integers are Python's; a number
with a fraction or an exponent is an :class:`ExactFloat`, a float that remembers how it was written. Reading is
the standard library's accelerated reader with hooks; its writer would print ``9999.1``, so writing is our own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn, Self

from callback_middleware.values import Value

MAX_DEPTH: Final = 100
"""Arrays and objects within each other."""

MAX_DIGITS: Final = 4300
"""Of an integer: CPython's own default, whatever limit the process has set."""

_quote: Final[Callable[[str], str]] = encode_basestring
_new_float: Final = float.__new__

# The lookbehind keeps the search linear: without it every digit of a long run would start a match of its own.
_LONG_DIGITS: Final = re.compile(rf"(?<![0-9])[0-9]{{{MAX_DIGITS + 1}}}")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_WHITE_SPACE: Final = " \t\n\r"


class ExactFloat(float):
    """A float that is written as it was read.

    It computes and compares as the float nearest to its literal (``1e999`` as infinity); ``str()``, ``repr()``,
    f-strings and :func:`dumps` give the literal.
    """

    __slots__ = ("literal",)

    literal: str

    def __new__(cls, literal: str) -> Self:
        number = float.__new__(cls, literal)
        number.literal = literal
        return number

    def __repr__(self) -> str:
        return self.literal

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[ExactFloat], tuple[str]]:
        return (ExactFloat, (self.literal,))


def loads(text: bytes | str) -> Value:
    """Read one JSON document. Bytes are UTF-8, with or without a byte order mark.

    The last of duplicate members wins. The result holds no text that cannot be written as UTF-8.

    Raises:
        ValueError: It is not JSON, or beyond what is read here: NaN and infinities, lone surrogates, nesting
            deeper than :data:`MAX_DEPTH`, integers longer than :data:`MAX_DIGITS`. The message says which, and
            quotes nothing of the text.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8, at byte {error.start}") from None
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    try:
        value = _decoded(_decoder_for(text), text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}, at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and _deeper_than(MAX_DEPTH, value):
        raise _too_deep()
    if _may_hold_surrogates(text) and not _encodable(value):
        raise ValueError("it holds half of a surrogate pair, which is no character")
    return value


def dumps(value: Value) -> bytes:
    """Write one JSON value, compact and in UTF-8. Tuples are arrays; subclasses are written as what they extend.

    Raises:
        TypeError: Something that has no JSON form, or an object's key that is not text.
        ValueError: NaN, an infinity, half of a surrogate pair, or a value that contains itself.
    """
    try:
        return _compact(value).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply to be written, or contains itself") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None


def to_text(value: Value) -> str:
    """A value within text or a URL: text as it is, anything else as :func:`dumps` writes it, with the same errors."""
    return value if type(value) is str else str.__str__(value) if isinstance(value, str) else dumps(value).decode()


def _compact(value: Value) -> str:  # noqa: PLR0911 - one line for each kind of value reads best
    if isinstance(value, str):
        return _quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, ExactFloat):
        return value.literal
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Mapping):
        return "{" + ",".join([f"{_quote(_key(key))}:{_compact(member)}" for key, member in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_compact, value)) + "]"
    raise TypeError(f"a {type(value).__name__} has no JSON form: give text, numbers, booleans, None, lists and dicts")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise TypeError(f"the key of a JSON object is text, not a {type(key).__name__}")


def _float_text(value: float) -> str:
    text = float.__repr__(value)
    if text in ("nan", "inf", "-inf"):
        raise ValueError(f"{text} has no JSON form")
    return text


def _no_constant(literal: str) -> NoReturn:
    raise ValueError(f"not JSON: {literal} is no JSON number")


def _exact_float(literal: str) -> ExactFloat:
    # What the class itself would do, without the detour over its metaclass: documents have many numbers.
    number = _new_float(ExactFloat, literal)
    number.literal = literal
    return number


def _checked_int(literal: str) -> int | float:
    if literal == "-0":
        return ExactFloat(literal)
    if len(literal.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"it holds an integer of more than {MAX_DIGITS} digits")
    return int(literal)


_DECODER: Final = json.JSONDecoder(parse_float=_exact_float, parse_constant=_no_constant)
_CHECKING_DECODER: Final = json.JSONDecoder(
    parse_float=_exact_float, parse_constant=_no_constant, parse_int=_checked_int
)


def _decoder_for(text: str) -> json.JSONDecoder:
    """Looking at every integer costs the accelerated reader its speed, so only texts that may need it pay."""
    if "-0" in text or (len(text) > MAX_DIGITS and _LONG_DIGITS.search(text)):
        return _CHECKING_DECODER
    return _DECODER


def _decoded(decoder: json.JSONDecoder, text: str) -> Value:
    """What ``decoder.decode`` gives, which looks for white space around every document with regular expressions."""
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError:
        # White space before it, or an error, which is told as it stands in the whole text.
        return decoder.decode(text)
    return value if not text[end:].strip(_WHITE_SPACE) else decoder.decode(text)


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _children(value: Value) -> Iterable[Value]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _deeper_than(limit: int, value: Value) -> bool:
    """Whether containers lie within each other more than ``limit`` times; level by level, so without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _may_hold_surrogates(text: str) -> bool:
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        return True
    return not (text.isascii() or _is_unicode(text))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encodable(value: Value) -> bool:
    """Whether every text in a value, members' names included, is Unicode."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            if not _is_unicode(node):
                return False
        elif isinstance(node, dict):
            pending += node
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return True

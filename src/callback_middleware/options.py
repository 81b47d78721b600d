"""What a callback may say about its own delivery: ``@deliver(…)`` and the vendor extension ``x-callback``.

All of it is data (or, for the payload, a pure function), so that a document can carry it too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from callback_middleware.errors import ConfigurationError
from callback_middleware.retry import RetryPolicy

Function = TypeVar("Function", bound=Callable[..., Any])

EXTENSION: Final = "x-callback"
"""The vendor extension on a callback's operation that carries what ``@deliver`` carries."""

_ATTRIBUTE: Final = "__callback_delivery__"


class Unset(enum.Enum):
    """Tells "not given" from None, which is a payload like any other."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET

StatusPattern: TypeAlias = int | str
"""``201``, ``"201"``, ``"2XX"``, or ``"default"`` for every status."""


@dataclass(frozen=True, slots=True)
class Statuses:
    """The response statuses after which a callback is sent.

    Patterns are those of the OpenAPI Responses Object: a code, a range such as ``2XX``, or ``default``.
    """

    codes: frozenset[int]
    text: str

    @classmethod
    def parse(cls, patterns: StatusPattern | Iterable[StatusPattern]) -> Statuses:
        """Raises :class:`ConfigurationError` for a pattern that matches no HTTP status."""
        listed = [patterns] if isinstance(patterns, int | str) else list(patterns)
        if not listed:
            raise ConfigurationError("on=() would never send: name at least one status, for example on='2XX'")
        codes = frozenset(code for pattern in listed for code in _codes(pattern))
        return cls(codes, ", ".join(str(pattern) for pattern in listed))

    def __contains__(self, status: int) -> bool:
        return status in self.codes

    def __str__(self) -> str:
        return self.text


def _codes(pattern: StatusPattern) -> Iterable[int]:
    text = str(pattern).upper()
    if text == "DEFAULT":
        return range(100, 600)
    if len(text) == 3 and text[0] in "12345" and not isinstance(pattern, bool):  # noqa: PLR2004 - a status has 3 digits
        if text[1:] == "XX":
            return range(int(text[0]) * 100, int(text[0]) * 100 + 100)
        if text.isascii() and text.isdigit():
            return (int(text),)
    raise ConfigurationError(f"on={pattern!r} is no status pattern: write a code (201), a range ('2XX') or 'default'")


SUCCESS: Final = Statuses.parse("2XX")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """How one callback is delivered.

    Attributes:
        payload: A constant, a JSON template whose strings may be runtime expressions, or a function of the
            :class:`~callback_middleware.exchange.Exchange`. Not given: only a handler sends this callback, unless
            its body is none, or the operation's own response.
        on: The statuses of the operation's response after which it is sent.
        delay: Sent this long after the response, at the earliest.
        retry: Instead of the middleware's policy.
        deadline: Bounds one attempt as a whole, instead of the middleware's.
        dynamic_host: Allow expressions in scheme, host or port of the destination.
        allow_credentials: Allow ``authorization``, ``proxy-authorization`` and ``cookie`` as sources.
        headers: Sent along; values are templates.
        params: Values of the callback's declared parameters where nobody sends them by hand; values are templates.
    """

    payload: Any = UNSET
    on: Statuses = SUCCESS
    delay: timedelta = timedelta()
    retry: RetryPolicy | None = None
    deadline: timedelta | None = None
    dynamic_host: bool = False
    allow_credentials: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


class DeliveryArguments(TypedDict, total=False):
    """What ``@deliver`` and the extension take: :class:`DeliveryOptions` as people write them.

    Durations are seconds or a timedelta, statuses patterns, a policy may be a mapping of its attributes.
    """

    payload: Any
    on: StatusPattern | Iterable[StatusPattern]
    delay: timedelta | float
    retry: RetryPolicy | Mapping[str, Any] | None
    deadline: timedelta | float | None
    dynamic_host: bool
    allow_credentials: bool
    headers: Mapping[str, str] | None
    params: Mapping[str, str] | None


def delivery_options(**given: Unpack[DeliveryArguments]) -> DeliveryOptions:
    """Options from what people write.

    Raises:
        ConfigurationError: A name that means nothing, or a value that makes no sense; the message names it.
    """
    known = [option.name for option in fields(DeliveryOptions)]
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise ConfigurationError(f"a delivery has no {', '.join(map(repr, unknown))}: it knows {', '.join(known)}")
    retry, deadline = given.get("retry"), given.get("deadline")
    return DeliveryOptions(
        payload=given.get("payload", UNSET),
        on=Statuses.parse(given.get("on", "2XX")),
        delay=duration("delay", given.get("delay", 0)),
        retry=RetryPolicy.from_dict(retry) if isinstance(retry, Mapping) else _expect("retry", retry, RetryPolicy),
        deadline=None if deadline is None else duration("deadline", deadline, positive=True),
        dynamic_host=_flag("dynamic_host", given.get("dynamic_host", False)),
        allow_credentials=_flag("allow_credentials", given.get("allow_credentials", False)),
        headers=_texts("headers", given.get("headers")),
        params=_texts("params", given.get("params")),
    )


def from_extension(value: object) -> DeliveryOptions:
    """Options from an ``x-callback`` object: the same names as ``@deliver``, durations in seconds.

    Raises:
        ConfigurationError: Not an object, or a name that means nothing here.
    """
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{EXTENSION} must be an object, not {type(value).__name__}")
    return delivery_options(**value)


def deliver(**options: Unpack[DeliveryArguments]) -> Callable[[Function], Function]:
    """Say how a callback is delivered, under the router's decorator.

    ::

        @invoice_callbacks.post("{$callback_url}/invoices/{$request.body.id}")
        @deliver(payload={"description": "Invoice {$request.body.id} received", "paid": False})
        def invoice_notification(body: InvoiceEvent): ...

    Args:
        options: The attributes of :class:`DeliveryOptions`, as :class:`DeliveryArguments` writes them.

    Raises:
        ConfigurationError: A name that means nothing or a value that makes no sense, at import.
    """
    compiled = delivery_options(**options)

    def attach(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, compiled)
        return function

    return attach


def options_of(function: object) -> DeliveryOptions:
    """What ``@deliver`` said of a function; the defaults where it said nothing."""
    options = getattr(function, _ATTRIBUTE, None)
    return options if isinstance(options, DeliveryOptions) else DeliveryOptions()


def duration(name: str, value: timedelta | float, *, positive: bool = False) -> timedelta:
    """A duration given in seconds or as a timedelta. Raises :class:`ConfigurationError` unless it is usable."""
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise ConfigurationError(f"{name}={value!r} is no duration: give seconds or a timedelta")
    try:
        result = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{name}={value!r} is no duration that a calendar can hold") from None
    if result < timedelta() or (positive and not result):
        raise ConfigurationError(f"{name}={value!r} must {'be positive' if positive else 'not be negative'}")
    return result


def _expect(name: str, value: Any, kind: type[RetryPolicy]) -> RetryPolicy | None:
    if value is None or isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name}={value!r} must be a {kind.__name__}")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}={value!r} must be true or false")


def _texts(name: Literal["headers", "params"], value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair):
        return dict(value)
    raise ConfigurationError(f"{name}={value!r} must map names to templates, both text")

"""What is wrong with an argument is said at once, where whoever gave it can still do something about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from callback_middleware.errors import ConfigurationError, PayloadInvalid, PlanningError
from callback_middleware.operations import Body, Callback, CallbackParameter
from callback_middleware.options import duration
from callback_middleware.planning import ParameterValue, text_of
from callback_middleware.templates import check_header_value
from callback_middleware.values import excerpt

Params: TypeAlias = Mapping[str, ParameterValue | Sequence[ParameterValue]]

Expiry: TypeAlias = timedelta | float | datetime
"""How long something is kept, in seconds or as timedelta, or until when; aware."""


def encoded(callback: object, declared: Body | None, body: object) -> bytes | None:
    """The bytes of a body, checked against what a callback declares; ``callback`` is named in what is raised."""
    if declared is None:
        if body is not None:
            raise PayloadInvalid(f"{callback} declares no body, and was given a {type(body).__name__}")
        return None
    if body is None and not declared.required:
        return None
    return declared.encode(body)


def checked_params(callback: Callback, given: Params) -> Params:
    """Values of a callback's declared parameters by their wire name, the required ones among them."""
    checked: dict[str, ParameterValue | Sequence[ParameterValue]] = {}
    for name, value in given.items():
        parameter = _declared(callback, name)
        if parameter.check is not None:
            parameter.check(value)
        for text in [value] if isinstance(value, ParameterValue) else value:
            problem = check_header_value(text_of(text)) if parameter.location == "header" else None
            if problem is not None:
                raise PayloadInvalid(f"{callback}: header parameter {name!r}: {problem}")
        checked[parameter.name] = value
    missing = [
        parameter.name
        for parameter in callback.parameters
        if parameter.required and parameter.name not in checked and parameter.name not in callback.params
    ]
    if missing:
        raise PayloadInvalid(f"{callback} requires the parameter {', '.join(map(repr, missing))}: give it in params=")
    return checked


def checked_delay(delay: timedelta | float | None, at: datetime | None) -> timedelta | None:
    """How long something waits; None where nothing was said, or ``at`` says it."""
    if delay is None:
        return None
    if at is not None:
        raise PlanningError("delay= and at= both say when: give one")
    return _duration("delay", delay)


def checked_at(at: datetime | None) -> datetime | None:
    """When something is due; aware."""
    return None if at is None else _aware("at", at)


def checked_expiry(expires: Expiry | None) -> timedelta | datetime | None:
    """How long something is kept, or until when; None for ever."""
    if expires is None:
        return None
    return _aware("expires", expires) if isinstance(expires, datetime) else _duration("expires", expires, positive=True)


def checked_key(name: str, key: object) -> str:
    """A key: text that is not empty, and that every outbox can keep."""
    if not isinstance(key, str) or not key:
        other = ", or None for keys that no client chooses" if name == "owner" else ""
        raise PlanningError(f"{name}={key!r} is no key: give text that is not empty{other}")
    if "\0" in key or not _is_unicode(key):
        # Clients choose keys, and no database keeps these characters: that is no failure of the outbox.
        raise PlanningError(f"{name}={excerpt(key)} is no key: NUL and lone surrogates cannot be kept")
    return key


def checked_dedupe(dedupe: str | None) -> str | None:
    """A key under which something is sent once, or None."""
    return None if dedupe is None else checked_key("dedupe", dedupe)


def checked_owner(owner: str | None) -> str | None:
    """Whose key it is; None for the application's own."""
    return None if owner is None else checked_key("owner", owner)


def checked_tags(tags: Mapping[str, str] | None) -> Mapping[str, str]:
    """Text by text, copied."""
    if tags and not all(isinstance(item, str) for pair in tags.items() for item in pair):
        raise PlanningError(f"tags={dict(tags)!r} must map text to text")
    return dict(tags or {})


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _declared(callback: Callback, name: str) -> CallbackParameter:
    for parameter in callback.parameters:
        if name in (parameter.name, parameter.python_name):
            return parameter
    declared = ", ".join(repr(parameter.name) for parameter in callback.parameters) or "none"
    raise PayloadInvalid(f"{callback} declares no parameter {name!r}; it declares {declared}")


def _duration(name: str, value: timedelta | float, *, positive: bool = False) -> timedelta:
    try:
        return duration(name, value, positive=positive)
    except ConfigurationError as error:
        raise PlanningError(str(error)) from None


def _aware(name: str, moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise PlanningError(f"{name}={moment.isoformat()} has no time zone: give an aware datetime")
    return moment

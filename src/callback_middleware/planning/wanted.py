"""What a handler asks for: values that wait in its request until the response is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from callback_middleware.operations import Callback

ParameterValue = str | int | float | bool

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def due_at(now: datetime, *, delay: timedelta | None, at: datetime | None) -> datetime:
    """When something is due that is put at ``now``; a time that has passed means now."""
    if at is not None:
        return max(now, at)
    return now if delay is None else now + delay


class Wanted(NamedTuple):
    """One callback that should be sent if the response allows it: at most one delivery comes of it, under this id.

    Attributes:
        id: The id that the delivery will have.
        callback: The callback that it is for.
        body: The exact bytes to send, checked and encoded; None for none.
        params: Values of the callback's declared parameters, by their name on the wire.
        delay: Sent this long after the response, at the earliest; None for what the callback says.
        at: Sent at this time, aware, at the earliest.
        dedupe: At most one delivery per callback and key in 24 hours.
        tags: Searchable by operators.
    """

    id: UUID
    callback: Callback
    body: bytes | None
    params: Mapping[str, ParameterValue | Sequence[ParameterValue]] = _NONE
    delay: timedelta | None = None
    at: datetime | None = None
    dedupe: str | None = None
    tags: Mapping[str, str] = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSubscription:
    """A callback's destination that should be kept under a key, as it is in this exchange.

    Attributes:
        callback: The callback that it is for.
        key: Which one, as the application knows it.
        owner: Whose key it is; None for the application's own.
        expires: How long it is kept, or until when, aware; None for until it is ended.
        params: Values of the callback's declared parameters, by their name on the wire.
        tags: Of every notification that is sent to it.
    """

    callback: Callback
    key: str
    owner: str | None
    expires: timedelta | datetime | None = None
    params: Mapping[str, ParameterValue | Sequence[ParameterValue]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNotification:
    """One body that should go to whoever has subscribed a key. The exchange has no part in it but its success.

    Attributes:
        id: The id that the delivery will have.
        operation: One that documents the callback, as ``POST /invoices/``.
        callback: The callback's name.
        key: Whose subscription: the key of it.
        owner: Whose subscription: the owner of the key.
        body: The exact bytes to send, checked and encoded; None for none.
        headers: Its content type.
        delay: Sent this long after the response, at the earliest.
        at: Sent at this time, aware, at the earliest.
        dedupe: At most one delivery per callback and key in 24 hours.
        tags: Searchable by operators, beside the subscription's.
    """

    id: UUID
    operation: str
    callback: str
    key: str
    owner: str | None
    body: bytes | None
    headers: Sequence[tuple[str, str]] = ()
    delay: timedelta | None = None
    at: datetime | None = None
    dedupe: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def due(self, now: datetime) -> datetime:
        """When it is due if it is put at ``now``."""
        return due_at(now, delay=self.delay, at=self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedEnd:
    """A subscription that should be over.

    Attributes:
        operation: One that documents the callback, as ``POST /invoices/``.
        callback: The callback's name.
        key: The key of the subscription.
        owner: The owner of the key.
    """

    operation: str
    callback: str
    key: str
    owner: str | None


Asked: TypeAlias = Wanted | WantedSubscription | WantedNotification | WantedEnd

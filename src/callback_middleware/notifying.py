"""What jobs and other processes say: the same as handlers, to the outbox itself, and at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Concatenate, Final, TypeVar, overload
from uuid import UUID

from callback_middleware.clock import SystemClock
from callback_middleware.errors import BacklogFull, NobodySubscribed
from callback_middleware.identifiers import uuid7
from callback_middleware.operations import Body
from callback_middleware.planning import due_at
from callback_middleware.ports import Batch, Clock, Outbox
from callback_middleware.putting import put
from callback_middleware.sources.encoding import JSON, json_bytes
from callback_middleware.sources.functions import body_of
from callback_middleware.staging.arguments import (
    checked_at,
    checked_dedupe,
    checked_delay,
    checked_key,
    checked_owner,
    checked_tags,
    encoded,
)
from callback_middleware.subscription import Notification, SubscriptionKey
from callback_middleware.values import excerpt

__all__ = ["notify", "unsubscribe"]

B = TypeVar("B")


@overload
async def notify(
    outbox: Outbox,
    callback: Callable[Concatenate[B, ...], object],
    body: B,
    *,
    key: str,
    owner: str | None,
    delay: timedelta | float | None = ...,
    at: datetime | None = ...,
    dedupe: str | None = ...,
    tags: Mapping[str, str] | None = ...,
    clock: Clock | None = ...,
) -> UUID: ...


@overload
async def notify(
    outbox: Outbox,
    callback: Callable[..., object] | str,
    body: object = None,
    *,
    key: str,
    owner: str | None,
    delay: timedelta | float | None = ...,
    at: datetime | None = ...,
    dedupe: str | None = ...,
    tags: Mapping[str, str] | None = ...,
    clock: Clock | None = ...,
) -> UUID: ...


async def notify(
    outbox: Outbox,
    callback: Callable[..., object] | str,
    body: object = None,
    *,
    key: str,
    owner: str | None,
    delay: timedelta | float | None = None,
    at: datetime | None = None,
    dedupe: str | None = None,
    tags: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> UUID:
    """Notify whoever has subscribed a key, from where there is no request.

    On return it is in the outbox, as safe as that keeps it; some dispatcher on the same outbox sends it. Works on
    asyncio and trio. An outcome that is not known is put again for five seconds, under the same id.

    Args:
        outbox: That of the application that subscribed.
        callback: The callback's function, whose declared body is checked and whose name is the callback's; or its
            name, and then nothing is checked.
        body: What the function declares. By name: JSON text as bytes, anything that JSON can say, a Pydantic model,
            or None for no body.
        key: That of ``callbacks.subscribe``.
        owner: That of ``callbacks.subscribe``: another's key is as good as none.
        delay: Not before this long from now: seconds or a timedelta.
        at: Not before this time; aware. Not together with ``delay``.
        dedupe: A key under which this subscription is notified once in 24 hours: a job that runs again sends once.
        tags: Searchable by operators, beside the subscription's.
        clock: Says what time it is; default the system's.

    Returns:
        The id of the delivery. A used ``dedupe`` key makes none, and no error.

    Raises:
        NobodySubscribed: This owner has not subscribed the key, or no longer.
        PayloadInvalid: The body does not fit what the callback's function declares, or has no JSON form.
        PlanningError: Key, owner, time or tags make no sense.
        ConfigurationError: What the function declares cannot be read.
        BacklogFull: Too many wait for the same receiver or owner. Not stored, and ``dedupe`` is not used: try later.
        OutboxUnavailable: Certainly not stored.
        OutboxUncertain: Perhaps stored. With a ``dedupe`` key calling again sends once.
    """
    name, declared = _callback(callback)
    content = encoded(name, declared, body)
    now = (clock or SystemClock()).now()
    notification = Notification(
        id=uuid7(now, os.urandom(10)),
        key=SubscriptionKey(name, checked_key("key", key), checked_owner(owner)),
        body=content,
        headers=() if content is None or declared is None else (("content-type", declared.media_type),),
        created_at=now,
        due_at=due_at(now, delay=checked_delay(delay, at), at=checked_at(at)),
        dedupe=checked_dedupe(dedupe),
        tags=checked_tags(tags),
    )
    report = await put(outbox, Batch(notify=[notification]))
    if notification.id in report.unsubscribed:
        raise NobodySubscribed(
            f"this owner has no subscription of the key {excerpt(key)} of callback {name!r}, or no longer: "
            "nothing is sent (callbacks.subscribe(…) makes one, in a handler of an operation that documents it)"
        )
    if notification.id in report.refused:
        raise BacklogFull(
            f"the backlog is full, and this notification of callback {name!r} is not stored: "
            f"{report.refused[notification.id].detail}"
        )
    return notification.id


async def unsubscribe(outbox: Outbox, callback: Callable[..., object] | str, *, key: str, owner: str | None) -> None:
    """End a subscription. One that is not there, or is another owner's, is no error.

    Args:
        outbox: That of the application that subscribed.
        callback: The callback's function, or its name.
        key: That of ``callbacks.subscribe``.
        owner: That of ``callbacks.subscribe``.

    Raises:
        PlanningError: Key or owner make no sense.
        OutboxUnavailable: Certainly not ended.
        OutboxUncertain: Perhaps ended; call again.
    """
    name = callback if isinstance(callback, str) else _name(callback)
    await put(outbox, Batch(end=[SubscriptionKey(name, checked_key("key", key), checked_owner(owner))]))


def _as_given(body: object) -> bytes:
    return body if isinstance(body, bytes) else json_bytes(body)


_ANYTHING: Final = Body(JSON, required=False, encode=_as_given)
"""What is known of the body of a callback that is only named."""


def _callback(callback: Callable[..., object] | str) -> tuple[str, Body | None]:
    if isinstance(callback, str):
        return callback, _ANYTHING
    return _name(callback), body_of(callback)


def _name(function: Callable[..., object]) -> str:
    # As FastAPI names a route.
    return getattr(function, "__name__", type(function).__name__)

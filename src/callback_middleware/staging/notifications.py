"""What any request may stage: notifications to the subscriptions of earlier ones, and their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Concatenate, Final, NamedTuple, TypeVar, overload
from uuid import UUID

from callback_middleware.errors import PlanningError
from callback_middleware.planning import Asked, WantedEnd, WantedNotification
from callback_middleware.staging.arguments import (
    checked_at,
    checked_dedupe,
    checked_delay,
    checked_key,
    checked_owner,
    checked_tags,
)
from callback_middleware.staging.catalogue import Catalogue

B = TypeVar("B")

NOTHING: Final = Catalogue(lambda: ())
"""Of an application that documents no callbacks."""


class Staged(NamedTuple):
    """What ``send`` and ``notify`` answer: the id that the delivery will have, if one comes of it."""

    id: UUID


class Notifications:
    """The part of :class:`~callback_middleware.staging.Callbacks` that needs no callback of the operation's own."""

    def __init__(self, *, new_id: Callable[[], UUID], catalogue: Catalogue = NOTHING, enabled: bool = True) -> None:
        self._new_id = new_id
        self._catalogue = catalogue
        self._enabled = enabled
        self._staged: list[Asked] = []
        self._closed = False

    @overload
    def notify(
        self,
        callback: Callable[Concatenate[B, ...], object],
        body: B,
        *,
        key: str,
        owner: str | None,
        delay: timedelta | float | None = ...,
        at: datetime | None = ...,
        dedupe: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Staged: ...

    @overload
    def notify(
        self,
        callback: Callable[..., object] | str,
        body: object = None,
        *,
        key: str,
        owner: str | None,
        delay: timedelta | float | None = ...,
        at: datetime | None = ...,
        dedupe: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Staged: ...

    def notify(
        self,
        callback: Callable[..., object] | str,
        body: object = None,
        *,
        key: str,
        owner: str | None,
        delay: timedelta | float | None = None,
        at: datetime | None = None,
        dedupe: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Staged:
        """Stage one notification to whoever has subscribed a key. Any operation may: it need not document anything.

        Where it goes, the outbox knows when it stores it. If nobody has subscribed the key by then, nothing is sent,
        which the log and observers are told as ``nobody subscribed``.

        Args:
            callback: The callback's function, or its name, as some operation of the application documents it.
            body: Checked at once against the model or schema that the callback declares, and encoded.
            key: That of :meth:`subscribe`.
            owner: That of :meth:`subscribe`: another's key is as good as none.
            delay: Not before this long after the response: seconds or a timedelta.
            at: Not before this time; aware. Not together with ``delay``.
            dedupe: A key under which this subscription is notified once in 24 hours.
            tags: Searchable by operators, beside the subscription's.

        Returns:
            What was staged; its ``id`` is the delivery's, if one comes of it.

        Raises:
            CallbackNotFound: The application documents no such callback.
            AmbiguousCallback: It documents several, of different names or with bodies that differ.
            PayloadInvalid: The body does not fit the callback's declaration.
            PlanningError: Key, owner, time or tags make no sense, or the request has ended.
        """
        self._check_open()
        identifier = self._new_id()
        if self._enabled:
            documented = self._catalogue.find(callback)
            content, headers = documented.encode(body)
            self._staged.append(
                WantedNotification(
                    id=identifier,
                    operation=documented.operation,
                    callback=documented.name,
                    key=checked_key("key", key),
                    owner=checked_owner(owner),
                    body=content,
                    headers=headers,
                    delay=checked_delay(delay, at),
                    at=checked_at(at),
                    dedupe=checked_dedupe(dedupe),
                    tags=checked_tags(tags),
                )
            )
        return Staged(identifier)

    def unsubscribe(self, callback: Callable[..., object] | str, *, key: str, owner: str | None) -> None:
        """Stage the end of a subscription. One that is not there, or is another owner's, is no error.

        Args:
            callback: The callback's function, or its name, as some operation of the application documents it.
            key: That of :meth:`subscribe`.
            owner: That of :meth:`subscribe`.

        Raises:
            CallbackNotFound: The application documents no such callback.
            AmbiguousCallback: It documents several, of different names.
            PlanningError: Key or owner make no sense, or the request has ended.
        """
        self._check_open()
        if self._enabled:
            documented = self._catalogue.find(callback)
            self._staged.append(
                WantedEnd(
                    operation=documented.operation,
                    callback=documented.name,
                    key=checked_key("key", key),
                    owner=checked_owner(owner),
                )
            )

    def take_staged(self) -> Sequence[Asked]:
        """What was staged since the last call. The middleware's, not a handler's."""
        taken, self._staged = self._staged, []
        return taken

    def give_back(self, staged: Sequence[Asked]) -> None:
        """Stage again, before what was staged meanwhile, what was taken and has come to nothing."""
        self._staged[:0] = staged

    def close(self) -> None:
        """Refuse whatever is staged from now on: nobody would look. The middleware's, not a handler's."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise PlanningError("the request has ended: nothing staged now would ever be sent")

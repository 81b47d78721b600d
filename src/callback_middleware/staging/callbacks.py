"""What handlers say: :class:`Callbacks`, one object per request, that remembers and does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Concatenate, TypeVar, overload
from uuid import UUID

from callback_middleware.errors import CallbackNotFound
from callback_middleware.operations import Callback, Operation
from callback_middleware.planning import Wanted, WantedSubscription
from callback_middleware.staging.arguments import (
    Expiry,
    Params,
    checked_at,
    checked_dedupe,
    checked_delay,
    checked_expiry,
    checked_key,
    checked_owner,
    checked_params,
    checked_tags,
    encoded,
)
from callback_middleware.staging.catalogue import Catalogue
from callback_middleware.staging.notifications import NOTHING, Notifications, Staged

B = TypeVar("B")


class Callbacks(Notifications):
    """The callbacks of one request, in its handler's hands.

    Nothing here waits or sends: what is staged is planned when the response is known to be a success, put in the
    outbox before the client can have the whole of it, and dropped if the handler raises or answers otherwise.
    Whatever a request stages is stored together or not at all: subscriptions first, then notifications, then ends,
    but one that is unsubscribed and then subscribed anew is there.
    Safe to use from the threads that ``def`` handlers run in.
    """

    def __init__(
        self,
        operation: Operation | None,
        *,
        new_id: Callable[[], UUID],
        catalogue: Catalogue = NOTHING,
        enabled: bool = True,
    ) -> None:
        super().__init__(new_id=new_id, catalogue=catalogue, enabled=enabled)
        self._operation = operation

    @overload
    def send(
        self,
        callback: Callable[Concatenate[B, ...], object],
        body: B,
        *,
        params: Params | None = ...,
        delay: timedelta | float | None = ...,
        at: datetime | None = ...,
        dedupe: str | None = ...,
        tags: Mapping[str, str] | None = ...,
        expression: str | None = ...,
        method: str | None = ...,
    ) -> Staged: ...

    @overload
    def send(
        self,
        callback: Callable[..., object] | str,
        body: object = None,
        *,
        params: Params | None = ...,
        delay: timedelta | float | None = ...,
        at: datetime | None = ...,
        dedupe: str | None = ...,
        tags: Mapping[str, str] | None = ...,
        expression: str | None = ...,
        method: str | None = ...,
    ) -> Staged: ...

    def send(
        self,
        callback: Callable[..., object] | str,
        body: object = None,
        *,
        params: Params | None = None,
        delay: timedelta | float | None = None,
        at: datetime | None = None,
        dedupe: str | None = None,
        tags: Mapping[str, str] | None = None,
        expression: str | None = None,
        method: str | None = None,
    ) -> Staged:
        """Stage one callback of this operation, at most one delivery.

        Args:
            callback: The callback's function, or its name.
            body: Checked at once against the model or schema that the callback declares, and encoded.
            params: The callback's own declared header, query and path parameters, by wire or Python name.
            delay: Not before this long after the response: seconds or a timedelta.
            at: Not before this time; aware. Not together with ``delay``.
            dedupe: A key under which this callback is sent once in 24 hours, such as the client's
                ``Idempotency-Key``.
            tags: Searchable by operators.
            expression: Which one, as written, where the callback has several expressions.
            method: Which one, where the expression has several methods.

        Returns:
            What was staged; its ``id`` is the delivery's, if one comes of it.

        Raises:
            CallbackNotFound: The operation documents no such callback.
            AmbiguousCallback: It documents several that fit.
            PayloadInvalid: Body or params do not fit the callback's declaration.
            PlanningError: Time, key or tags make no sense, or the request has ended.
        """
        self._check_open()
        identifier = self._new_id()
        if self._enabled:
            chosen = self._find(callback, expression, method)
            self._staged.append(
                Wanted(
                    id=identifier,
                    callback=chosen,
                    body=encoded(chosen, chosen.body, body),
                    params=checked_params(chosen, params or {}),
                    delay=checked_delay(delay, at),
                    at=checked_at(at),
                    dedupe=checked_dedupe(dedupe),
                    tags=checked_tags(tags),
                )
            )
        return Staged(identifier)

    def subscribe(
        self,
        callback: Callable[..., object] | str,
        *,
        key: str,
        owner: str | None,
        expires: Expiry | None = None,
        params: Params | None = None,
        tags: Mapping[str, str] | None = None,
        expression: str | None = None,
        method: str | None = None,
    ) -> None:
        """Stage that this callback's destination, as it is in this exchange, is kept under a key for :meth:`notify`.

        The same owner's subscription of the key is replaced. If the key is another owner's, nothing that this request
        staged is stored, and its client gets a 409.

        Args:
            callback: The callback's function, or its name.
            key: Which one, as your application knows it: an invoice's id.
            owner: The principal that the key belongs to, as your authentication knows it. None, said explicitly, for
                keys that your application makes and no client can choose.
            expires: It is over after so many seconds, or a timedelta, or at an aware datetime. By default it is there
                until it is ended: by :meth:`unsubscribe`, or by a receiver that answers 410.
            params: The callback's own declared header, query and path parameters, by wire or Python name.
            tags: Every notification has them too.
            expression: Which one, as written, where the callback has several expressions.
            method: Which one, where the expression has several methods.

        Raises:
            CallbackNotFound: The operation documents no such callback.
            AmbiguousCallback: It documents several that fit.
            PayloadInvalid: Params do not fit the callback's declaration.
            PlanningError: Key, owner, time or tags make no sense, or the request has ended.
        """
        self._check_open()
        if self._enabled:
            chosen = self._find(callback, expression, method)
            self._staged.append(
                WantedSubscription(
                    callback=chosen,
                    key=checked_key("key", key),
                    owner=checked_owner(owner),
                    expires=checked_expiry(expires),
                    params=checked_params(chosen, params or {}),
                    tags=checked_tags(tags),
                )
            )

    def _find(self, callback: Callable[..., object] | str, expression: str | None, method: str | None) -> Callback:
        if self._operation is None:
            raise CallbackNotFound("this operation documents no callbacks: declare them with callbacks=…")
        return self._operation.find(callback, expression=expression, method=method)

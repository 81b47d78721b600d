"""What handlers say: :class:`Callbacks`, one object per request, that remembers and does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Concatenate, Protocol, TypeVar, overload
from uuid import UUID

from callback_middleware.errors import CallbackNotFound
from callback_middleware.operations import Callback, Operation
from callback_middleware.planning import Asked, Wanted, WantedSubscription
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


class Joining(Protocol):
    """Puts what a request staged in a transaction of its handler's. False if it is to stay staged."""

    async def join(self, connection: object, staged: Sequence[Asked]) -> bool:
        """On a connection that is waited for."""
        ...

    def join_sync(self, connection: object, staged: Sequence[Asked]) -> bool:
        """On a connection that blocks."""
        ...


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
        joining: Callable[[], Joining] | None = None,
    ) -> None:
        super().__init__(new_id=new_id, catalogue=catalogue, enabled=enabled)
        self._operation = operation
        self._joining = joining

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

    async def commit_with(self, connection: object) -> None:
        """Put everything that was staged so far in your own transaction: it exists exactly if that is committed.

        It is evaluated now, and is no longer staged; what is staged later is put with the response, or by another
        ``commit_with``. The transaction decides, and not the status: what was committed is sent whatever the handler
        answers, and what was rolled back is not. It must have ended before the response is complete.

        Whatever it raises, nothing was put, all is staged as before, and the transaction can go on.

        Args:
            connection: Yours, to the database that the outbox is in, with your transaction open on it: what the outbox'
                documentation names.

        Raises:
            PlanningError: A callback needs something of the response, or has an ``on=`` of its own; or the request has
                ended.
            SubscriptionExists: A key is another owner's.
            ConfigurationError: The outbox cannot join a transaction, or not on this connection; the message says why.
            OutboxUnavailable: The database refused.
        """
        joining = self._joins()
        if joining is not None:
            staged = self.take_staged()
            put = False
            try:
                put = await joining.join(connection, staged)
            finally:
                if not put:
                    self.give_back(staged)

    def commit_with_sync(self, connection: object) -> None:
        """As :meth:`commit_with`, for a connection that blocks: in a ``def`` handler, in the handler's own thread."""
        joining = self._joins()
        if joining is not None:
            staged = self.take_staged()
            put = False
            try:
                put = joining.join_sync(connection, staged)
            finally:
                if not put:
                    self.give_back(staged)

    def close(self) -> None:
        super().close()
        self._joining = None

    def _joins(self) -> Joining | None:
        self._check_open()
        return None if self._joining is None else self._joining()

    def _find(self, callback: Callable[..., object] | str, expression: str | None, method: str | None) -> Callback:
        if self._operation is None:
            raise CallbackNotFound("this operation documents no callbacks: declare them with callbacks=…")
        return self._operation.find(callback, expression=expression, method=method)

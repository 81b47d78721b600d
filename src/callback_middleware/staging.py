"""What handlers say: :class:`Callbacks`, one object per request, that remembers and does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Concatenate, Final, Protocol, TypeVar, overload
from uuid import UUID

from callback_middleware.errors import CallbackNotFound, ConfigurationError, NotMounted, PayloadInvalid, PlanningError
from callback_middleware.operations import Callback, CallbackParameter, Operation
from callback_middleware.options import duration
from callback_middleware.planning import ParameterValue, Wanted, text_of
from callback_middleware.templates import check_header_value

__all__ = ["SCOPE_KEY", "Callbacks", "Params", "Staged", "callbacks_of"]

B = TypeVar("B")

Params = Mapping[str, ParameterValue | Sequence[ParameterValue]]

SCOPE_KEY: Final = "callback_middleware"
"""Where a request's scope holds who owns its callbacks."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What ``send`` answers: the id that the delivery will have, if one comes of it."""

    id: UUID


class Owner(Protocol):
    """What the middleware leaves in the scope."""

    def callbacks(self, scope: MutableMapping[str, Any]) -> Callbacks:
        """This request's callbacks; from now on none is sent by itself."""
        ...


def callbacks_of(scope: MutableMapping[str, Any]) -> Callbacks:
    """The callbacks of the request that a scope belongs to.

    Raises:
        NotMounted: No ``CallbackMiddleware`` owns the request.
    """
    owner: Owner | None = scope.get(SCOPE_KEY)
    if owner is None:
        raise NotMounted(
            f"{scope.get('method', 'this')} {scope.get('path', 'request')} asked for its callbacks, and no "
            "CallbackMiddleware is mounted: app.add_middleware(CallbackMiddleware)"
        )
    return owner.callbacks(scope)


class Callbacks:
    """The callbacks of one request, in its handler's hands.

    Nothing here waits or sends: what is staged is planned when the response is known to be a success, put in the
    outbox before the client can have the whole of it, and dropped if the handler raises or answers otherwise.
    Safe to use from the threads that ``def`` handlers run in.
    """

    def __init__(self, operation: Operation | None, *, new_id: Callable[[], UUID], enabled: bool = True) -> None:
        self._operation = operation
        self._new_id = new_id
        self._enabled = enabled
        self._staged: list[Wanted] = []
        self._ended = False

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
        """Stage one notification, at most one delivery.

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
        if self._ended:
            raise PlanningError("the request has ended: nothing staged now would ever be sent")
        identifier = self._new_id()
        if not self._enabled:
            return Staged(identifier)
        if self._operation is None:
            raise CallbackNotFound("this operation documents no callbacks: declare them with callbacks=…")
        chosen = self._operation.find(callback, expression=expression, method=method)
        self._staged.append(
            Wanted(
                id=identifier,
                callback=chosen,
                body=_encode(chosen, body),
                params=_params(chosen, params or {}),
                delay=_delay(delay, at),
                at=_at(at),
                dedupe=_key(dedupe),
                tags=_tags(tags),
            )
        )
        return Staged(identifier)

    def take(self) -> Sequence[Wanted]:
        """What was staged since the last call. The middleware's, not a handler's."""
        taken, self._staged = self._staged, []
        return taken

    def end(self) -> None:
        """Refuse whatever is staged from now on: nobody would look. The middleware's, not a handler's."""
        self._ended = True


def _encode(callback: Callback, body: object) -> bytes | None:
    if callback.body is None:
        if body is not None:
            raise PayloadInvalid(f"{callback} declares no body, and was given a {type(body).__name__}")
        return None
    if body is None and not callback.body.required:
        return None
    return callback.body.encode(body)


def _params(callback: Callback, given: Params) -> Params:
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


def _declared(callback: Callback, name: str) -> CallbackParameter:
    for parameter in callback.parameters:
        if name in (parameter.name, parameter.python_name):
            return parameter
    declared = ", ".join(repr(parameter.name) for parameter in callback.parameters) or "none"
    raise PayloadInvalid(f"{callback} declares no parameter {name!r}; it declares {declared}")


def _delay(delay: timedelta | float | None, at: datetime | None) -> timedelta | None:
    if delay is None:
        return None
    if at is not None:
        raise PlanningError("delay= and at= both say when: give one")
    try:
        return duration("delay", delay)
    except ConfigurationError as error:
        raise PlanningError(str(error)) from None


def _at(at: datetime | None) -> datetime | None:
    if at is not None and at.utcoffset() is None:
        raise PlanningError(f"at={at.isoformat()} has no time zone: give an aware datetime")
    return at


def _key(dedupe: object) -> str | None:
    if dedupe is None or (isinstance(dedupe, str) and dedupe):
        return dedupe
    raise PlanningError(f"dedupe={dedupe!r} is no key: give text that is not empty, or None")


def _tags(tags: Mapping[str, str] | None) -> Mapping[str, str]:
    if tags and not all(isinstance(item, str) for pair in tags.items() for item in pair):
        raise PlanningError(f"tags={dict(tags)!r} must map text to text")
    return dict(tags or {})

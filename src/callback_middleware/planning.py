"""From an exchange and what was staged in it to plans: what should be sent, before any of it is durable.

Pure: the same exchange plans the same. Every callback that is not sent has a :class:`Skip` with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from callback_middleware.destinations import Destination
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import EgressRefused, PayloadInvalid
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import Reason, Unresolved
from callback_middleware.operations import Callback, CallbackParameter, Operation
from callback_middleware.retry import RetryPolicy
from callback_middleware.templates import PayloadTemplate, check_header_value

ParameterValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
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
    params: Mapping[str, ParameterValue | Sequence[ParameterValue]] = field(default_factory=dict)
    delay: timedelta | None = None
    at: datetime | None = None
    dedupe: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One request that should be sent. The meaning of each attribute is that of the delivery it becomes."""

    id: UUID
    operation: str
    callback: str
    method: str
    destination: Destination
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    delay: timedelta
    at: datetime | None
    retry: RetryPolicy | None
    deadline: timedelta | None
    dedupe: str | None
    tags: Mapping[str, str]

    def due(self, now: datetime) -> datetime:
        """When it is due if it is put at ``now``; a time that has passed means now."""
        return now + self.delay if self.at is None else max(now, self.at)


@dataclass(frozen=True, slots=True)
class Skip:
    """A callback that is not sent, and why.

    Attributes:
        operation: As ``POST /invoices/``.
        callback: The callback's name.
        reason: One of the fixed reasons.
        detail: The cause in words; what a stranger typed is escaped and cut in it.
        expression: The expression that it hangs on, where it does.
        id: What ``send`` returned, where a handler staged it.
    """

    operation: str
    callback: str
    reason: Reason
    detail: str = ""
    expression: str = ""
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """Everything that came of one exchange."""

    plans: Sequence[Plan] = ()
    skips: Sequence[Skip] = ()


def plan(
    operation: Operation,
    exchange: Exchange,
    staged: Sequence[Wanted] | None,
    *,
    egress: EgressPolicy,
    new_id: Callable[[], UUID],
) -> Planned:
    """Plan one exchange whose response is known.

    Args:
        operation: The operation that was matched.
        exchange: Request and response, as far as they were captured.
        staged: What the handler asked for; None where it never took its callbacks in hand, and then those that
            send themselves do.
        egress: Asked about every destination's text. The address is asked about when connecting.
        new_id: Makes the ids of callbacks that send themselves.
    """
    plans: list[Plan] = []
    skips: list[Skip] = []
    for wanted in _automatic(operation, new_id) if staged is None else staged:
        result = _plan_one(operation, exchange, wanted, automatic=staged is None, egress=egress)
        if isinstance(result, Plan):
            plans.append(result)
        else:
            skips.append(result)
    return Planned(plans, skips)


def drop(operation: Operation, staged: Iterable[Wanted], detail: str) -> Planned:
    """Skip everything that was staged: the handler did not come to a response."""
    return Planned(skips=[_skip(operation, wanted, Reason.STATUS, detail) for wanted in staged])


def _automatic(operation: Operation, new_id: Callable[[], UUID]) -> Iterable[Wanted]:
    for callback in operation.automatic:
        yield Wanted(id=new_id(), callback=callback, body=None)


def _plan_one(  # noqa: PLR0911 - every return but the last is one reason
    operation: Operation, exchange: Exchange, wanted: Wanted, *, automatic: bool, egress: EgressPolicy
) -> Plan | Skip:
    callback = wanted.callback
    status = exchange.response_status
    if status is None or status not in callback.options.on:
        return _skip(
            operation, wanted, Reason.STATUS, f"the response is {status}, it is sent after {callback.options.on}"
        )
    params = _params(callback, exchange, wanted)
    if isinstance(params, Unresolved):
        return _unresolved(operation, wanted, params)
    destination = callback.destination.resolve(exchange, params=params.path, query=params.query)
    if isinstance(destination, Unresolved):
        return _unresolved(operation, wanted, destination)
    refusal = _refusal(egress, destination)
    if refusal is not None:
        return _skip(operation, wanted, Reason.REFUSED, str(refusal), callback.expression)
    headers = _headers(callback, exchange, params)
    if isinstance(headers, Unresolved):
        return _unresolved(operation, wanted, headers)
    # Last, because a payload function is the only part that may be expensive, and only now is it known to be of use.
    body = _payload(callback, exchange) if automatic else wanted.body
    if isinstance(body, Unresolved):
        return _unresolved(operation, wanted, body)
    if body is not None and callback.body is not None:
        headers = [("content-type", callback.body.media_type), *headers]
    return Plan(
        id=wanted.id,
        operation=str(operation),
        callback=callback.name,
        method=callback.method,
        destination=destination,
        headers=headers,
        body=body,
        delay=callback.options.delay if wanted.delay is None else wanted.delay,
        at=wanted.at,
        retry=callback.options.retry,
        deadline=callback.options.deadline,
        dedupe=wanted.dedupe,
        tags=wanted.tags,
    )


@dataclass(frozen=True, slots=True)
class _Params:
    """The callback's parameters by where they go, values as text."""

    path: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]


_NO_PARAMS = _Params({}, (), ())


def _params(callback: Callback, exchange: Exchange, wanted: Wanted) -> _Params | Unresolved:
    if not callback.parameters:
        return _NO_PARAMS
    path: dict[str, str] = {}
    pairs: dict[str, list[tuple[str, str]]] = {"query": [], "header": []}
    for parameter in callback.parameters:
        values = _values(callback, parameter, exchange, wanted)
        if isinstance(values, Unresolved):
            return values
        if parameter.location == "path":
            path.update((parameter.name, value) for value in values)
        else:
            pairs[parameter.location].extend((parameter.name, value) for value in values)
    return _Params(path, pairs["query"], pairs["header"])


def _values(
    callback: Callback, parameter: CallbackParameter, exchange: Exchange, wanted: Wanted
) -> Sequence[str] | Unresolved:
    if parameter.name in wanted.params:
        given = wanted.params[parameter.name]
        return [text_of(value) for value in ([given] if isinstance(given, ParameterValue) else given)]
    template = callback.params.get(parameter.name)
    if template is None:
        return ()
    value = template.evaluate(exchange)
    return value if isinstance(value, Unresolved) else [value]


def text_of(value: ParameterValue) -> str:
    """A parameter's value as text: booleans as JSON writes them."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _headers(callback: Callback, exchange: Exchange, params: _Params) -> list[tuple[str, str]] | Unresolved:
    headers: list[tuple[str, str]] = []
    for name, template in callback.headers:
        value = template.evaluate(exchange)
        if isinstance(value, Unresolved):
            return value
        headers.append((name, value))
    headers.extend((name.lower(), value) for name, value in params.headers)
    for name, value in headers:
        problem = check_header_value(value)
        if problem is not None:
            return Unresolved(Reason.REFUSED, callback.expression, f"header {name!r}: {problem}")
    return headers


def _payload(callback: Callback, exchange: Exchange) -> bytes | Unresolved | None:
    if callback.payload is None or callback.body is None:
        return None
    value: Any
    if isinstance(callback.payload, PayloadTemplate):
        value = callback.payload.evaluate(exchange)
        if isinstance(value, Unresolved):
            return value
    else:
        try:
            value = callback.payload(exchange)
        except Exception as error:  # noqa: BLE001 - the function is the application's: whatever it raises is a reason, not a crash
            return Unresolved(Reason.NO_PAYLOAD, callback.expression, f"the payload function raised {error!r}")
        if value is None:
            return Unresolved(Reason.NO_PAYLOAD, callback.expression, "the payload function returned None")
    try:
        return callback.body.encode(value)
    except PayloadInvalid as error:
        return Unresolved(Reason.INVALID_PAYLOAD, callback.expression, str(error))


def _refusal(egress: EgressPolicy, destination: Destination) -> EgressRefused | None:
    try:
        egress.check_url(destination.url)
    except EgressRefused as refused:
        return refused
    return None


def _skip(operation: Operation, wanted: Wanted, reason: Reason, detail: str, expression: str = "") -> Skip:
    return Skip(str(operation), wanted.callback.name, reason, detail, expression, wanted.id)


def _unresolved(operation: Operation, wanted: Wanted, cause: Unresolved) -> Skip:
    return _skip(operation, wanted, cause.reason, cause.detail, cause.expression)

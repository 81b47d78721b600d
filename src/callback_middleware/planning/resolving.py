"""What one callback's request is in one exchange: its destination, parameters and headers, and the payload it declares.

Each part is a value, or :class:`~callback_middleware.values.Unresolved` with the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from callback_middleware.destinations import Destination
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import EgressRefused, PayloadInvalid
from callback_middleware.exchange import Exchange
from callback_middleware.operations import Callback, CallbackParameter
from callback_middleware.planning.wanted import ParameterValue
from callback_middleware.templates import PayloadTemplate, check_header_value
from callback_middleware.values import Reason, Unresolved

GivenParams: TypeAlias = Mapping[str, ParameterValue | Sequence[ParameterValue]]


def text_of(value: ParameterValue) -> str:
    """A parameter's value as text: booleans as JSON writes them."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def resolve(
    callback: Callback, exchange: Exchange, given: GivenParams, egress: EgressPolicy
) -> tuple[Destination, list[tuple[str, str]]] | Unresolved:
    """Where a callback's request goes, and its headers but the content type.

    Args:
        callback: The callback.
        exchange: What its expressions are about.
        given: Values of its declared parameters, by their name on the wire; they go before what it declares.
        egress: Asked about the destination's text.
    """
    params = _params(callback, exchange, given)
    if isinstance(params, Unresolved):
        return params
    destination = callback.destination.resolve(exchange, params=params.path, query=params.query)
    if isinstance(destination, Unresolved):
        return destination
    try:
        egress.check_authority(destination.authority)
    except EgressRefused as refused:
        return Unresolved(Reason.REFUSED, callback.expression, str(refused))
    headers = _headers(callback, exchange, params)
    return headers if isinstance(headers, Unresolved) else (destination, headers)


def declared_payload(callback: Callback, exchange: Exchange) -> bytes | Unresolved | None:
    """The body of a callback that sends itself; None where it has none."""
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


@dataclass(frozen=True, slots=True)
class _Params:
    """The callback's parameters by where they go, values as text."""

    path: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]


_NO_PARAMS = _Params({}, (), ())


def _params(callback: Callback, exchange: Exchange, given: GivenParams) -> _Params | Unresolved:
    if not callback.parameters:
        return _NO_PARAMS
    path: dict[str, str] = {}
    pairs: dict[str, list[tuple[str, str]]] = {"query": [], "header": []}
    for parameter in callback.parameters:
        values = _values(callback, parameter, exchange, given)
        if isinstance(values, Unresolved):
            return values
        if parameter.location == "path":
            path.update((parameter.name, value) for value in values)
        else:
            pairs[parameter.location].extend((parameter.name, value) for value in values)
    return _Params(path, pairs["query"], pairs["header"])


def _values(
    callback: Callback, parameter: CallbackParameter, exchange: Exchange, given: GivenParams
) -> Sequence[str] | Unresolved:
    if parameter.name in given:
        value = given[parameter.name]
        return [text_of(one) for one in ([value] if isinstance(value, ParameterValue) else value)]
    template = callback.params.get(parameter.name)
    if template is None:
        return ()
    text = template.evaluate(exchange)
    return text if isinstance(text, Unresolved) else [text]


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

"""References: what the expressions of OpenAPI's ABNF point at, and looking it up in an exchange.

``str()`` of a reference is the expression in the specification's own grammar (OpenAPI 3.2, Runtime Expressions).
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from callback_middleware.exchange import Exchange
from callback_middleware.values import MISSING, Missing, Reason, Value

# RFC 6901, 4: no sign, no leading zero. No array has an index of more than 18 digits.
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be captured for an expression beyond the request line and headers. ``a | b`` is what both need.

    Attributes:
        request_body: The request's body.
        response_body: The response's body.
        response: Anything of the response, its status or a header included: it cannot be evaluated before there is one.
    """

    request_body: bool = False
    response_body: bool = False
    response: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.request_body or other.request_body,
            self.response_body or other.response_body,
            self.response or other.response,
        )

    def __bool__(self) -> bool:
        """Whether a body must be captured."""
        return self.request_body or self.response_body


class Side(enum.StrEnum):
    """Which half of the exchange."""

    REQUEST = "request"
    RESPONSE = "response"


_REQUEST: Final = Side.REQUEST
"""Members of an enumeration are looked up at every use, and these are used at every exchange."""


@dataclass(frozen=True, slots=True)
class RequestUrl:
    """``$url``: the absolute request URL."""

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        return exchange.url

    def __str__(self) -> str:
        return "$url"


@dataclass(frozen=True, slots=True)
class Method:
    """``$method``: the request's, upper case."""

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        return exchange.method

    def __str__(self) -> str:
        return "$method"


@dataclass(frozen=True, slots=True)
class StatusCode:
    """``$statusCode``: the response's, an integer."""

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        return MISSING if exchange.response_status is None else exchange.response_status

    def __str__(self) -> str:
        return "$statusCode"


@dataclass(frozen=True, slots=True)
class Header:
    """``$request.header.x``: the first header of that name, in any case."""

    side: Side
    name: str
    default: Value | Missing = MISSING

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        headers = exchange.request_headers if self.side is _REQUEST else exchange.response_headers
        value = headers.first(self.name)
        return self.default if value is None else value

    def __str__(self) -> str:
        return f"${self.side}.header.{self.name}"


@dataclass(frozen=True, slots=True)
class Query:
    """``$request.query.x``: the first query parameter of that name, decoded."""

    name: str
    default: Value | Missing = MISSING

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        return exchange.query.get(self.name, self.default)

    def __str__(self) -> str:
        return f"$request.query.{_escaped(self.name)}"


@dataclass(frozen=True, slots=True)
class Path:
    """``$request.path.x``: the router's value; one that is no JSON value (a UUID) as text."""

    name: str
    default: Value | Missing = MISSING

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        value = exchange.path_params.get(self.name, self.default)
        if value is MISSING or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return str(value)

    def __str__(self) -> str:
        return f"$request.path.{_escaped(self.name)}"


@dataclass(frozen=True, slots=True)
class Body:
    """``$request.body#/x``: what an RFC 6901 pointer finds in a body; without steps, the whole of it.

    Attributes:
        steps: The pointer's reference tokens, unescaped.
    """

    side: Side
    steps: Sequence[str] = ()
    default: Value | Missing = MISSING
    _path: Sequence[tuple[str, int | None]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # frozen=True leaves no other way to read the indices once instead of at every exchange.
        path = [(step, int(step) if _INDEX.fullmatch(step) else None) for step in self.steps]
        object.__setattr__(self, "_path", path)

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        value = exchange.request_body if self.side is _REQUEST else exchange.response_body
        for step, index in self._path:
            if isinstance(value, dict):
                value = value.get(step, MISSING)
            elif isinstance(value, list) and index is not None and index < len(value):
                value = value[index]
            else:
                value = MISSING
                break
        if value is MISSING and self.default is not MISSING and not self.problem(exchange):
            return self.default
        return value

    def problem(self, exchange: Exchange) -> str:
        """Why nobody can know what the client sent; "" where it can be known, also where it sent no body."""
        if self.side is _REQUEST:
            return "" if exchange.request_content == b"" else exchange.request_problem
        return "" if exchange.response_content == b"" else exchange.response_problem

    def is_truncated(self, exchange: Exchange) -> bool:
        """Whether the value may stand in the part of the body that was not captured."""
        return exchange.request_truncated if self.side is _REQUEST else exchange.response_truncated

    def __str__(self) -> str:
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in self.steps)
        return f"${self.side}.body{'#' if pointer else ''}{pointer}"


@dataclass(frozen=True, slots=True)
class FirstOf:
    """``{$name}``, where that may stand in several places: the first that has it, and last a declared default."""

    candidates: Sequence[Header | Query | Path | Body]
    default: Value | Missing = MISSING

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        for candidate in self.candidates:
            value = candidate.evaluate(exchange)
            if value is not MISSING:
                return value
        if any(isinstance(candidate, Body) and candidate.problem(exchange) for candidate in self.candidates):
            return MISSING
        return self.default


Reference: TypeAlias = RequestUrl | Method | StatusCode | Header | Query | Path | Body | FirstOf


def _single(reference: Reference) -> Sequence[Reference]:
    return reference.candidates if isinstance(reference, FirstOf) else [reference]


def _bodies(reference: Reference) -> list[Body]:
    return [candidate for candidate in _single(reference) if isinstance(candidate, Body)]


def _is_of_response(reference: Reference) -> bool:
    if isinstance(reference, Header | Body):
        return reference.side is Side.RESPONSE
    return isinstance(reference, StatusCode)


def needs_of(reference: Reference) -> Needs:
    """What must be captured for a reference."""
    sides = {body.side for body in _bodies(reference)}
    return Needs(Side.REQUEST in sides, Side.RESPONSE in sides, any(map(_is_of_response, _single(reference))))


def why_missing(reference: Reference, exchange: Exchange) -> tuple[Reason, str]:
    """The reason, and the cause in words, for a reference that has just evaluated to MISSING."""
    for body in _bodies(reference):
        if body.is_truncated(exchange):
            return Reason.TRUNCATED, f"the {body.side} body is larger than what is captured, or did not come to its end"
        if problem := body.problem(exchange):
            return Reason.UNRESOLVED, f"{body.side}: {problem}"
    return Reason.UNRESOLVED, ""


def _escaped(name: str) -> str:
    """A name in JSON string characters (RFC 8259, 7), as the ABNF's ``char`` has it."""
    return json.dumps(name, ensure_ascii=False)[1:-1]

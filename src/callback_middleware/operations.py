"""Operations and their callbacks, as OpenAPI means the words, compiled and ready to be planned.

Three sources make these values (``callback_middleware.sources``): FastAPI routes, decorated Starlette
endpoints and OpenAPI documents. From here on nobody knows which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from callback_middleware.destinations import DestinationTemplate, parse_destination
from callback_middleware.errors import AmbiguousCallback, CallbackNotFound, ConfigurationError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import Names, Needs
from callback_middleware.options import UNSET, DeliveryOptions
from callback_middleware.responses import AnswerCheck
from callback_middleware.templates import (
    PayloadTemplate,
    TextTemplate,
    check_header_name,
    compile_payload,
    compile_text,
)

PayloadFunction: TypeAlias = Callable[[Exchange], object]

#: A payload function may look at anything, so everything is captured for it.
_EVERYTHING = Needs(request_body=True, response_body=True, response=True)


@dataclass(frozen=True, slots=True)
class Body:
    """The request body that a callback declares.

    Attributes:
        media_type: Its content type.
        required: Whether a request without a body would break the declaration.
        encode: From what a handler gives to the exact bytes that are sent, after a check against the declared
            model or schema. Raises :class:`~callback_middleware.errors.PayloadInvalid`. It rewrites nothing.
    """

    media_type: str
    required: bool
    encode: Callable[[object], bytes]


@dataclass(frozen=True, slots=True)
class CallbackParameter:
    """A parameter that the callback itself declares: what its receiver expects beside the body.

    Attributes:
        name: The name on the wire.
        location: Where it goes; cookies are not sent.
        required: Whether the receiver relies on it.
        python_name: The name in the callback's function, if it differs.
        check: Raises :class:`~callback_middleware.errors.PayloadInvalid` for a value that does not fit.
    """

    name: str
    location: Literal["path", "query", "header"]
    required: bool
    python_name: str | None = None
    check: Callable[[object], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One request that an operation documents: one method, at one expression, under one name.

    ``payload`` is what is sent where nobody calls ``send``; ``needs``, what is captured for it; ``answers`` judges.
    """

    name: str
    method: str
    expression: str
    destination: DestinationTemplate
    function: Callable[..., Any] | None
    body: Body | None
    parameters: Sequence[CallbackParameter]
    options: DeliveryOptions
    payload: PayloadTemplate | PayloadFunction | None
    headers: Sequence[tuple[str, TextTemplate]]
    params: Mapping[str, TextTemplate]
    needs: Needs
    warnings: Sequence[str]
    answers: AnswerCheck | None = None

    @property
    def declares_payload(self) -> bool:
        """Whether its author said what to send: then it is sent by itself, whatever else there is."""
        return self.options.payload is not UNSET

    @property
    def sends_itself(self) -> bool:
        """Whether everything that a request to the receiver needs is known without a handler's help."""
        complete = all(parameter.name in self.params for parameter in self.parameters if parameter.required)
        return complete and (self.payload is not None or self.body is None)

    def __str__(self) -> str:
        return f"{self.name} ({self.method} {self.expression})"


def compile_callback(
    *,
    name: str,
    method: str,
    expression: str,
    options: DeliveryOptions,
    names: Names | None = None,
    function: Callable[..., Any] | None = None,
    body: Body | None = None,
    parameters: Sequence[CallbackParameter] = (),
    response_is_body: bool = False,
    answers: AnswerCheck | None = None,
    strict: bool = False,
) -> Callback:
    """Compile everything that a callback declares.

    Args:
        name: The callback's name, as in the operation's ``callbacks`` object.
        method: HTTP method, in any case.
        expression: The key of the Callback Object.
        options: What ``@deliver`` or ``x-callback`` said.
        names: What the operation's request is known to hold; None where nothing is known.
        function: What ``send`` may name it by.
        body: The body that it declares, or None.
        parameters: Those that it declares.
        response_is_body: Its body is declared to be the operation's own response.
        answers: What it declares of its receiver's answer.
        strict: Refuse every spelling outside the specification's grammar.

    Raises:
        ConfigurationError: The first thing that is wrong with it.
    """
    known = [parameter.name for parameter in parameters]
    unknown = sorted(set(options.params) - set(known))
    if unknown:
        raise ConfigurationError(
            f"params names {', '.join(map(repr, unknown))}; it declares {', '.join(known) or 'none'}"
        )
    if options.payload is not UNSET and body is None:
        raise ConfigurationError("it has a payload, and declares no body: declare the body that its receiver will get")
    credentials = options.allow_credentials

    def text(template: str, *, in_url: bool = False) -> TextTemplate:
        return compile_text(template, strict=strict, names=names, allow_credentials=credentials, in_url=in_url)

    destination = parse_destination(
        expression,
        strict=strict,
        names=names,
        parameters=frozenset(parameter.name for parameter in parameters if parameter.location == "path"),
        dynamic_host=options.dynamic_host,
        allow_credentials=credentials,
    )
    payload: PayloadTemplate | PayloadFunction | None = None
    if callable(options.payload):
        payload = options.payload
    elif options.payload is not UNSET:
        payload = compile_payload(options.payload, strict=strict, names=names, allow_credentials=credentials)
    elif body is not None and response_is_body:
        payload = compile_payload("$response.body")
    for header in options.headers:
        check_header_name(header)
    headers = tuple((header.lower(), text(template)) for header, template in options.headers.items())
    in_headers = {parameter.name for parameter in parameters if parameter.location == "header"}
    params = {key: text(template, in_url=key not in in_headers) for key, template in options.params.items()}

    templates: list[DestinationTemplate | TextTemplate | PayloadTemplate] = [destination, *params.values()]
    templates += [template for _, template in headers]
    templates += [payload] if isinstance(payload, PayloadTemplate) else []
    needs = Needs() if payload is None or isinstance(payload, PayloadTemplate) else _EVERYTHING
    for template in templates:
        needs |= template.needs
    return Callback(
        name=name,
        method=method.upper(),
        expression=expression,
        destination=destination,
        function=function,
        body=body,
        parameters=tuple(parameters),
        options=options,
        payload=payload,
        headers=headers,
        params=params,
        needs=needs,
        warnings=tuple(warning for template in templates for warning in template.warnings),
        answers=answers,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One method at one path, with the callbacks that it documents.

    Attributes:
        method: HTTP method, upper case.
        path: The path template, prefixes included.
        callbacks: In the order of their declaration.
        handler_sends: Whether its handler takes its callbacks in hand; None where that cannot be known before
            a request is served.
        automatic: The callbacks that are sent where no handler took them in hand.
        needs: What must be captured for any of its callbacks.
    """

    method: str
    path: str
    callbacks: Sequence[Callback]
    handler_sends: bool | None = None
    automatic: Sequence[Callback] = field(init=False)
    needs: Needs = field(init=False)

    def __post_init__(self) -> None:
        # frozen=True leaves no other way to derive a field once instead of at every request.
        object.__setattr__(self, "automatic", () if self.handler_sends else tuple(_automatic(self.callbacks)))
        needs = Needs()
        for callback in self.callbacks:
            needs |= callback.needs
        object.__setattr__(self, "needs", needs)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def unsendable(self) -> Sequence[Callback]:
        """The callbacks that nobody will ever send, as far as that can be known."""
        if self.handler_sends is not False:
            return ()
        return tuple(callback for callback in self.callbacks if callback not in self.automatic)

    def find(
        self, callback: Callable[..., object] | str, *, expression: str | None = None, method: str | None = None
    ) -> Callback:
        """The one callback that a handler means.

        Args:
            callback: The callback's function, or its name.
            expression: As written, where one name has several.
            method: Where one expression has several.

        Raises:
            CallbackNotFound: None fits; the message lists those there are.
            AmbiguousCallback: Several fit; the message lists them.
        """
        fitting = [
            candidate
            for candidate in self.callbacks
            if (candidate.name == callback if isinstance(callback, str) else candidate.function is callback)
            and expression in (None, candidate.expression)
            and (method is None or candidate.method == method.upper())
        ]
        if len(fitting) == 1:
            return fitting[0]
        wanted = callback if isinstance(callback, str) else getattr(callback, "__qualname__", repr(callback))
        if fitting:
            raise AmbiguousCallback(
                f"{wanted!r} stands for {len(fitting)} callbacks of {self}: {_listed(fitting)}; "
                f"choose one with {_choice(fitting)}"
            )
        raise CallbackNotFound(f"{self} documents no callback {wanted!r}; it documents {_listed(self.callbacks)}")


def _automatic(callbacks: Sequence[Callback]) -> Iterable[Callback]:
    """Those that are sent by themselves.

    One that says what it sends always is. One that merely could be is only while it is alone under its name:
    of several expressions or methods that one name documents, nobody has said which is meant.
    """
    for callback in callbacks:
        rivals = [rival for rival in callbacks if rival.name == callback.name and rival.function is callback.function]
        if callback.sends_itself and (callback.declares_payload or len(rivals) == 1):
            yield callback


def check_methods(callbacks: Sequence[Callback]) -> ConfigurationError | None:
    """What is wrong where several methods of one expression would be sent by themselves: one notification, twice."""
    declared: dict[tuple[str, str], list[Callback]] = {}
    for callback in callbacks:
        if callback.declares_payload:
            declared.setdefault((callback.name, callback.expression), []).append(callback)
    for rivals in declared.values():
        if len({rival.method for rival in rivals}) > 1:
            return ConfigurationError(
                f"{_listed(rivals)} would each be sent by themselves; declare a payload for one method alone"
            )
    return None


def _listed(callbacks: Sequence[Callback]) -> str:
    return "; ".join(str(callback) for callback in callbacks) or "none"


def _choice(callbacks: Sequence[Callback]) -> str:
    several_expressions = len({callback.expression for callback in callbacks}) > 1
    several_methods = len({callback.method for callback in callbacks}) > 1
    chosen = [word for word, needed in (("expression=", several_expressions), ("method=", several_methods)) if needed]
    return " and ".join(chosen) or "the callback's function instead of its name"

"""What is sent along: payloads and texts whose strings may be runtime expressions.

Braces and dollars are ordinary text here more often than not. Only ``{$…}`` and ``${…}`` embed an expression, a whole
string is an expression only if it is one by the specification's grammar (``"$5 off"`` and ``"{name}"`` are text), and
``{"$literal": "…"}`` is its text as it stands. Names of members are never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeAlias

from callback_middleware.errors import ConfigurationError, ExpressionSyntaxError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import Expression, Names, Needs, Reason, Unresolved, expression_of
from callback_middleware.expressions.embedding import Placeholder, parse_bare, parse_parts
from callback_middleware.expressions.grammar import Rules
from callback_middleware.headers import check_header_name, check_header_value
from callback_middleware.jsontext import to_text
from callback_middleware.values import Value

__all__ = [
    "LITERAL",
    "PayloadTemplate",
    "TextTemplate",
    "check_header_name",
    "check_header_value",
    "compile_payload",
    "compile_text",
]

LITERAL: Final = "$literal"
"""The only member of an object that stands for its value, unevaluated."""

_NEARLY: Final = re.compile(r"\$(?:request|response)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value


@dataclass(frozen=True, slots=True)
class _Array:
    items: Sequence[_Node]


@dataclass(frozen=True, slots=True)
class _Object:
    members: Sequence[tuple[str, _Node]]


_Node: TypeAlias = _Constant | _Array | _Object | Expression


@dataclass(frozen=True, slots=True)
class PayloadTemplate:
    """A compiled payload.

    Attributes:
        needs: What must be captured to evaluate it.
        warnings: What is legal and probably not meant, one sentence each.
    """

    node: _Node
    needs: Needs
    warnings: Sequence[str]

    def evaluate(self, exchange: Exchange) -> Value | Unresolved:
        """The JSON value to send, or the first thing in it that has no value: then nothing is sent.

        Constants are not copied; whoever gets the value must not change it.
        """
        return _evaluate(self.node, exchange)


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A compiled text: a header's value, or a parameter's.

    Attributes:
        expression: What it compiled to.
        in_url: Null, objects and arrays have no place in it.
    """

    expression: Expression
    in_url: bool = False

    @property
    def needs(self) -> Needs:
        """What must be captured to evaluate it."""
        return self.expression.needs

    @property
    def warnings(self) -> Sequence[str]:
        """What is legal and probably not meant, one sentence each."""
        return self.expression.warnings

    def evaluate(self, exchange: Exchange) -> str | Unresolved:
        """The text, or why there is none."""
        texts = []
        for part in self.expression.parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            value = part.resolve(exchange)
            if isinstance(value, Unresolved):
                return value
            if value is None and (self.in_url or self.expression.bare):
                return Unresolved(Reason.UNRESOLVED, part.written, "it is null")
            if self.in_url and isinstance(value, dict | list):
                return Unresolved(Reason.UNRESOLVED, part.written, "it is an object or an array")
            texts.append(to_text(value))
        return "".join(texts)


def compile_payload(
    value: object, *, strict: bool = False, names: Names | None = None, allow_credentials: bool = False
) -> PayloadTemplate:
    """Compile a constant, or a JSON value whose strings may be expressions.

    What is neither text nor an object nor an array is a constant, a model instance for example.

    Raises:
        ExpressionSyntaxError: In one of its strings; see :func:`~callback_middleware.expressions.parse` for the
            arguments.
        ConfigurationError: The name of a member is no text, or ``$literal`` has company.
    """
    node = _compile(value, Rules(strict, names, allow_credentials))
    expressions = list(_expressions(node))
    needs = reduce(Needs.__or__, (expression.needs for expression in expressions), Needs())
    return PayloadTemplate(node, needs, tuple(warning for expression in expressions for warning in expression.warnings))


def compile_text(
    text: str,
    *,
    strict: bool = False,
    names: Names | None = None,
    allow_credentials: bool = False,
    in_url: bool = False,
) -> TextTemplate:
    """Compile the value of a header or, with ``in_url``, of a parameter in path or query.

    Raises:
        ExpressionSyntaxError: See :func:`~callback_middleware.expressions.parse` for the arguments.
    """
    return TextTemplate(_text(text, Rules(strict, names, allow_credentials)), in_url)


def _compile(value: object, rules: Rules) -> _Node:
    if isinstance(value, str):
        return _payload_text(value, rules)
    if isinstance(value, Mapping):
        if LITERAL in value:
            return _literal(value)
        return _object([(_member(name), _compile(member, rules)) for name, member in value.items()])
    if isinstance(value, list | tuple):
        items = [_compile(item, rules) for item in value]
        constants = [item.value for item in items if isinstance(item, _Constant)]
        return _Constant(constants) if len(constants) == len(items) else _Array(items)
    return _Constant(value)


def _literal(value: Mapping[object, object]) -> _Constant:
    if len(value) > 1:
        raise ConfigurationError(
            f"an object with {LITERAL!r} stands for that member's value and can have no other member"
        )
    return _Constant(value[LITERAL])


def _member(name: object) -> str:
    if isinstance(name, str):
        return name
    raise ConfigurationError(f"the member {name!r} of a payload has a name that is no text")


def _object(members: Sequence[tuple[str, _Node]]) -> _Node:
    constants = {name: node.value for name, node in members if isinstance(node, _Constant)}
    return _Constant(constants) if len(constants) == len(members) else _Object(members)


def _payload_text(text: str, rules: Rules) -> _Node:
    try:
        expression = _text(text, rules)
    except ExpressionSyntaxError as error:
        hint = error.hint or f'{{"{LITERAL}": …}}, if the text should stay as it is'
        raise ExpressionSyntaxError(error.expression, error.reason, error.position, hint) from None
    return _Constant(text) if expression.parts == (text,) and not expression.warnings else expression


def _text(text: str, rules: Rules) -> Expression:
    if _is_bare(text):
        return expression_of(text, [parse_bare(text, rules)], bare=True)
    parts = [part for part in parse_parts(text, rules, lone_braces=True) if not isinstance(part, Placeholder)]
    expression = expression_of(text, parts)
    if _NEARLY.match(text):
        warning = f"{text} is sent as it stands; in braces, or by the specification's grammar, it would be evaluated"
        return replace(expression, warnings=(*expression.warnings, warning))
    return expression


def _is_bare(text: str) -> bool:
    """Whether it is one expression by the specification's grammar, whatever else is wrong with it."""
    if not text.startswith("$"):
        return False
    try:
        parse_bare(text, Rules(strict=True, allow_credentials=True))
    except ExpressionSyntaxError:
        return False
    return True


def _expressions(node: _Node) -> Iterator[Expression]:
    match node:
        case Expression():
            yield node
        case _Array(items):
            for item in items:
                yield from _expressions(item)
        case _Object(members):
            for _, member in members:
                yield from _expressions(member)
        case _Constant():
            return


def _evaluate(node: _Node, exchange: Exchange) -> Value | Unresolved:
    match node:
        case Expression():
            return node.resolve(exchange)
        case _Constant(value):
            return value
        case _Array(items):
            values = []
            for item in items:
                value = _evaluate(item, exchange)
                if isinstance(value, Unresolved):
                    return value
                values.append(value)
            return values
        case _Object(members):
            result = {}
            for name, member in members:
                value = _evaluate(member, exchange)
                if isinstance(value, Unresolved):
                    return value
                result[name] = value
            return result

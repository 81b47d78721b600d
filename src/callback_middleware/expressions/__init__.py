"""Runtime expressions (OpenAPI 3.2, Runtime Expressions), alone or embedded in text.

Parsed once, at start-up; evaluated at every exchange, without raising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from callback_middleware.exchange import Exchange
from callback_middleware.expressions.embedding import Embedded, parse_bare, parse_parts
from callback_middleware.expressions.grammar import Rules
from callback_middleware.expressions.names import BodyField, Names, Parameter
from callback_middleware.expressions.references import Needs, needs_of
from callback_middleware.jsontext import to_text
from callback_middleware.values import MISSING, Missing, Reason, Unresolved, Value

__all__ = [
    "MISSING",
    "BodyField",
    "Expression",
    "Missing",
    "Names",
    "Needs",
    "Parameter",
    "Reason",
    "Unresolved",
    "parse",
]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled bare expression, template, or literal text.

    Attributes:
        text: As written. ``str()`` gives it back, and parsing that gives an equal expression.
        parts: Text and expressions, in order.
        bare: It is one expression without braces, which keeps its JSON type.
        needs: What must be captured to evaluate it.
        warnings: What is legal and probably not meant, one sentence each.
    """

    text: str
    parts: Sequence[str | Embedded]
    bare: bool
    needs: Needs
    warnings: Sequence[str]

    def evaluate(self, exchange: Exchange) -> Value | Missing:
        """The value, None for null, or MISSING. A template is text, and missing if any of its expressions is."""
        value = self.resolve(exchange)
        return MISSING if isinstance(value, Unresolved) else value

    def resolve(self, exchange: Exchange) -> Value | Unresolved:
        """Like :meth:`evaluate`, with the reason where there is no value."""
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            value = part.resolve(exchange)
            if self.bare or isinstance(value, Unresolved):
                return value
            texts.append(to_text(value))
        return "".join(texts)

    def __str__(self) -> str:
        return self.text


def parse(
    text: str, *, strict: bool = False, names: Names | None = None, allow_credentials: bool = False
) -> Expression:
    """Compile a bare expression (``$request.body#/url``), a template (text with ``{expression}``), or literal text.

    Args:
        text: If it begins with ``$``, but not with ``${``, it is a bare expression.
        strict: Refuse what is outside the specification's grammar.
        names: What is known of the operation; None if nothing is.
        allow_credentials: Let ``authorization``, ``proxy-authorization`` and cookies be sources.

    Raises:
        ExpressionSyntaxError: With the position, and what was probably meant.
    """
    rules = Rules(strict, names, allow_credentials)
    if text.startswith("$") and not text.startswith("${"):
        return expression_of(text, [parse_bare(text, rules)], bare=True)
    return expression_of(text, [part for part in parse_parts(text, rules) if isinstance(part, str | Embedded)])


def expression_of(text: str, parts: Sequence[str | Embedded], *, bare: bool = False) -> Expression:
    """An expression from its parts."""
    embedded = [part for part in parts if isinstance(part, Embedded)]
    needs = reduce(Needs.__or__, (needs_of(part.reference) for part in embedded), Needs())
    return Expression(text, tuple(parts), bare, needs, tuple(warning for part in embedded for warning in part.warnings))

"""Expressions within text: where they begin and end.

OpenAPI only says that braces embed an expression. Arazzo 1.1, Runtime Expressions, settles the rest: the first ``}``
closes it, so that neither brace can stand in an embedded name or pointer. ``${…}`` is a dialect, for ``{$…}``; by the
ABNF ``${$…}`` is a dollar sign and an expression, and stays that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from callback_middleware.errors import ExpressionSyntaxError
from callback_middleware.exchange import Exchange
from callback_middleware.expressions.grammar import Rules, Site, parse_reference
from callback_middleware.expressions.names import Names
from callback_middleware.expressions.references import Body, Header, Path, Query, Reference, Side, why_missing
from callback_middleware.values import MISSING, Unresolved, Value

_NEVER_IN_A_NAME: Final = re.compile(r"[/?&]|\{\$")
_NEVER_IN_A_POINTER: Final = re.compile(r"[?&]|\{\$")


@dataclass(frozen=True, slots=True)
class Embedded:
    """One expression where it stands.

    Attributes:
        reference: What it refers to.
        written: As written; of ``{$…}`` what is within the braces.
        start: Where it begins in the text, its braces included.
        end: Where the text goes on after it.
        warnings: What is legal about it and probably not meant, one sentence each.
    """

    reference: Reference
    written: str
    start: int
    end: int
    warnings: tuple[str, ...] = ()

    def resolve(self, exchange: Exchange) -> Value | Unresolved:
        """Its value, or why there is none. Never raises."""
        value = self.reference.evaluate(exchange)
        if value is not MISSING:
            return value
        reason, detail = why_missing(self.reference, exchange)
        return Unresolved(reason, self.written, detail)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """``{name}`` for a parameter that the callback itself declares; attributes as of :class:`Embedded`."""

    name: str
    start: int
    end: int

    @property
    def written(self) -> str:
        return f"{{{self.name}}}"


Part: TypeAlias = str | Embedded | Placeholder


def parse_bare(text: str, rules: Rules) -> Embedded:
    """A text that is one expression, without braces.

    Raises:
        ExpressionSyntaxError: With the position, and what was probably meant.
    """
    reference = parse_reference(Site(text, text), rules)
    warnings = (*_runs_on(text, reference), *_unknown(text, reference, rules.names))
    return Embedded(reference, text, 0, len(text), warnings)


def parse_parts(
    text: str, rules: Rules, *, lone_braces: bool = False, placeholders: frozenset[str] = frozenset()
) -> Iterator[Part]:
    """Text and expressions, in order; no two texts in a row.

    Args:
        text: As written.
        rules: What may be written within braces.
        lone_braces: Braces that do not begin with ``{$`` or ``${`` are text; else they are an error.
        placeholders: Names that may stand in braces as they are.

    Raises:
        ExpressionSyntaxError: Of the first thing that is wrong.
    """
    written, search = 0, 0
    while (brace := text.find("{", search)) >= 0:
        dollar_follows = text.startswith("$", brace + 1)
        shell = not dollar_follows and brace > written and text[brace - 1] == "$"
        if lone_braces and not dollar_follows and not shell:
            search = brace + 1
            continue
        start = brace - 1 if shell else brace
        end = _closing(text, brace, rules) + 1
        part = _embedded(text, start, end, rules, placeholders)
        if start > written:
            yield text[written:start]
        yield part
        written = search = end
    if written < len(text):
        yield text[written:]


def _closing(text: str, brace: int, rules: Rules) -> int:
    """Where the ``}`` stands that closes the brace."""
    closing = text.find("}", brace)
    if closing < 0:
        raise ExpressionSyntaxError(text, "this brace is never closed", brace, _closed(text[brace:], rules))
    inner = text.find("{", brace + 1, closing)
    if inner >= 0:
        raise ExpressionSyntaxError(text, "neither { nor } can stand in an embedded expression", inner)
    return closing


def _embedded(text: str, start: int, end: int, rules: Rules, placeholders: frozenset[str]) -> Embedded | Placeholder:
    whole = text[start:end]
    if whole.startswith("{$"):
        site = Site(text, whole[1:-1], start + 1, braced=True)
        written = site.expression
    elif whole.startswith("${"):
        site = Site(text, "$" + whole[2:-1], start + 1, braced=True)
        written = whole
        if rules.strict:
            reason = "${…} is none of the specification's expressions"
            raise ExpressionSyntaxError(text, reason, start, _meant(site.expression, rules))
    elif whole[1:-1] in placeholders:
        return Placeholder(whole[1:-1], start, end)
    else:
        meant = _meant("$" + whole[1:-1], rules)
        raise ExpressionSyntaxError(text, "an expression in braces begins with {$", start, meant)
    reference = parse_reference(site, rules)
    return Embedded(reference, written, start, end, tuple(_unknown(written, reference, rules.names)))


def _closed(opened: str, rules: Rules) -> str | None:
    """What is probably meant by a brace that is never closed: that it closes at the end, or before the next slash."""
    for length in (len(opened), *(match.start() for match in _NEVER_IN_A_NAME.finditer(opened))):
        expression = opened[1:length] if opened.startswith("{$") else f"${opened[1:length]}"
        if _meant(expression, rules) == f"{{{expression}}}":
            return f"{{{expression}}}{opened[length:]}"
    return None


def _meant(expression: str, rules: Rules) -> str | None:
    """The expression in braces, if it is one; else what it would be if it were in braces already."""
    if "{" in expression or "}" in expression:
        return None
    try:
        parse_reference(Site(expression, expression, braced=True), rules)
    except ExpressionSyntaxError as error:
        return error.hint
    return f"{{{expression}}}"


def _runs_on(text: str, reference: Reference) -> Iterator[str]:
    """A warning for ``$request.query.callback_url/invoices``, which is one name and never meant."""
    match reference:
        case Query(name) | Path(name):
            end = _NEVER_IN_A_NAME.search(text)
            kind = "name"
        case Body(_, steps):
            end = _NEVER_IN_A_POINTER.search(text)
            kind, name = "pointer", "/" + "/".join(steps)
        case _:
            return
    if end is not None:
        braced = f"{{{text[: end.start()]}}}{text[end.start() :]}"
        yield f"{text} is one expression, with the {kind} {name!r}; perhaps this is meant: {braced}"


def _unknown(written: str, reference: Reference, names: Names | None) -> Iterator[str]:
    """A warning for a name in a standard form that the operation does not declare."""
    if names is None:
        return
    match reference:
        case Query(name) if names.rules_out("query", name):
            kind = "query parameter"
        case Path(name) if names.rules_out("path", name):
            kind = "path parameter"
        case Header(Side.REQUEST, name) if names.rules_out("header", name):
            kind = "header parameter"
        case Body(Side.REQUEST, [name, *_]) if names.rules_out_member(name):
            kind = "body field"
        case _:
            return
    yield f"{written}: the operation declares no {kind} {name!r}, so this may be missing for ever"

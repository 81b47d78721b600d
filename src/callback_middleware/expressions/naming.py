"""From a name alone, as in ``{$callback_url}``, to what it refers to: path, query, header, then the body's member."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from callback_middleware.expressions.names import Names, Parameter
from callback_middleware.expressions.references import Body, FirstOf, Header, Path, Query, Side
from callback_middleware.values import MISSING, Missing, Value

Named: TypeAlias = Header | Query | Path | Body

_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def declared(name: str, names: Names) -> list[Named]:
    """What the operation declares under that name, on the wire or in Python."""
    found: list[Named] = [_reference(parameter) for parameter in names.parameters_called(name)]
    found += [Body(Side.REQUEST, (field.name,)) for field in names.body_fields_called(name)]
    return found


def candidates(name: str, names: Names | None) -> list[Named]:
    """Everything that a name may refer to, in the order in which it is asked for; empty for an unknown name.

    What is declared is meant. Where not all is known of the parameters, or of the body, they are asked by presence.
    """
    if names is None:
        names = Names()
    found = declared(name, names)
    if not names.knows_parameters and not names.parameters_called(name):
        found = [*_by_presence(name), *found]
    if not names.knows_body and not names.parameters_called(name) and not names.body_fields_called(name):
        found.append(Body(Side.REQUEST, (name,)))
    return found


def default(name: str, names: Names | None) -> Value | Missing:
    """The first default that is declared under that name."""
    if names is None:
        return MISSING
    defaults = [one.default for one in names.parameters_called(name)]
    defaults += [one.default for one in names.body_fields_called(name)]
    return next((value for value in defaults if value is not MISSING), MISSING)


def first_of(found: list[Named], declared_default: Value | Missing) -> Named | FirstOf:
    """One reference for all of them."""
    if len(found) > 1:
        return FirstOf(tuple(found), declared_default)
    match found[0]:
        case Body(side, steps):
            return Body(side, steps, declared_default)
        case Header(side, name):
            return Header(side, name, declared_default)
        case Query(name):
            return Query(name, declared_default)
        case Path(name):
            return Path(name, declared_default)


def _reference(parameter: Parameter) -> Named:
    match parameter.location:
        case "path":
            return Path(parameter.name)
        case "query":
            return Query(parameter.name)
        case "header":
            return Header(Side.REQUEST, parameter.name)


def _by_presence(name: str) -> Iterable[Named]:
    yield Path(name)
    yield Query(name)
    if _FIELD_NAME.fullmatch(name):
        yield Header(Side.REQUEST, name)
        if "_" in name:
            # A Python name stands for a header with hyphens, as FastAPI has it.
            yield Header(Side.REQUEST, name.replace("_", "-"))

"""What is known of the names that an operation's requests carry.

A source (FastAPI's routes, an OpenAPI document) fills this in. Expressions use it to tell a typo from a parameter
at start-up, to find the alias behind a Python name, and to apply declared defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from callback_middleware.jsontext import dumps
from callback_middleware.values import MISSING, Missing, Value

Location: TypeAlias = Literal["path", "query", "header"]

#: Where ``{$name}`` is looked for, in this order; a member of the body comes last.
LOCATIONS: Final[tuple[Location, ...]] = ("path", "query", "header")

# A document says nothing by declaring these as parameters (OpenAPI 3.2, Parameter Object), so none is missed.
_NEVER_DECLARED: Final = frozenset({"accept", "content-type", "authorization"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that an operation declares. Cookies are none: they have no runtime expression.

    Attributes:
        name: The name on the wire, the alias where there is one.
        location: Where it is sent.
        python_name: What the handler calls it, if that differs.
        default: The JSON value that holds where the client sends nothing; MISSING if there is none. What has no JSON
            form (NaN, an object) counts as none.
    """

    name: str
    location: Location
    python_name: str | None = None
    default: Value | Missing = MISSING

    def __post_init__(self) -> None:
        # frozen=True leaves no other way.
        object.__setattr__(self, "default", _json_or_missing(self.default))

    def is_called(self, name: str) -> bool:
        """Whether this is a name of it on the wire. Those of headers have no case."""
        return self.name.lower() == name.lower() if self.location == "header" else self.name == name


@dataclass(frozen=True, slots=True)
class BodyField:
    """A top-level member that the request body's schema or model declares; attributes as of :class:`Parameter`."""

    name: str
    python_name: str | None = None
    default: Value | Missing = MISSING

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", _json_or_missing(self.default))


@dataclass(frozen=True, slots=True)
class Names:
    """The names that one operation's requests may carry.

    Attributes:
        parameters: Every path, query and header parameter; None if they are unknown.
        body: Every top-level member of the body; None likewise; empty for an operation without a body.
        more_parameters: Requests may carry others too, which nobody has declared.
        more_members: The body may have others too.
    """

    parameters: tuple[Parameter, ...] | None = None
    body: tuple[BodyField, ...] | None = None
    more_parameters: bool = False
    more_members: bool = False

    @property
    def knows_parameters(self) -> bool:
        """Whether every parameter is known."""
        return self.parameters is not None and not self.more_parameters

    @property
    def knows_body(self) -> bool:
        """Whether every top-level member of the body is known."""
        return self.body is not None and not self.more_members

    def parameters_called(self, name: str) -> list[Parameter]:
        """The declared parameters that ``{$name}`` may mean, in the order in which they are asked for."""
        declared = self.parameters or ()
        on_the_wire = [one for one in declared if one.is_called(name)]
        in_python = [one for one in declared if one.python_name == name and one not in on_the_wire]
        return sorted(on_the_wire + in_python, key=lambda one: LOCATIONS.index(one.location))

    def body_fields_called(self, name: str) -> list[BodyField]:
        """The declared top-level members that ``{$name}`` may mean: by their name on the wire, then by Python's."""
        declared = self.body or ()
        on_the_wire = [one for one in declared if one.name == name]
        return on_the_wire + [one for one in declared if one.python_name == name and one not in on_the_wire]

    def parameter(self, location: Location, name: str) -> Parameter | None:
        """The parameter of that name on the wire in one location."""
        declared = self.parameters or ()
        return next((one for one in declared if one.location == location and one.is_called(name)), None)

    def body_field(self, name: str) -> BodyField | None:
        """The top-level member of that name on the wire."""
        return next((one for one in self.body or () if one.name == name), None)

    def rules_out(self, location: Location, name: str) -> bool:
        """Whether it is certain that the operation declares no such parameter, though it could."""
        if not self.knows_parameters or (location == "header" and name.lower() in _NEVER_DECLARED):
            return False
        return self.parameter(location, name) is None

    def rules_out_member(self, name: str) -> bool:
        """Whether it is certain that the body declares no such member."""
        return self.knows_body and self.body_field(name) is None

    def all(self) -> Iterable[str]:
        """Every declared name on the wire."""
        parameters = [one.name for one in self.parameters or ()]
        return dict.fromkeys(parameters + [one.name for one in self.body or ()])


def _json_or_missing(default: Value | Missing) -> Value | Missing:
    """Evaluation never raises, so what could not be written later is dropped now."""
    try:
        dumps(default)
    except (TypeError, ValueError):
        return MISSING
    return default


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is most likely a misspelling of."""
    folded = {one.lower().replace("-", "_"): one for one in known}
    matches = difflib.get_close_matches(name.lower().replace("-", "_"), folded, n=1)
    return folded[matches[0]] if matches else None

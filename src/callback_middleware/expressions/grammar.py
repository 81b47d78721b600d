"""One expression, from text to reference: the ABNF of OpenAPI 3.2, Runtime Expressions, and two dialects of it.

::

    expression       = "$url" / "$method" / "$statusCode" / "$request." source / "$response." source
    source           = header-reference / query-reference / path-reference / body-reference
    header-reference = "header." token
    query-reference  = "query." name
    path-reference   = "path." name
    body-reference   = "body" ["#" json-pointer ]
    json-pointer     = *( "/" reference-token )
    reference-token  = *( unescaped / escaped )
    unescaped        = %x00-2E / %x30-7D / %x7F-10FFFF
    escaped          = "~" ( "0" / "1" )
    name             = *char                     ; JSON string characters
    token            = 1*tchar

An empty ``name`` is legal by the ABNF and never meant, so it is an error here; a response has neither query nor
path. Beyond the ABNF, unless ``strict``, are ``$request.body.id`` for ``$request.body#/id`` and, within braces,
``$name`` for the parameter or member of that name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from callback_middleware.errors import ExpressionSyntaxError
from callback_middleware.expressions.hints import meant_by
from callback_middleware.expressions.names import Names, nearest
from callback_middleware.expressions.naming import candidates, declared, default, first_of
from callback_middleware.expressions.references import (
    Body,
    Header,
    Method,
    Path,
    Query,
    Reference,
    RequestUrl,
    Side,
    StatusCode,
)
from callback_middleware.values import MISSING

CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"""Headers that no receiver may be sent, unless a callback says so. ``set-cookie`` is the response's ``cookie``."""

_SOURCE: Final = re.compile(r"\$(request|response)\.(header|query|path|body)(.*)", re.DOTALL)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHARS: Final = re.compile(r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*')
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_STEP: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*|0|[1-9][0-9]*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

_KEYWORDS: Final[dict[str, Reference]] = {"$url": RequestUrl(), "$method": Method(), "$statusCode": StatusCode()}
# No parameter is meant by one of these in whatever case, unless the operation declares it.
_RESERVED: Final = frozenset({"url", "method", "statuscode", "request", "response"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be written.

    Attributes:
        strict: Nothing beyond the ABNF.
        names: What is known of the operation; None if nothing is.
        allow_credentials: Headers of :data:`CREDENTIALS` may be sources.
    """

    strict: bool = False
    names: Names | None = None
    allow_credentials: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """An expression, and where it stands.

    Attributes:
        text: All that was written.
        expression: The expression by itself, from its ``$`` on.
        offset: Where it begins in ``text``.
        braced: Whether it stands in braces.
    """

    text: str
    expression: str
    offset: int = 0
    braced: bool = False

    def error(self, reason: str, index: int = 0, meant: str | None = None) -> ExpressionSyntaxError:
        """An error ``index`` characters into the expression; ``meant`` is the expression that should stand there."""
        hint = f"{{{meant}}}" if meant is not None and self.braced else meant
        return ExpressionSyntaxError(self.text, reason, min(self.offset + index, len(self.text)), hint)


def parse_reference(site: Site, rules: Rules) -> Reference:
    """What one expression refers to. Raises :class:`~callback_middleware.errors.ExpressionSyntaxError`."""
    keyword = _KEYWORDS.get(site.expression)
    if keyword is not None:
        _check_no_namesake(site, rules)
        return keyword
    source = _SOURCE.fullmatch(site.expression)
    if source is None:
        return _named(site, rules)
    side, index = Side(source[1]), source.start(3)
    match source[2]:
        case "header":
            return _header(site, rules, side, source[3], index)
        case "body":
            return _body(site, rules, side, source[3], index)
        case location if side is Side.RESPONSE:
            raise site.error(f"a response has no {location}", 0, meant_by(site.expression))
        case "query":
            return _query(site, rules, source[3], index)
        case _:
            return _path(site, rules, source[3], index)


def _check_no_namesake(site: Site, rules: Rules) -> None:
    """``{$url}`` beside a parameter ``url``: the ABNF says one thing, whoever wrote it means the other."""
    name = site.expression[1:]
    if site.braced and rules.names is not None and (namesakes := declared(name, rules.names)):
        reason = f"{site.expression} is the request's own {name}, not the {name!r} that the operation declares"
        raise site.error(reason, 0, str(namesakes[0]))


def _header(site: Site, rules: Rules, side: Side, rest: str, index: int) -> Header:
    name = rest[1:]
    token = _TOKEN.match(name)
    if not rest.startswith(".") or token is None:
        end = index + rest.startswith(".")
        raise site.error("a header's name must follow, as in $request.header.x-id", end, meant_by(site.expression))
    if token.end() != len(name):
        end = index + 1 + token.end()
        raise site.error("no header's name has this character", end, _braced(site, end))
    _check_no_credentials(site, rules, name)
    parameter = None if rules.names is None or side is Side.RESPONSE else rules.names.parameter("header", name)
    return Header(side, name, MISSING if parameter is None else parameter.default)


def _check_no_credentials(site: Site, rules: Rules, name: str) -> None:
    if name.lower() in CREDENTIALS and not rules.allow_credentials:
        raise site.error(f"{name} holds credentials, and a receiver is a stranger; allow_credentials=True allows it")


def _query(site: Site, rules: Rules, rest: str, index: int) -> Query:
    name = _char_name(site, rest, index)
    parameter = None if rules.names is None else rules.names.parameter("query", name)
    return Query(name, MISSING if parameter is None else parameter.default)


def _path(site: Site, rules: Rules, rest: str, index: int) -> Path:
    name = _char_name(site, rest, index)
    parameter = None if rules.names is None else rules.names.parameter("path", name)
    return Path(name, MISSING if parameter is None else parameter.default)


def _char_name(site: Site, rest: str, index: int) -> str:
    """A name of JSON string characters, its escapes resolved."""
    if not rest.startswith(".") or len(rest) == 1:
        end = index + rest.startswith(".")
        raise site.error("a name must follow, as in $request.query.url", end, meant_by(site.expression))
    name = rest[1:]
    legal = _CHARS.match(name)
    end = 0 if legal is None else legal.end()
    if end != len(name):
        raise site.error("this is no JSON string character; write it as an escape", index + 1 + end)
    if "\\" in name:
        name = json.loads(f'"{name}"')
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        raise site.error("the name holds half of a surrogate pair, which is no character", index + 1)
    return name


def _body(site: Site, rules: Rules, side: Side, rest: str, index: int) -> Body:
    if rest.startswith("."):
        steps = _dotted(site, rules, side, rest, index)
    elif rest in ("", "#"):
        return Body(side)
    elif rest.startswith("#/"):
        bad = _BAD_ESCAPE.search(rest)
        if bad is not None:
            reason = "in a pointer ~ is written ~0, and / within a name ~1"
            raise site.error(reason, index + bad.start(), _BAD_ESCAPE.sub("~0", site.expression))
        steps = [step.replace("~1", "/").replace("~0", "~") for step in rest[2:].split("/")]
    else:
        reason = (
            "a pointer begins with #/"
            if rest.startswith("#")
            else "a body is followed by a pointer, #/name, or nothing"
        )
        raise site.error(reason, index, meant_by(site.expression))
    field = None if rules.names is None or side is Side.RESPONSE or len(steps) > 1 else rules.names.body_field(steps[0])
    return Body(side, tuple(steps), MISSING if field is None else field.default)


def _dotted(site: Site, rules: Rules, side: Side, rest: str, index: int) -> list[str]:
    """The steps of the dialect ``$request.body.lines.0.sku``."""
    steps = rest[1:].split(".")
    end = index
    for step in steps:
        end += 1
        legal = _STEP.match(step)
        if legal is None or legal.end() != len(step):
            end += 0 if legal is None else legal.end()
            reason = "a dotted path holds names and indices only; a pointer, #/…, holds anything"
            raise site.error(reason, end, _braced(site, end) or meant_by(site.expression))
        end += len(step)
    if rules.strict:
        reason = "a dotted path is none of the specification's expressions; a pointer is"
        raise site.error(reason, index, str(Body(side, tuple(steps))))
    return steps


def _named(site: Site, rules: Rules) -> Reference:
    """The dialect ``{$name}``; and the error for whatever else is no expression."""
    name = site.expression[1:]
    is_declared = rules.names is not None and bool(declared(name, rules.names))
    if not site.braced or not (is_declared or _is_free(name)):
        raise site.error("this is no runtime expression", 0, meant_by(site.expression) or _named_meant(site, rules))
    found = candidates(name, rules.names)
    if not found:
        raise _unknown(site, name, rules)
    if rules.strict:
        # By presence a path parameter would come first, but it is the query where callback URLs are.
        meant = str(found[0]) if is_declared else f"$request.query.{name}"
        raise site.error("a name by itself is none of the specification's expressions", 0, meant)
    for one in found:
        if isinstance(one, Header):
            _check_no_credentials(site, rules, one.name)
    return first_of(found, default(name, rules.names))


def _is_free(name: str) -> bool:
    """Whether it is a name, and not a word of the grammar in another case."""
    return _NAME.fullmatch(name) is not None and name.lower() not in _RESERVED


def _named_meant(site: Site, rules: Rules) -> str | None:
    """``{$callback_url}/x`` for the bare ``$callback_url/x``."""
    if site.braced or (name := _NAME.match(site.expression, 1)) is None:
        return None
    rest = site.expression[name.end() :]
    if name[0].lower() in _RESERVED or (rest and rest[0] not in "/?&#"):
        return None
    return f"{{$request.query.{name[0]}}}{rest}" if rules.strict else f"{{${name[0]}}}{rest}"


def _unknown(site: Site, name: str, rules: Rules) -> ExpressionSyntaxError:
    known = [] if rules.names is None else list(rules.names.all())
    near = nearest(name, known)
    reason = f"the operation declares no parameter or body field {name!r}; it declares {', '.join(known) or 'none'}"
    return site.error(reason, 0, None if near is None else f"${near}")


def _braced(site: Site, end: int) -> str | None:
    """The braced form of a bare expression that ends at ``end``, where text seems to follow it."""
    if site.braced or site.expression[end : end + 1] not in ("/", "?", "&", "{"):
        return None
    return f"{{{site.expression[:end]}}}{site.expression[end:]}"

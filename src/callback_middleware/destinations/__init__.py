"""Destinations: from the key of a Callback Object to the URL that a callback is sent to.

Every value has a position, decided at start-up, and can do nothing but fill it: in path or query it is
percent-encoded, so that it neither ends its segment nor begins another part, and only with ``dynamic_host`` does one
reach the authority. Components are joined, never strings, and nothing is normalised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from callback_middleware.destinations.layout import Layout, lay_out
from callback_middleware.destinations.urls import MAX_LENGTH, Url, encode, read_url
from callback_middleware.egress.hosts import Authority
from callback_middleware.errors import EgressRefused
from callback_middleware.exchange import Exchange
from callback_middleware.expressions.embedding import Embedded, Part, Placeholder, parse_bare, parse_parts
from callback_middleware.expressions.grammar import Rules
from callback_middleware.expressions.names import Names
from callback_middleware.expressions.references import Needs, needs_of
from callback_middleware.jsontext import to_text
from callback_middleware.values import Reason, Unresolved, Value, excerpt

__all__ = ["Destination", "DestinationTemplate", "Origin", "Unresolved", "parse_destination"]

Origin: TypeAlias = str
"""Scheme, host and port as ``https://host:443``: what receivers are told apart by."""

_NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})
_DOTS: Final = frozenset({"", ".", ".."})

# One host, or a host and a port: nothing that could end the authority or put something before it.
_PLAIN_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f/?#@:\[\]\\%]+)(?::[0-9]{1,5})?")


class Destination(NamedTuple):
    """A URL that a callback can be sent to, as far as its text decides that.

    Attributes:
        url: Absolute and ASCII: exactly what goes on the wire, with no fragment and no userinfo.
        authority: Whom it goes to.
        target: Path and query: the request target of HTTP/1.1.
    """

    url: str
    authority: Authority
    target: str

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return self.authority.scheme

    @property
    def host(self) -> str:
        """Lower case, in A-labels; an IPv6 address without its brackets."""
        return self.authority.host

    @property
    def port(self) -> int:
        """The scheme's own where the URL has none."""
        return self.authority.port

    @property
    def origin(self) -> Origin:
        """Scheme, host and port, always all three: ``https://example.org:443``."""
        return self.authority.origin

    @classmethod
    def parse(cls, url: str) -> Destination:
        """The destination that a URL spells. Its fragment and an empty query are dropped, an empty path is ``/``.

        Raises:
            EgressRefused: No policy allows it; the message quotes neither path nor query nor userinfo.
        """
        base = read_url(url)
        return _destination(base.authority, base.path, base.query)


def _destination(authority: Authority, path: str, query: str) -> Destination:
    target = f"{path}?{query}" if query else path
    return Destination(authority.root + target, authority, target)


@dataclass(frozen=True, slots=True)
class DestinationTemplate:
    """A compiled destination.

    Attributes:
        text: As written; also what ``str()`` gives.
        layout: What stands where.
        needs: What must be captured to resolve it.
        warnings: What is legal and probably not meant, one sentence each.
    """

    text: str
    layout: Layout
    needs: Needs
    warnings: Sequence[str]

    def resolve(
        self,
        exchange: Exchange,
        *,
        params: Mapping[str, str] = _NO_PARAMS,
        query: Iterable[tuple[str, str]] = (),
    ) -> Destination | Unresolved:
        """The destination of one exchange, or why there is none. Never raises for what an exchange holds.

        Args:
            exchange: Captured as far as ``needs`` says.
            params: Values of the callback's own path parameters.
            query: Names and values to append to the query.
        """
        base = self._base(exchange)
        if isinstance(base, Unresolved):
            return base
        path = _fill(self.layout.path, exchange, params, in_path=True)
        if isinstance(path, Unresolved):
            return path
        has_more = self.layout.query or query
        whole_query = self._query(base.query, exchange, params, query) if has_more else base.query
        if isinstance(whole_query, Unresolved):
            return whole_query
        destination = _destination(base.authority, _joined(base.path, path), whole_query)
        if len(destination.url) > MAX_LENGTH:
            return Unresolved(Reason.REFUSED, self.text, f"the URL would be longer than {MAX_LENGTH} characters")
        return destination

    def _base(self, exchange: Exchange) -> Url | Unresolved:
        base = self.layout.base
        if isinstance(base, Embedded):
            written = base.written
            url = _client_url(base, exchange)
        else:
            written = self.text
            url = _own_url(base, exchange)
        if isinstance(url, Unresolved):
            return url
        try:
            return read_url(url)
        except EgressRefused as refused:
            return Unresolved(Reason.REFUSED, written, refused.rule)

    def _query(
        self, base: str, exchange: Exchange, params: Mapping[str, str], added: Iterable[tuple[str, str]]
    ) -> str | Unresolved:
        own = _fill(self.layout.query, exchange, params, in_path=False)
        if isinstance(own, Unresolved):
            return own
        try:
            pairs = [f"{encode(name)}={encode(value)}" for name, value in added]
        except UnicodeEncodeError:
            return Unresolved(Reason.REFUSED, self.text, "a query parameter holds half of a surrogate pair")
        return "&".join(filter(None, (base, own, *pairs)))

    def __str__(self) -> str:
        return self.text


def parse_destination(
    text: str,
    *,
    strict: bool = False,
    names: Names | None = None,
    parameters: frozenset[str] = frozenset(),
    dynamic_host: bool = False,
    allow_credentials: bool = False,
) -> DestinationTemplate:
    """Compile the key of a Callback Object: a bare expression, a template, or a URL.

    Args:
        text: As written.
        strict: Refuse what is outside the specification's grammar.
        names: What is known of the operation; None if nothing is.
        parameters: The callback's own path parameters: ``{name}`` stands for one of them.
        dynamic_host: Let expressions say where the callback goes by more than the base URL.
        allow_credentials: Let ``authorization``, ``proxy-authorization`` and cookies be sources.

    Raises:
        ExpressionSyntaxError: With the position, and what was probably meant.
    """
    rules = Rules(strict, names, allow_credentials)
    parts: Sequence[Part]
    if text.startswith("$") and not text.startswith("${"):
        parts = [parse_bare(text, rules)]
    else:
        parts = list(parse_parts(text, rules, placeholders=parameters))
    layout = lay_out(text, parts, dynamic_host=dynamic_host)
    warnings = tuple(warning for part in parts if isinstance(part, Embedded) for warning in part.warnings)
    used = [layout.base] if isinstance(layout.base, Embedded) else layout.base
    references = [part.reference for part in (*used, *layout.path, *layout.query) if isinstance(part, Embedded)]
    return DestinationTemplate(text, layout, reduce(Needs.__or__, map(needs_of, references), Needs()), warnings)


def _client_url(base: Embedded, exchange: Exchange) -> str | Unresolved:
    """The URL that the client handed over. A client that handed over none did not ask for a callback."""
    value = base.resolve(exchange)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Unresolved):
        if value.reason is Reason.TRUNCATED:
            return value
        return Unresolved(Reason.NOT_REQUESTED, base.written, value.detail)
    if value is None or value == "":
        return Unresolved(Reason.NOT_REQUESTED, base.written, "it is null" if value is None else "it is empty")
    return _scalar(value, base.written)


def _own_url(parts: Sequence[Part], exchange: Exchange) -> str | Unresolved:
    """Scheme and authority with their expressions filled in."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        value = _value(part, exchange, _NO_PARAMS)
        if isinstance(value, Unresolved):
            return value
        if _PLAIN_HOST.fullmatch(value) is None:
            return Unresolved(Reason.REFUSED, part.written, "it is no plain host, or host and port")
        texts.append(value)
    return "".join(texts)


def _fill(parts: Sequence[Part], exchange: Exchange, params: Mapping[str, str], *, in_path: bool) -> str | Unresolved:
    """A path or query with its values filled in, each percent-encoded."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        value = _value(part, exchange, params)
        if isinstance(value, Unresolved):
            return value
        if in_path and value in _DOTS:
            return Unresolved(Reason.REFUSED, part.written, f"{excerpt(value)} has no place in a path")
        try:
            text += encode(value)
        except UnicodeEncodeError:
            return Unresolved(Reason.REFUSED, part.written, "it holds half of a surrogate pair")
    return text


def _value(part: Embedded | Placeholder, exchange: Exchange, params: Mapping[str, str]) -> str | Unresolved:
    if isinstance(part, Placeholder):
        given = params.get(part.name)
        return Unresolved(Reason.UNRESOLVED, part.written, "no value was given for it") if given is None else given
    value = part.resolve(exchange)
    return value if isinstance(value, str) else _scalar(value, part.written)


def _scalar(value: Value | Unresolved, written: str) -> str | Unresolved:
    """A value as it stands in a URL. Null, objects and arrays have no place in one."""
    if isinstance(value, (str, Unresolved)):
        return value
    if value is None or isinstance(value, dict | list):
        kind = "null" if value is None else "an object" if isinstance(value, dict) else "an array"
        return Unresolved(Reason.UNRESOLVED, written, f"it is {kind}, which has no place in a URL")
    return to_text(value)


def _joined(base: str, path: str) -> str:
    """One path from two; pydantic ends every bare host with a slash, and the text begins with one too."""
    return base.removesuffix("/") + path if path else base

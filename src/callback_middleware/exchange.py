"""The exchange: one request to the API and the response to it, as far as they were captured.

Making one is cheap, for it happens at every request: nothing is decoded or parsed before somebody asks, and
whatever was asked for is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes

from callback_middleware.bodies import Body, form_pairs, parse_body
from callback_middleware.headers import Headers, RawHeaders
from callback_middleware.values import MISSING, Missing, Value

_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Exchange:
    """A request and its response. Treat it as immutable: it is shared by every callback of the request.

    Payload functions receive one::

        def payload(exchange: Exchange) -> object:
            return {"id": exchange.request_body["id"], "status": exchange.response_status}

    Attributes:
        method: HTTP method, upper case.
        path_params: The router's own, decoded and converted.
        request_headers: See :class:`~callback_middleware.headers.Headers`.
        request_content: The request body's bytes; those there are, if it was truncated; None if not captured.
        request_truncated: The body was larger than the capture limit, or did not come to its end.
        response_status: None while there is no response.
        response_headers: See :class:`~callback_middleware.headers.Headers`.
        response_content: Like ``request_content``.
        response_truncated: Like ``request_truncated``.
    """

    # What was asked for is kept, without functools.cached_property: before Python 3.12 that takes a lock.
    _url: str | None = None
    _query_pairs: Sequence[tuple[str, str]] | None = None
    _query: Mapping[str, str] | None = None
    _request: Body | None = None
    _response: Body | None = None

    def __init__(
        self,
        *,
        method: str,
        scheme: str,
        authority: bytes | None,
        server: tuple[str, int | None] | None,
        raw_path: bytes,
        query_string: bytes,
        request_headers: RawHeaders,
        path_params: Mapping[str, Any],
        request_content: bytes | None,
        request_truncated: bool,
        response_status: int | None,
        response_headers: RawHeaders,
        response_content: bytes | None,
        response_truncated: bool,
    ) -> None:
        """Take everything as it is; :meth:`from_asgi` and :meth:`build` are easier to call.

        Without an ``authority`` the URL has that of the Host header, and without one that of ``server``.
        """
        self.method: Final = method
        self.path_params: Final = path_params
        self.request_headers: Final = Headers(request_headers)
        self.request_content: Final = request_content
        self.request_truncated: Final = request_truncated
        self.response_status: Final = response_status
        self.response_headers: Final = Headers(response_headers)
        self.response_content: Final = response_content
        self.response_truncated: Final = response_truncated
        self._scheme: Final = scheme
        self._authority: Final = authority
        self._server: Final = server
        self._raw_path: Final = raw_path
        self._query_string: Final = query_string

    @classmethod
    def from_asgi(
        cls,
        scope: Mapping[str, Any],
        *,
        path_params: Mapping[str, Any] | None = None,
        request_content: bytes | None = None,
        request_truncated: bool = False,
        response_status: int | None = None,
        response_headers: RawHeaders = (),
        response_content: bytes | None = None,
        response_truncated: bool = False,
    ) -> Exchange:
        """An exchange from an ASGI HTTP connection scope, none of which is decoded yet.

        Args:
            scope: As the server made it. What is needed is taken now; a list of headers is kept, not copied.
            path_params: The router's; by default the scope's own.
            request_content: The body's bytes, or None if no callback needs them and they were not captured.
            request_truncated: ``request_content`` is not the whole body.
            response_status: None if there is no response (yet).
            response_headers: As in ``http.response.start``.
            response_content: Like ``request_content``.
            response_truncated: Like ``request_truncated``.
        """
        if path_params is None:
            path_params = scope.get("path_params") or {}
        return cls(
            method=scope["method"],
            scheme=scope.get("scheme") or "http",
            authority=None,
            server=scope.get("server"),
            raw_path=scope.get("raw_path") or quote(scope["path"]).encode("ascii"),
            query_string=scope.get("query_string") or b"",
            request_headers=scope["headers"],
            path_params=path_params,
            request_content=request_content,
            request_truncated=request_truncated,
            response_status=response_status,
            response_headers=response_headers,
            response_content=response_content,
            response_truncated=response_truncated,
        )

    @classmethod
    def build(
        cls,
        *,
        method: str = "POST",
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        path_params: Mapping[str, Any] | None = None,
        body: bytes | None = b"",
        body_truncated: bool = False,
        response_status: int | None = None,
        response_headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        response_body: bytes | None = b"",
        response_truncated: bool = False,
    ) -> Exchange:
        """An exchange by hand, for tests and tools.

        Args:
            method: In any case.
            url: Absolute; its fragment is dropped.
            headers: Names and values; a name may come twice.
            path_params: What a router would have found in the path.
            body: The request body's bytes; None for one that was not captured.
            body_truncated: ``body`` is not the whole of it.
            response_status: None for no response yet.
            response_headers: Like ``headers``.
            response_body: Like ``body``.
            response_truncated: Like ``body_truncated``.
        """
        before_query, _, query = url.partition("#")[0].partition("?")
        scheme, _, rest = before_query.partition("://")
        authority, slash, path = rest.partition("/")
        return cls(
            method=method.upper(),
            scheme=scheme,
            authority=authority.encode(),
            server=None,
            raw_path=(slash + path).encode(),
            query_string=query.encode(),
            request_headers=_raw(headers),
            path_params=path_params or {},
            request_content=body,
            request_truncated=body_truncated,
            response_status=response_status,
            response_headers=_raw(response_headers),
            response_content=response_body,
            response_truncated=response_truncated,
        )

    @property
    def url(self) -> str:
        """The absolute request URL, from the bytes of path and query as they came; ASCII."""
        if self._url is None:
            authority = self._authority
            if authority is None:
                authority = (self.request_headers.first("host") or "").encode("latin-1") or self._listening()
            query = b"?" + self._query_string if self._query_string else b""
            self._url = f"{self._scheme}://" + quote_from_bytes(authority + self._raw_path + query, _PRINTABLE)
        return self._url

    @property
    def query_pairs(self) -> Sequence[tuple[str, str]]:
        """Every query parameter in order, decoded as a form: ``+`` is a space, blank values are kept."""
        if self._query_pairs is None:
            self._query_pairs = tuple(form_pairs(self._query_string.decode("utf-8", "replace")))
        return self._query_pairs

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters by name; of a repeated one the first value."""
        if self._query is None:
            # Built backwards, so that the first of several is what stays.
            self._query = MappingProxyType(dict(reversed(self.query_pairs)))
        return self._query

    @property
    def request_body(self) -> Value | Missing:
        """The request body as a JSON value, an object of form fields, or text; MISSING where there is none of these."""
        return (self._request or self._read_request()).value

    @property
    def request_problem(self) -> str:
        """Why ``request_body`` is MISSING, in words; "" where it is not."""
        return (self._request or self._read_request()).problem

    @property
    def response_body(self) -> Value | Missing:
        """The response body, like ``request_body``."""
        return (self._response or self._read_response()).value

    @property
    def response_problem(self) -> str:
        """Why ``response_body`` is MISSING, in words; "" where it is not."""
        return (self._response or self._read_response()).problem

    def _read_request(self) -> Body:
        body = self._request = _body(self.request_content, self.request_headers, truncated=self.request_truncated)
        return body

    def _read_response(self) -> Body:
        body = self._response = _body(self.response_content, self.response_headers, truncated=self.response_truncated)
        return body

    def _listening(self) -> bytes:
        """Where the server listens, for a request without a Host header (HTTP/1.0)."""
        host, port = self._server or ("", None)
        bracketed = f"[{host}]" if ":" in host else host
        return (bracketed if port in (None, _DEFAULT_PORTS.get(self._scheme)) else f"{bracketed}:{port}").encode()

    def __repr__(self) -> str:
        # No query, no body: a repr ends up in logs.
        return f"<Exchange {self.method} {self.url.partition('?')[0]} → {self.response_status}>"


def _body(content: bytes | None, headers: Headers, *, truncated: bool) -> Body:
    if truncated:
        return Body(MISSING, "the body was not captured to its end")
    if content is None:
        return Body(MISSING, "the body was not captured")
    return parse_body(content, *headers.content())


def _raw(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> RawHeaders:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]

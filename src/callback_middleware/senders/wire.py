"""What goes over the wire, the same for every sender, and how much may come back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from callback_middleware.egress.hosts import Authority, HttpUrl
from callback_middleware.outcomes import AttemptRequest

__all__ = ["MAX_ANSWER", "MAX_HEAD", "MAX_HEADERS", "MAX_INFORMATIONAL", "WireRequest"]

MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer's body that are kept. What follows is not read: the connection is closed."""
MAX_HEAD: Final = 32 * 1024
"""Bytes of an answer's status line and headers, or of its trailers."""
MAX_HEADERS: Final = 100
"""Lines in an answer's head."""
MAX_INFORMATIONAL: Final = 8
"""1xx answers before the one that counts."""

# The sender alone says where one message ends and the next begins, and in what form it wants the answer.
_OWN: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"}
    | {"proxy-connection", "accept-encoding"}
)
_WITH_CONTENT: Final = frozenset({"POST", "PUT", "PATCH"})

# Read when the module is: it is a file that is read.
_USER_AGENT: Final = ("User-Agent", f"callback-middleware/{version('callback_middleware')}")


_WORTH_NOT_COPYING: Final = 64 * 1024

# RFC 9110, 5.6.2 and 5.5, without obsolete octets: one line of a head, and nothing that could be two.
_LINES: Final = re.compile(r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*\r\n)+")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request, complete.

    Attributes:
        target: Path and query, byte for byte as in the URL.
        headers: Every header there is, ``Host`` first, framing last.
        url: The whole URL as it was given.
    """

    method: str
    url: str
    authority: Authority
    target: bytes
    headers: Sequence[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, request: AttemptRequest, url: HttpUrl) -> WireRequest:
        """Complete a request's headers.

        ``Host``, framing, hop-by-hop and ``Accept-Encoding`` are the sender's: given ones are left out.
        A given ``User-Agent`` stays.
        """
        headers = [("Host", url.authority.text), ("Accept-Encoding", "identity")]
        agent_given = False
        for header in request.headers:
            name = header[0].lower()
            if name not in _OWN:
                headers.append(header)
                agent_given = agent_given or name == "user-agent"
        if not agent_given:
            headers.insert(1, _USER_AGENT)
        body = request.body or b""
        # RFC 9110, 8.6: a method that expects content says so even when there is none.
        if body or request.body is not None or request.method in _WITH_CONTENT:
            headers.append(("Content-Length", str(len(body))))
        return cls(request.method, request.url, url.authority, url.target, headers, body)

    def encoded(self) -> Sequence[bytes]:
        """The request, as it is to be sent: in one piece, for one system call, unless its body is worth not copying.

        Raises:
            ValueError: The method, a name or a value has a character that would make it something else.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        # A value with a line break of its own may look like two good lines: they are counted.
        if _LINES.fullmatch(lines) is None or lines.count("\n") != len(self.headers):
            raise ValueError("a header cannot be written")
        if _METHOD.fullmatch(self.method) is None:
            raise ValueError("the method cannot be written")
        head = b"".join((self.method.encode(), b" ", self.target, b" HTTP/1.1\r\n", lines.encode(), b"\r\n"))
        return (head, self.body) if len(self.body) > _WORTH_NOT_COPYING else (head + self.body,)

"""As much of PostgreSQL's protocol as tells one message from the next, and which statement one executes: pure.

PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Formats". A message is one byte for its kind, four for
the length of what follows, themselves included, and its content. The first one of a client has no kind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_LENGTH: Final = struct.Struct("!I")
_CODE: Final = struct.Struct("!II")

_ENCRYPTION: Final = frozenset({80877103, 80877104})
"""What a client says first that asks for SSL, or for GSSAPI's encryption."""

CANCEL: Final = 80877102
"""What a client says, and nothing else, on the connection by which it asks to cancel what another one does."""

READY: Final = b"Z"
KEY: Final = b"K"
_SYNC: Final = b"S"
_QUERY: Final = b"Q"


class Message(NamedTuple):
    """One message, whole.

    Attributes:
        kind: One byte; empty for the first one of a client.
        data: All of it, as it is sent.
    """

    kind: bytes
    data: bytes

    @property
    def content(self) -> bytes:
        return self.data[len(self.kind) + _LENGTH.size :]

    @property
    def asks_for_encryption(self) -> bool:
        return not self.kind and _CODE.unpack_from(self.data)[1] in _ENCRYPTION

    @property
    def expects_ready(self) -> bool:
        """Whether a client that sends this is told ``ReadyForQuery``, when everything before it is done."""
        if not self.kind:
            return not self.asks_for_encryption and _CODE.unpack_from(self.data)[1] != CANCEL
        return self.kind in (_SYNC, _QUERY)


class Messages:
    """Cuts one direction of a connection into messages.

    Args:
        begins: Whether it is the client's, which begins with messages that have no kind.
    """

    def __init__(self, *, begins: bool = False) -> None:
        self._begins = begins
        self._received = bytearray()

    def cut(self, received: bytes) -> Iterator[Message]:
        """The messages that are whole with these bytes."""
        self._received += received
        while True:
            kind = 0 if self._begins else 1
            if len(self._received) < kind + _LENGTH.size:
                return
            end = kind + _LENGTH.unpack_from(self._received, kind)[0]
            if len(self._received) < end:
                return
            data = bytes(self._received[:end])
            del self._received[:end]
            message = Message(data[:kind], data)
            # Refused encryption it begins again.
            self._begins = self._begins and message.asks_for_encryption
            yield message


class Statements:
    """Knows which statement a client's message has the server execute."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}
        self._bound: dict[bytes, str] = {}

    def executed(self, message: Message) -> str | None:
        """Its text, or None where this message executes none."""
        first, _, rest = message.content.partition(b"\0")
        second = rest.partition(b"\0")[0]
        match message.kind:
            case b"P":
                self._prepared[first] = second.decode()
            case b"B":
                # One that was prepared where nobody saw it is anybody's.
                self._bound[first] = self._prepared.get(second, "")
            case b"E":
                return self._bound.get(first, "")
            case b"Q":
                return first.decode()
        return None


def backend(message: Message) -> int:
    """The process that serves the connection, of a ``BackendKeyData``."""
    return int(_LENGTH.unpack_from(message.content)[0])

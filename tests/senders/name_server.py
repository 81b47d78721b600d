"""A name server of a test's own, over UDP and TCP: what it answers may change from one lookup to the next."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_LARGEST_DATAGRAM: Final = 512
_LONGEST_CHAIN: Final = 20

Records: TypeAlias = Mapping[str, Sequence[str]]
"""By type (``A``, ``AAAA``, ``CNAME``): what stands there, as zone files write it."""


@dataclass(frozen=True)
class Name:
    """What is known of one name.

    Attributes:
        lookups: What each lookup finds; the last one is found again and again.
        wait: Set it, and the answer comes; until then there is none.
    """

    lookups: Sequence[Records]
    wait: threading.Event | None = None


@dataclass
class NameServer:
    """Answers recursively for the names that it knows; every other name does not exist.

    Attributes:
        names: With a final dot.
        asked: Every name that was asked for, as it was, in order.
        over_tcp: How many of the questions came over TCP.
    """

    names: Mapping[str, Name]
    asked: list[str] = field(default_factory=list)
    over_tcp: int = 0
    _found: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, address: str, port: int) -> None:
        """Answer there from now on, until the process ends."""
        outer = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sock = self.request
                sock.sendto(outer.answer(data, datagram=True), self.client_address)

        class Stream(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError, struct.error):
                    while True:
                        (length,) = struct.unpack("!H", self.request.recv(2, 0x100))  # MSG_WAITALL
                        wire = outer.answer(self.request.recv(length, 0x100), datagram=False)
                        self.request.sendall(struct.pack("!H", len(wire)) + wire)

        for server in (
            socketserver.ThreadingUDPServer((address, port), Datagram),
            socketserver.ThreadingTCPServer((address, port), Stream),
        ):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, wire: bytes, *, datagram: bool) -> bytes:
        """One answer, in the form that goes over the wire; where a datagram has no room for it, one that says so."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        with self._lock:
            self.asked.append(name)
            self.over_tcp += not datagram
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        known = self.names.get(name)
        if known is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response.to_wire()
        if known.wait is not None:
            known.wait.wait()
        response.answer.extend(self._chain(name, kind))
        whole = response.to_wire(max_size=65535)
        if datagram and len(whole) > _LARGEST_DATAGRAM:
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.RA | dns.flags.TC
            return cut.to_wire()
        with self._lock:
            self._found[name, kind] += 1
        return whole

    def _chain(self, name: str, kind: str) -> Sequence[dns.rrset.RRset]:
        """The records of a name, or those that its aliases lead to."""
        chain: list[dns.rrset.RRset] = []
        while len(chain) < _LONGEST_CHAIN and (known := self.names.get(name)) is not None:
            with self._lock:
                records = known.lookups[min(self._found[name, kind], len(known.lookups) - 1)]
            for found in ("CNAME", kind):
                if texts := records.get(found):
                    # A day: whoever asks again within it does so because he wants to know.
                    chain.append(dns.rrset.from_text(name, 86_400, "IN", found, *texts))
            name = next(iter(records.get("CNAME", ())), "")
        return chain

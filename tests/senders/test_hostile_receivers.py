"""One receiver after another that does what it should not. What endless ones cost stands in ``test_endurance.py``."""

from __future__ import annotations

import socket
import ssl
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack

import anyio
import anyio.to_thread
import pytest
import trustme
from misbehaving import unaccepted
from scripted_receiver import (
    BODY,
    HEADERS,
    LATER,
    LOOPBACK,
    SOON,
    MakeSender,
    Peer,
    Receiver,
    Script,
    always,
    answer,
    names,
    serve,
)

from callback_middleware.outcomes import Accepted, AttemptRequest, Outcome, Phase, Rejected, TimedOut, Unreachable
from callback_middleware.ports import Sender
from lacking import lacking

LARGE = b"x" * 2**24
"""More than the buffers of two sockets."""


@pytest.fixture
def anyio_backend(combination: Sequence[str]) -> str:
    return combination[1]


def once(response: bytes, *, gone: anyio.Event | None = None) -> Script:
    """Reads a request, sends this, and waits until the sender has gone."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response)
        await peer.gone()
        if gone is not None:
            gone.set()

    return script


class TestMalformed:
    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 99 Early\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/x.y 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"POST / HTTP/1.1\r\nHost: you\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    async def test_a_head_that_can_be_read_in_two_ways_is_no_answer(self, sender: Sender, response: bytes) -> None:
        async with serve(once(response)) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable), outcome
        assert outcome.phase is Phase.HEADERS

    @pytest.mark.parametrize("combination", [["httpx", "asyncio"], ["httpx", "trio"]])  # aiohttp bears with these
    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        ],
    )
    async def test_nor_is_one_that_is_only_spelt_wrongly(self, sender: Sender, response: bytes) -> None:
        async with serve(once(response)) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable), outcome
        assert outcome.phase is Phase.HEADERS

    @pytest.mark.parametrize(
        "chunks",
        [
            b"zz\r\nok\r\n0\r\n\r\n",
            b"-2\r\nok\r\n0\r\n\r\n",
            b"0x2\r\nok\r\n0\r\n\r\n",
            b"\r\n",
            b"2\r\nokay\r\n0\r\n\r\n",
            b"f" * 30 + b"\r\nok",
        ],
        ids=["no number", "negative", "with a prefix", "none", "too short", "too large"],
    )
    async def test_a_bad_chunk_is_no_answer(self, sender: Sender, chunks: bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            # In one piece, aiohttp would know before it has a head.
            await anyio.wait_all_tasks_blocked()
            await peer.send(chunks)
            await peer.gone()

        async with serve(script) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable), outcome
        assert outcome.phase is Phase.BODY


class TestConnections:
    async def test_one_that_was_to_be_closed_is_closed_by_us(self, sender: Sender) -> None:
        gone = anyio.Event()
        async with serve(once(answer("200 OK", b"ok", "Connection: close"), gone=gone)) as receiver:
            assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
            with anyio.fail_after(LATER.total_seconds()):
                await gone.wait()

    async def test_what_was_agreed_on_for_http_1_0_only_is_not_kept(self, sender: Sender) -> None:
        response = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
        async with serve(always(response)) as receiver:
            for _ in range(2):
                assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
        assert receiver.accepted == 2

    async def test_another_place_that_is_advertised_is_not_gone_to(self, sender: Sender) -> None:
        async with serve(always(answer("500 Wrong door"))) as other:
            advertised = f'Alt-Svc: h2="127.0.0.1:{other.port}", http/1.1="127.0.0.1:{other.port}"; persist=1'
            async with serve(always(answer("200 OK", b"ok", advertised, "Connection: close"))) as receiver:
                for _ in range(3):
                    assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
            assert (receiver.accepted, other.accepted) == (3, 0)

    async def test_a_protocol_that_was_not_asked_for_is_not_switched_to(self, sender: Sender) -> None:
        switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + answer()
        async with serve(once(switching)) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=SOON)
        assert not isinstance(outcome, Accepted)

    async def test_credentials_of_the_machine_are_not_sent(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch, tmp_path: object
    ) -> None:
        netrc = f"{tmp_path}/netrc"
        await anyio.Path(netrc).write_text("default login somebody password secret\n")
        monkeypatch.setenv("NETRC", netrc)
        async with serve(always(answer())) as receiver:
            await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert b"uthorization" not in receiver.requests[0]


class TestReset:
    async def reset_at(self, sender: Sender, script: Script, body: bytes = BODY, scheme: str = "http") -> Outcome:
        async with serve(script) as receiver:
            request = AttemptRequest("POST", receiver.url(scheme=scheme), HEADERS, body)
            return await sender.send(request, egress=LOOPBACK, deadline=LATER)

    async def test_when_it_is_accepted(self, sender: Sender) -> None:
        outcome = await self.reset_at(sender, Peer.reset)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase in {Phase.CONNECT, Phase.SEND, Phase.HEADERS}  # whichever it hears of it in

    @pytest.mark.parametrize("how", ["reset", "close"])
    async def test_in_the_middle_of_the_handshake(self, sender: Sender, how: str) -> None:
        async def script(peer: Peer) -> None:
            await peer.stream.receive()  # its greeting
            await getattr(peer, how)()

        outcome = await self.reset_at(sender, script, scheme="https")
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.TLS

    async def test_in_the_middle_of_the_request(self, sender: Sender, library: str) -> None:
        async def script(peer: Peer) -> None:
            await peer.stream.receive()  # its first lines
            await anyio.wait_all_tasks_blocked()
            await peer.reset()

        outcome = await self.reset_at(sender, script, LARGE)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is (Phase.HEADERS if library == "aiohttp" else Phase.SEND)


class TestSlow:
    @pytest.mark.parametrize(
        ("first", "again", "phase"),
        [
            (b"HTTP/1.1 200 ", b"O", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", Phase.BODY),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";", Phase.BODY),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", Phase.BODY),
        ],
        ids=["status", "headers", "chunks", "an extension", "trailers"],
    )
    async def test_whatever_drips_is_cut_off(self, sender: Sender, first: bytes, again: bytes, phase: Phase) -> None:
        gone = anyio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            try:
                await peer.send(first)
                while True:
                    await anyio.sleep(0.02)
                    await peer.send(again)
            except anyio.BrokenResourceError:
                gone.set()

        with anyio.fail_after(LATER.total_seconds()):
            async with serve(script) as receiver:
                outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=SOON)
                assert outcome == TimedOut(phase)
                await gone.wait()

    async def test_a_connection_that_is_not_taken(self, sender: Sender) -> None:
        if sys.platform != "linux":
            lacking("a queue of connections must be full and stay so, as Linux has it: run it there")
        with unaccepted() as port:
            request = Receiver(port).post()
            outcome = await sender.send(request, egress=LOOPBACK, deadline=SOON)
        assert outcome == TimedOut(Phase.CONNECT)

    async def test_a_request_that_is_not_read(self, sender: Sender, library: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unheard:  # the system takes the connection, and there it ends
            request = AttemptRequest("POST", Receiver(unheard.getsockname()[1]).url(), HEADERS, LARGE)
            outcome = await sender.send(request, egress=LOOPBACK, deadline=SOON)
        assert outcome == TimedOut(Phase.HEADERS if library == "aiohttp" else Phase.SEND)

    async def test_an_answer_before_the_request_was_read(self, sender: Sender, library: str) -> None:
        """The default sender speaks first and listens then: of one that never listens it hears nothing."""
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer_unread() -> None:
                connection, _ = listener.accept()
                stack.enter_context(connection).sendall(answer("413 Content Too Large"))

            request = AttemptRequest("POST", Receiver(listener.getsockname()[1]).url(), HEADERS, LARGE)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, answer_unread)
                outcome = await sender.send(request, egress=LOOPBACK, deadline=SOON)
        assert isinstance(outcome, Rejected if library == "aiohttp" else TimedOut)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestTLS:
    def server(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("a.example", "b.example", "127.0.0.1").configure_cert(context)
        return context

    def client(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    def speaking(self, context: ssl.SSLContext, seen: list[object] | None = None) -> Script:
        async def script(peer: Peer) -> None:
            try:
                await peer.secure(context)
            except ssl.SSLError:
                return
            if seen is not None:
                seen.append(peer.certificate())
            await always(answer())(peer)

        return script

    async def test_a_receiver_that_speaks_only_what_is_too_old(
        self, make_sender: MakeSender, authority: trustme.CA
    ) -> None:
        context = self.server(authority)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        sender = make_sender(ssl_context=self.client(authority))
        async with serve(self.speaking(context)) as receiver:
            outcome = await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.TLS
        assert receiver.requests == []

    async def test_http_2_is_not_offered(self, sender: Sender, authority: trustme.CA) -> None:
        """To a receiver that would rather speak it. Only the default context is looked at: it trusts nobody here."""
        offered: list[bytes] = []

        async def script(peer: Peer) -> None:
            offered.append(await peer.stream.receive())

        async with serve(script) as receiver:
            await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=LATER)
        assert b"http/1.1" in offered[0]
        assert b"\x02h2" not in offered[0]

    async def test_an_authority_that_is_trusted_for_one_host_is_trusted_for_no_other(
        self, make_sender: MakeSender, authority: trustme.CA
    ) -> None:
        lookup = names(a_example="127.0.0.1", b_example="127.0.0.1")
        sender = make_sender(ssl_contexts={"a.example": self.client(authority)}, lookup=lookup)
        async with serve(self.speaking(self.server(authority))) as receiver:
            outcomes = [
                await sender.send(receiver.post(host=host, scheme="https"), egress=LOOPBACK, deadline=LATER)
                for host in ("a.example", "b.example", "a.example")
            ]
        assert [type(outcome) for outcome in outcomes] == [Accepted, Unreachable, Accepted]

    async def test_a_client_certificate_is_shown_to_its_host_alone(
        self, make_sender: MakeSender, authority: trustme.CA
    ) -> None:
        server, ours = self.server(authority), self.client(authority)
        server.verify_mode = ssl.CERT_OPTIONAL
        authority.configure_trust(server)
        authority.issue_cert("us@ours.example").configure_cert(ours)
        sender = make_sender(
            ssl_context=self.client(authority),
            ssl_contexts={"a.example": ours},
            lookup=names(a_example="127.0.0.1", b_example="127.0.0.1"),
        )
        seen: list[object] = []
        async with serve(self.speaking(server, seen)) as receiver:
            for host in ("a.example", "b.example"):
                request = receiver.post(host=host, scheme="https")
                assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        assert [bool(certificate) for certificate in seen] == [True, False]

    async def test_a_proxy_in_the_environment_is_not_used_for_tls_either(
        self, make_sender: MakeSender, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sender = make_sender(ssl_context=self.client(authority))
        async with (
            serve(always(answer("502 Proxy"))) as proxy,
            serve(self.speaking(self.server(authority))) as receiver,
        ):
            for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url())
            outcome = await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Accepted)
        assert proxy.accepted == 0

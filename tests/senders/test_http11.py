"""One exchange on one connection, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import anyio
import pytest
from anyio import lowlevel
from scripted_receiver import answer

from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.outcomes import AttemptRequest, Phase
from callback_middleware.senders.http11 import HttpConnection
from callback_middleware.senders.progress import AttemptFailed, Progress
from callback_middleware.senders.streams import Stream
from callback_middleware.senders.wire import MAX_ANSWER, WireRequest

URL = "https://receiver.example/"


class FakeStream:
    """Gives these pieces, one at each reading; after the last one, the end."""

    def __init__(self, pieces: Sequence[bytes | OSError], *, refuses: OSError | None = None) -> None:
        self.pieces = list(pieces)
        self.refuses = refuses
        self.sent = b""

    async def send(self, data: bytes) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.sent += data

    async def receive(self, most: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, OSError):
            raise piece
        return piece


def on(stream: FakeStream) -> HttpConnection:
    return HttpConnection(cast("Stream", stream))


def request(method: str = "POST") -> WireRequest:
    return WireRequest.of(AttemptRequest(method, URL, (), b"body"), HttpUrl.of(URL))


async def test_an_answer_may_come_in_any_pieces() -> None:
    pieces = [bytes([byte]) for byte in answer("201 Created", b"body", "X: y")]
    connection = on(FakeStream(pieces))
    answered = await connection.exchange(request(), Progress(), MAX_ANSWER)
    assert (answered.status, answered.body, answered.header("x")) == (201, b"body", "y")
    assert connection.reusable


async def test_an_early_answer_counts_although_the_request_could_not_be_sent() -> None:
    connection = on(FakeStream([answer("413 Too Large")], refuses=BrokenPipeError(32, "Broken pipe")))
    answered = await connection.exchange(request(), Progress(), MAX_ANSWER)
    assert answered.status == 413
    assert not connection.reusable


@pytest.mark.parametrize("pieces", [[], [ConnectionResetError(104, "reset")], [b"HTTP/1.1 200"]])
async def test_without_one_it_failed_at_sending(pieces: Sequence[bytes | OSError]) -> None:
    progress = Progress()
    with pytest.raises(BrokenPipeError):
        await on(FakeStream(pieces, refuses=BrokenPipeError(32, "Broken pipe"))).exchange(
            request(), progress, MAX_ANSWER
        )
    assert progress.phase is Phase.SEND


@pytest.mark.parametrize(
    "pieces",
    [
        [answer() + b"HTTP/1.1 200 Forged\r\n"],
        [answer(), b""],
        [answer("200 OK", b"", "Connection: close")],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\nuntil the end"],
    ],
    ids=["bytes after it", "nothing", "close", "1.0", "until the end"],
)
async def test_a_connection_is_reusable_only_at_the_beginning_of_the_next_exchange(pieces: list[bytes]) -> None:
    connection = on(FakeStream(pieces))
    answered = await connection.exchange(request(), Progress(), MAX_ANSWER)
    assert answered.status == 200
    assert connection.reusable is (pieces == [answer(), b""])


async def test_a_head_has_no_body_whatever_its_length_says() -> None:
    connection = on(FakeStream([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]))
    answered = await connection.exchange(request("HEAD"), Progress(), MAX_ANSWER)
    assert answered.body == b""
    assert connection.reusable


async def test_a_cut_answer_leaves_nothing_to_use_again() -> None:
    connection = on(FakeStream([answer("200 OK", b"0123456789")]))
    answered = await connection.exchange(request(), Progress(), 4)
    assert (answered.body, answered.truncated) == (b"0123", True)
    assert not connection.reusable


@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"\r\n\r\n", b"HTTP/2 200\r\n\r\n"]
)
async def test_what_was_not_asked_for_is_malformed(response: bytes) -> None:
    with pytest.raises(AttemptFailed, match=r"malformed answer|without an answer"):
        await on(FakeStream([response])).exchange(request(), Progress(), MAX_ANSWER)


async def test_a_receivers_own_bytes_are_not_repeated() -> None:
    with pytest.raises(AttemptFailed) as caught:
        await on(FakeStream([b"HTTP/1.1 \x1b[31msecret\r\n\r\n"])).exchange(request(), Progress(), MAX_ANSWER)
    assert "secret" not in caught.value.detail


async def test_a_receiver_that_is_always_ready_does_not_keep_the_loop_for_itself() -> None:
    """Reading what is there waits for nothing, and a deadline is only looked at where something waits."""
    pieces = [bytes([byte]) for byte in answer("200 OK", b"x" * 1000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        await on(FakeStream(pieces)).exchange(request(), Progress(), MAX_ANSWER)
        tasks.cancel_scope.cancel()
    assert turns > 20


async def test_what_surrounds_a_body_counts_too() -> None:
    """A chunk of one byte may have an extension of thousands."""
    chunk = b"1;" + b"e" * 10_000 + b"\r\nx\r\n"
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 1000]
    stream = FakeStream(pieces)
    connection = on(stream)
    answered = await connection.exchange(request(), Progress(), MAX_ANSWER)
    assert answered.truncated
    assert set(answered.body) == {ord("x")}
    assert not connection.reusable
    assert len(stream.pieces) > 990

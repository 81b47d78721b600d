"""What probes are told, over real sockets on loopback."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import anyio
import click
import httpx
import pytest
from anyio.abc import SocketStream

from callback_middleware.cli import health
from callback_middleware.cli.health import answering_probes
from callback_middleware.dispatcher.conditions import Condition, Readiness
from lacking import lacking

READY = Condition(
    readiness=Readiness.READY, since=datetime(2030, 1, 1, 12, 0, 0, 5000, tzinfo=UTC), in_flight=3, reason=""
)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def probed(condition: Callable[[], Condition] = lambda: READY) -> AsyncIterator[int]:
    with anyio.fail_after(60):
        async with answering_probes("127.0.0.1", 0, condition) as port:
            yield port


async def received(stream: SocketStream) -> bytes:
    """Everything until the other side closes: in order, and not with a reset."""
    told = b""
    try:
        while True:
            told += await stream.receive()
    except anyio.EndOfStream:
        return told


async def say(port: int, text: bytes) -> Answer:
    """Send these bytes, and read the answer until it is over."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(text)
        told = await received(stream)
    head, _, body = told.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.lower().split(": ", 1) for field in fields)
    return Answer(int(line.split(" ")[1]), headers, body)


async def ask(port: int, path: str, method: str = "GET") -> Answer:
    return await say(port, f"{method} {path} HTTP/1.1\r\nHost: worker\r\n\r\n".encode())


async def test_a_worker_that_is_ready_says_since_when_and_what_it_has_in_flight() -> None:
    async with probed() as port:
        answer = await ask(port, "/ready")
    assert answer.status == 200
    assert json.loads(answer.body) == {"status": "ready", "since": "2030-01-01T12:00:00.005Z", "in_flight": 3}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("readiness", [one for one in Readiness if one is not Readiness.READY])
async def test_a_worker_that_is_not_ready_says_why(readiness: Readiness) -> None:
    async with probed(lambda: replace(READY, readiness=readiness, reason="the disk is full")) as port:
        answer = await ask(port, "/ready")
        alive = await ask(port, "/live")
    assert answer.status == 503
    told = json.loads(answer.body)
    assert (told["status"], told["reason"], told["in_flight"]) == (readiness.value, "the disk is full", 3)
    assert (alive.status, json.loads(alive.body)) == (200, {"status": "live"})


async def test_every_question_is_answered_as_it_stands_then() -> None:
    conditions = [READY, replace(READY, readiness=Readiness.DRAINING, reason="it was told to stop")]
    async with probed(lambda: conditions.pop(0)) as port:
        assert [(await ask(port, "/ready?verbose=1")).status for _ in range(2)] == [200, 503]


@pytest.mark.parametrize("path", ["/live", "/ready"])
async def test_head_is_told_what_get_is_without_a_body(path: str) -> None:
    async with probed() as port:
        get, head = await ask(port, path), await ask(port, path, "HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


@pytest.mark.parametrize("path", ["/", "/ready/", "/metrics", "http://worker/ready"])
async def test_anything_else_is_not_found(path: str) -> None:
    async with probed() as port:
        assert (await ask(port, path)).status == 404


async def test_another_method_is_not_allowed() -> None:
    async with probed() as port:
        answer = await ask(port, "/ready", "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "get, head")


async def test_whoever_sends_a_body_is_answered_too() -> None:
    """Although nobody reads it: a connection that is reset may take its answer along."""
    body = b"x" * 6000
    async with probed() as port:
        answer = await say(port, b"POST /ready HTTP/1.1\r\nHost: w\r\nContent-Length: 6000\r\n\r\n" + body)
    assert answer.status == 405


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"what?\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: w\r\nX: " + b"x" * 9000, 431),
    ],
)
async def test_what_is_no_request_is_refused(text: bytes, status: int) -> None:
    async with probed() as port:
        assert (await say(port, text)).status == status
        assert (await ask(port, "/live")).status == 200


async def test_an_ordinary_client_is_answered() -> None:
    async with probed() as port, httpx.AsyncClient(trust_env=False) as client:
        for _ in range(2):
            assert (await client.get(f"http://127.0.0.1:{port}/ready")).json()["status"] == "ready"


@pytest.mark.parametrize("text", [b"", b"GET /rea"])
async def test_whoever_goes_away_harms_nobody(text: bytes) -> None:
    async with probed() as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(text)
        assert (await ask(port, "/live")).status == 200


class Connection:
    """A connection on which these pieces come, and that may fail in the middle of an answer."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = [b"GET /live HTTP/1.1\r\nHost: worker\r\n\r\n", *pieces]
        self.error = error
        self.closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def receive(self, most: int) -> bytes:
        if not self.pieces:
            raise anyio.EndOfStream
        return self.pieces.pop(0)

    async def send(self, data: bytes) -> None: ...

    async def send_eof(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(("sent", "unread"), [(2, 0), (50, 48)])
async def test_what_comes_after_a_request_is_taken_off_the_connection_and_not_without_end(
    sent: int, unread: int
) -> None:
    """What lies there when it is closed would have it reset, and the answer with it."""
    stream = Connection(*[b"x" * 4096] * sent)
    probes: Any = health._Probes(lambda: READY)
    await probes._converse(stream)
    assert (stream.closed, len(stream.pieces)) == (True, unread)


@pytest.mark.parametrize(
    "error", [OSError(107, "not connected"), anyio.BrokenResourceError(), anyio.ClosedResourceError()]
)
async def test_a_connection_that_fails_is_nobodys_concern(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    stream = Connection(error=error)
    probes: Any = health._Probes(lambda: READY)
    await probes._converse(stream)
    assert (stream.closed, caplog.records) == (True, [])


async def test_whoever_is_done_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CONNECTIONS", 8)
    async with probed() as port:
        assert {(await ask(port, "/live")).status for _ in range(20)} == {200}


async def test_whoever_resets_the_connection_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with probed() as port:
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.sendall(b"GET /ready HTTP/1.1\r\n")
        assert (await ask(port, "/live")).status == 200
    assert caplog.records == []


async def test_whoever_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.01)
    async with probed() as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        assert await received(stream) == b""


async def test_only_so_many_are_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CONNECTIONS", 1)
    async with probed() as port, await anyio.connect_tcp("127.0.0.1", port) as first:
        await first.send(b"GET /live HTTP/1.1\r\n")
        async with await anyio.connect_tcp("127.0.0.1", port) as second:
            assert await received(second) == b""
        await first.send(b"Host: worker\r\n\r\n")
        assert b"200" in await first.receive()


async def test_a_probe_that_fails_is_told_to_the_log_and_the_next_one_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Condition:
        raise RuntimeError("no idea")

    async with probed(broken) as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /ready HTTP/1.1\r\nHost: w\r\n\r\n")
            assert await received(stream) == b""
        assert (await ask(port, "/live")).status == 200
    assert "answering a probe failed" in caplog.messages


async def test_a_connection_that_cannot_be_accepted_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the process has as many files open as it may."""
    monkeypatch.setattr(health, "_PAUSE", 0)
    failures = [OSError(24, "Too many open files")]
    create = anyio.create_tcp_listener

    async def failing_once(**named: Any) -> Any:
        listener = await create(**named)
        (only,) = listener.listeners
        serve = only.serve

        async def serve_or_fail(*arguments: Any) -> None:
            if failures:
                raise failures.pop()
            await serve(*arguments)

        monkeypatch.setattr(only, "serve", serve_or_fail)
        return listener

    monkeypatch.setattr(anyio, "create_tcp_listener", failing_once)
    async with probed() as port:
        assert (await ask(port, "/live")).status == 200
    assert any("Too many open files" in message for message in caplog.messages)


async def test_a_server_that_ends_is_told_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def end(*_: object) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(health._Probes, "serve", end)
    async with probed():
        await anyio.wait_all_tasks_blocked()
    assert "probes are not answered any more" in caplog.messages


async def test_the_port_is_told_to_the_log_and_free_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    async with probed() as port, await anyio.connect_tcp("127.0.0.1", port):
        pass
    assert f"readiness: http://127.0.0.1:{port}/ready" in caplog.messages
    with pytest.raises(OSError, match=r"refused|connect"):
        await anyio.connect_tcp("127.0.0.1", port)


async def test_a_port_that_is_taken_is_told_and_not_shared() -> None:
    async with probed() as port:
        with pytest.raises(
            click.ClickException, match=f"cannot be answered at 127.0.0.1, port {port}: .*in use; give --health-port"
        ) as one:
            async with answering_probes("127.0.0.1", port, lambda: READY):
                raise AssertionError
        assert one.value.exit_code == 1


async def test_it_answers_on_ipv6_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callback_middleware")
    with socket.socket(socket.AF_INET6) as trial:
        try:
            trial.bind(("::1", 0))
        except OSError as error:
            lacking(f"this machine has no IPv6 on loopback ({error}): give lo the address ::1")
    async with answering_probes("::1", 0, lambda: READY) as port, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://[::1]:{port}/live")).status_code == 200
    assert f"readiness: http://[::1]:{port}/ready" in caplog.messages

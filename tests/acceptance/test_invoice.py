"""The invoice of FastAPI's documentation: real processes, real sockets, whatever the receiver does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from receivers import Heard, Receiver, receiving
from servers import STOPPING, UVICORN, Server, serving

HERE = Path(__file__).parent
INVOICE = {"id": "2expen51ve", "title": "A website", "customer": "Mr. Richie Rich", "total": 9999.10}
GIFT = {**INVOICE, "total": -1}
PATHS = ("/invoices/", "/braced/", "/standard/", "/declared/")


@pytest.fixture(scope="module")
def api() -> Iterator[Server]:
    with serving(UVICORN, "invoices:app", directory=HERE) as server:
        yield server


@pytest.fixture(scope="module")
def bare() -> Iterator[Server]:
    """The same service without the middleware."""
    with serving(UVICORN, "invoices:bare", directory=HERE) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.mark.parametrize("path", PATHS)
def test_an_invoice_is_answered_and_its_callback_arrives(
    path: str, api: Server, bare: Server, receiver: Receiver
) -> None:
    """In every spelling of the destination, and sent by hand or by itself."""
    answer = post(api, path, receiver.url)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'\r\n\r\n{"msg":"Invoice received"}')
    assert answer == post(bare, path, receiver.url)
    (callback,) = receiver.wait()
    assert_celebrates(callback)
    assert callback.headers["content-type"] == "application/json"
    assert callback.headers["host"] == urlsplit(receiver.url).netloc


def test_nothing_else_is_sent(bare: Server, receiver: Receiver) -> None:
    """Without a callback_url, and for a request that is refused before its handler or by it: not even later."""
    with serving(UVICORN, "invoices:app", directory=HERE) as server:
        for path in PATHS:
            assert post(server, path, None) == post(bare, path, None)
            for refused, status in ((GIFT, 402), ({"id": "2expen51ve"}, 422)):
                answer = post(server, path, receiver.url, refused)
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert answer == post(bare, path, receiver.url, refused)
            post(server, path, receiver.url, {**INVOICE, "id": path.strip("/")})
        server.terminate()
        assert server.wait() == UVICORN.status
    assert {callback.target for callback in receiver.heard} == {f"/events/invoices{path}".rstrip("/") for path in PATHS}
    assert len(receiver.heard) == len(PATHS)


def test_a_receiver_that_fails_is_called_again(api: Server, bare: Server) -> None:
    """Under the same id, by which it tells a repetition."""
    with receiving(500, 200) as receiver:
        assert post(api, "/invoices/", receiver.url) == post(bare, "/invoices/", receiver.url)
        first, second = receiver.wait(2)
        api.wait_for(receiver.url, "is delivered, at attempt 2")
        assert len(receiver.heard) == 2
    for callback in (first, second):
        assert_celebrates(callback)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_a_receiver_that_is_down_is_called_when_it_is_up(api: Server, bare: Server) -> None:
    with receiving(listen=False) as receiver:
        assert post(api, "/invoices/", receiver.url) == post(bare, "/invoices/", receiver.url)
        api.wait_for(receiver.url, "attempt 1 of 1000", "failed")
        receiver.listen()
        (callback,) = receiver.wait()
        assert_celebrates(callback)
        api.wait_for(receiver.url, "is delivered")


def test_a_receiver_that_hangs_is_hung_up_on_and_called_again(api: Server, bare: Server, receiver: Receiver) -> None:
    receiver.hold()
    assert post(api, "/hasty/", receiver.url) == post(bare, "/hasty/", receiver.url)
    api.wait_for(receiver.url, "attempt 1 of 1000", "failed")
    receiver.release()
    api.wait_for(receiver.url, "is delivered")
    callbacks = receiver.heard
    assert len(callbacks) > 1
    for callback in callbacks:
        assert_celebrates(callback)
    assert len({callback.headers["webhook-id"] for callback in callbacks}) == 1


def test_a_deploy_lets_the_attempt_in_flight_end(receiver: Receiver) -> None:
    receiver.hold()
    with serving(UVICORN, "invoices:app", directory=HERE) as server:
        post(server, "/invoices/", receiver.url)
        receiver.wait()
        server.terminate()
        server.wait_for(STOPPING)
        receiver.release()
        assert server.wait() == UVICORN.status
        assert "is delivered, at attempt 1" in server.output
        assert "Traceback" not in server.output
    (callback,) = receiver.heard
    assert_celebrates(callback)


def test_a_receiver_that_hangs_does_not_hold_up_a_deploy(receiver: Receiver) -> None:
    receiver.hold()
    with serving(UVICORN, "invoices:app", directory=HERE) as server:
        post(server, "/hasty/", receiver.url)
        receiver.wait()
        server.terminate()
        assert server.wait() == UVICORN.status
        assert "Traceback" not in server.output


def post(server: Server, path: str, callback_url: str | None, invoice: object = INVOICE) -> bytes:
    """The response as it is on the wire, but for its date."""
    query = "" if callback_url is None else f"?callback_url={callback_url}/events"
    body = json.dumps(invoice).encode()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        connection.sendall(
            f"POST {path}{query} HTTP/1.1\r\n"
            # The same for every server: a response must not differ by it.
            "Host: api.example\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    head, separator, content = response.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return b"\r\n".join(lines) + separator + content


def assert_celebrates(callback: Heard) -> None:
    assert callback.method == "POST"
    assert callback.target == "/events/invoices/2expen51ve"
    assert callback.body == b'{"description":"Payment celebration","paid":true}'

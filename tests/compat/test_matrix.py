"""Real requests and real callbacks: every row of the matrix, as processes on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from environments import Environment, build, installed
from matrix import RAW, ROWS, Row

from receivers import Heard, receiving
from servers import STOPPING, serving

APPS = Path(__file__).parent / "apps"
INVOICE = {"id": "2expen51ve", "title": "A website", "customer": "Mr. Richie Rich", "total": 9999.10}
GIFT = {**INVOICE, "total": -1}
STATEMENTS = "/statements/"

Pythons = Mapping[Environment, Future[Path]]


@pytest.fixture(scope="session")
def pythons(request: pytest.FixtureRequest) -> Iterator[Pythons]:
    """The interpreters of the environments that this session needs, built two at a time while the first rows run."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    rows = [test.callspec.params.get("row") for test in tests]
    wanted = dict.fromkeys(row.environment for row in rows if isinstance(row, Row))
    builders = ThreadPoolExecutor(2)
    try:
        yield {environment: builders.submit(build, environment) for environment in wanted}
    finally:
        builders.shutdown(cancel_futures=True)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_documented_callback_happens(row: Row, pythons: Pythons) -> None:
    """Once for each request that asks for it and succeeds, and never else; and a deploy loses none."""
    python = pythons[row.environment].result()
    with (
        receiving() as receiver,
        serving(row.server, row.application, directory=APPS, python=python) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        asked = {"callback_url": f"{receiver.url}/events"}
        due = 0
        for path in row.paths:
            due += 1
            answer = client.post(path, params=asked, json=INVOICE)
            assert (answer.status_code, answer.json()) == (200, {"msg": "Invoice received"})
            assert_celebrates(receiver.wait(due)[-1], "/events/invoices/2expen51ve")
            assert_same(client.post(path, json=INVOICE), answer)

        due += 1
        streamed = client.post(STATEMENTS, params=asked, json=INVOICE)
        assert (streamed.status_code, streamed.text) == (200, "invoice 2expen51ve\ntotal 9999.1\npaid\n")
        assert "content-length" not in streamed.headers
        assert_celebrates(receiver.wait(due)[-1], "/events/statements/2expen51ve")
        assert_same(client.post(STATEMENTS, json=INVOICE), streamed)

        for path in (*row.paths, STATEMENTS):
            refused = client.post(path, params=asked, json=GIFT)
            assert refused.status_code == 402
            assert_same(client.post(path, json=GIFT), refused)

        due += 1
        receiver.hold()
        client.post(row.paths[0], params=asked, json=INVOICE)
        receiver.wait(due)
        # How long servers wait for a client that stays connected is not the question.
        client.close()
        server.terminate()
        server.wait_for(STOPPING)
        receiver.release()
        assert server.wait() == row.server.status
        assert server.output.count("is delivered, at attempt 1") == due
        assert "Traceback" not in server.output
        # Now nothing more can come.
        assert len(receiver.heard) == due


@pytest.mark.parametrize("row", [row for row in ROWS if row.environment == RAW][:1], ids=str)
def test_the_base_needs_no_framework(row: Row, pythons: Pythons) -> None:
    """What the raw ASGI rows show, they show without these."""
    found = installed(pythons[row.environment].result())
    assert {"callback_middleware", "httpx"} <= found
    assert found.isdisjoint({"aiohttp", "fastapi", "jsonschema", "pydantic", "pyyaml", "starlette"})


def assert_same(answer: httpx.Response, other: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (other.status_code, other.content)


def assert_celebrates(callback: Heard, target: str) -> None:
    assert (callback.method, callback.target) == ("POST", target)
    assert callback.body == b'{"description":"Payment celebration","paid":true}'

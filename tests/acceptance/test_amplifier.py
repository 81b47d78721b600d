"""Whoever hands over the URL of somebody who never asked for it gets little sent there: real processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio
import httpx
import pytest

from callback_middleware import SQLiteOutbox
from callback_middleware.states import State
from receivers import Receiver, receiving
from servers import UVICORN, Kind, Server, serving

HERE = Path(__file__).parent
APPLICATION = "shared_invoices:app"

WORKER = Kind(
    "worker",
    lambda application, *_: ["callback_middleware", "work", application],
    ready=f"delivers what {APPLICATION} puts in SQLiteOutbox(",
    status=0,
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "callbacks.db"
    monkeypatch.setenv("OUTBOX", str(path))
    monkeypatch.setenv("BOUNDED", "as every outbox is unless it is told otherwise")
    monkeypatch.setenv("LIFESPANS", str(tmp_path / "lifespans"))
    return path


@pytest.fixture
def web(path: Path) -> Iterator[Server]:
    with serving(UVICORN, APPLICATION, directory=HERE) as web:
        yield web


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Accepts nothing, and from its second answer on everything; it answers nobody yet."""
    with receiving(500, 200) as receiver:
        receiver.hold()
        yield receiver


def create_invoices(web: Server, receiver: Receiver, count: int) -> None:
    """So many requests, each of which is answered as if there were no bounds."""
    with httpx.Client(base_url=web.url, trust_env=False) as client:
        for number in range(count):
            answer = client.post("/invoices/", params={"callback_url": receiver.url}, json={"id": str(number)})
            assert (answer.status_code, answer.json()) == (200, {"id": str(number)})


async def counts(path: Path) -> Mapping[State, int]:
    outbox = SQLiteOutbox(path)
    try:
        return await outbox.counts()
    finally:
        await outbox.aclose()


def live(path: Path) -> int:
    counted = anyio.run(counts, path)
    return counted[State.PENDING] + counted[State.SENDING]


def test_of_100_requests_20_wait_for_who_never_accepted_and_the_first_success_earns_the_rest(
    web: Server, receiver: Receiver, path: Path
) -> None:
    with serving(WORKER, APPLICATION, directory=HERE) as worker:
        create_invoices(web, receiver, 100)

        # One at a time: the others are not even tried.
        assert len(receiver.wait()) == 1
        assert live(path) == 20
        web.wait_for("is not sent: backlog full", "BacklogLimits(newcomer=20)", receiver.url)
        assert web.output.count("is not sent: backlog full") == 80

        receiver.release()
        receiver.wait(1 + 20)
        create_invoices(web, receiver, 30)

        receiver.wait(1 + 20 + 30)
        worker.terminate()
        assert worker.wait() == 0
    assert web.output.count("is not sent: backlog full") == 80
    assert live(path) == 0

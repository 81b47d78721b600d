"""A web process that sends nothing, and workers that come and go: real processes on one file."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import httpx
import pytest

from receivers import Heard, Receiver, receiving
from servers import STOPPING, UVICORN, Kind, Server, serving

HERE = Path(__file__).parent
APPLICATION = "shared_invoices:app"


@pytest.fixture(scope="module")
def lifespans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every lifespan of the application is noted."""
    return tmp_path_factory.mktemp("worker") / "lifespans"


@pytest.fixture(scope="module")
def web(lifespans: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OUTBOX", str(lifespans.with_name("callbacks.db")))
        environment.setenv("LIFESPANS", str(lifespans))
        with serving(UVICORN, APPLICATION, directory=HERE) as web:
            yield web


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def worker(*options: str) -> AbstractContextManager[Server]:
    """A worker process, from when it has begun until the block ends.

    Its outbox is the web process', unless an option or the environment says another.
    """
    kind = Kind(
        "worker",
        lambda application, *_: ["callback_middleware", "work", application, *options],
        ready=f"delivers what {APPLICATION} puts in SQLiteOutbox(",
        status=0,
    )
    return serving(kind, APPLICATION, directory=HERE)


def create_invoice(web: Server, receiver: Receiver, *numbers: str) -> None:
    for number in numbers:
        answer = httpx.post(
            f"{web.url}/invoices/", params={"callback_url": receiver.url}, json={"id": number}, trust_env=False
        )
        assert answer.json() == {"id": number}


def probe(working: Server) -> httpx.Response:
    """What the worker says of itself."""
    working.wait_for("readiness: http")
    (url,) = re.findall(r"readiness: (\S+)", working.output)
    return httpx.get(url, trust_env=False, timeout=30)


def ids(callbacks: Sequence[Heard]) -> set[str]:
    return {callback.headers["webhook-id"] for callback in callbacks}


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_worker_sends_what_the_web_process_puts(
    loop: str, web: Server, receiver: Receiver, lifespans: Path
) -> None:
    """What was put before it began, and while it runs; and it does not run the application's lifespan."""
    create_invoice(web, receiver, "before")
    with worker("--loop", loop) as working:
        receiver.wait()
        create_invoice(web, receiver, "while")
        callbacks = receiver.wait(2)
        for callback in callbacks:
            working.wait_for(callback.headers["webhook-id"], "is delivered, at attempt 1")
        working.terminate()
        assert working.wait() == 0
        assert "has ended" in working.output.splitlines()[-1]
        assert "Traceback" not in working.output
    assert [callback.target for callback in callbacks] == ["/invoices/before", "/invoices/while"]
    assert len(receiver.heard) == 2
    assert "is delivered" not in web.output
    assert len(lifespans.read_text().splitlines()) == 1


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_lets_the_attempt_in_flight_end(
    number: signal.Signals, loop: str, web: Server, receiver: Receiver
) -> None:
    receiver.hold()
    create_invoice(web, receiver, "held")
    with worker("--loop", loop) as working:
        receiver.wait()
        working._process.send_signal(number)
        working.wait_for(STOPPING)
        receiver.release()
        assert working.wait() == 0
        assert "is delivered, at attempt 1" in working.output
        assert "Traceback" not in working.output
    assert len(receiver.heard) == 1


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_probes_see_it_ready_and_then_draining_with_what_it_has_in_flight(
    loop: str, web: Server, receiver: Receiver
) -> None:
    receiver.hold()
    create_invoice(web, receiver, "held")
    with worker("--loop", loop, "--health-port", "0") as working:
        receiver.wait()
        ready = probe(working)
        working.terminate()
        working.wait_for(STOPPING)
        draining = probe(working)
        receiver.release()
        assert working.wait() == 0
        assert "Traceback" not in working.output
    assert (ready.status_code, ready.json()["status"], ready.json()["in_flight"]) == (200, "ready", 1)
    assert (draining.status_code, draining.json()["status"], draining.json()["in_flight"]) == (503, "draining", 1)


def test_probes_see_why_it_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is alive all the same, and ready as soon as the outbox is back."""
    monkeypatch.setenv("OUTBOX", str(tmp_path / "folder" / "callbacks.db"))
    with worker("--health-port", "0") as working:
        working.wait_for("deliveries wait until the outbox works again", "there is no folder")
        told = probe(working)
        assert (told.status_code, told.json()["status"]) == (503, "failing")
        assert "there is no folder" in told.json()["reason"]
        (tmp_path / "folder").mkdir()
        working.wait_for("the outbox works again, after")
        assert probe(working).status_code == 200


@pytest.mark.parametrize("given", ["option", "environment"])
def test_a_worker_delivers_from_another_outbox_than_the_application_has(
    given: str, web: Server, receiver: Receiver, lifespans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose environment does not say where the web has its own."""
    create_invoice(web, receiver, "other")
    url = f"sqlite:{lifespans.with_name('callbacks.db')}"
    elsewhere = lifespans.with_name(f"not by {given}.db")
    monkeypatch.setenv("OUTBOX", str(elsewhere))
    if given == "environment":
        monkeypatch.setenv("CALLBACK_OUTBOX", url)
    with worker("--once", *(["--outbox", url] if given == "option" else [])) as working:
        assert working.wait() == 0
    assert [callback.target for callback in receiver.heard] == ["/invoices/other"]
    assert not elsewhere.exists()


def test_a_worker_of_an_older_release_tells_of_a_newer_file_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("PRAGMA user_version = 1000")
    monkeypatch.setenv("OUTBOX", str(tmp_path / "newer.db"))
    with worker() as working:
        working.wait_for("is version 1000", "upgrade callback_middleware to the release that wrote it")
        assert working._process.poll() is None


def test_an_attempt_that_outlasts_the_grace_is_handed_back_to_the_next_worker(web: Server, receiver: Receiver) -> None:
    """At once, and without being charged for it."""
    receiver.hold()
    create_invoice(web, receiver, "held")
    with worker("--grace", "0") as first:
        receiver.wait()
        first.terminate()
        assert first.wait() == 0
        assert "Traceback" not in first.output
    receiver.release()
    with worker() as second:
        callbacks = receiver.wait(2)
        second.wait_for(callbacks[-1].headers["webhook-id"], "is delivered, at attempt 1")
    assert len(ids(callbacks)) == 1


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM, twice"])
def test_when_a_worker_ends_in_mid_attempt_another_takes_over(
    end: str, web: Server, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its lease has ended; the receiver is told by the id that it may have heard this before."""
    receiver.hold()
    create_invoice(web, receiver, "held")
    with monkeypatch.context() as environment:
        environment.setenv("LEASE", "1")
        with worker() as first:
            receiver.wait()
            if end == "SIGKILL":
                first.kill()
            else:
                first.terminate()
                first.wait_for(STOPPING)
                first.terminate()
                assert first.wait() == -signal.SIGTERM
            assert "has ended" not in first.output
    heard = len(receiver.heard)
    receiver.release()
    with worker() as second:
        callbacks = receiver.wait(heard + 1)
        second.wait_for(callbacks[-1].headers["webhook-id"], "is delivered")
    assert len(ids(callbacks)) == 1


def test_once_a_worker_sends_what_is_due_and_ends(web: Server, receiver: Receiver) -> None:
    create_invoice(web, receiver, "1", "2", "3")
    with worker("--once") as working:
        assert working.wait() == 0
    assert {callback.target for callback in receiver.heard} == {"/invoices/1", "/invoices/2", "/invoices/3"}


def test_the_first_signal_ends_once_too_when_its_attempts_have_ended(web: Server, receiver: Receiver) -> None:
    receiver.hold()
    create_invoice(web, receiver, "held")
    with worker("--once") as working:
        receiver.wait()
        working.terminate()
        working.wait_for(STOPPING)
        receiver.release()
        assert working.wait() == 0
        assert "is delivered, at attempt 1" in working.output


def test_two_workers_share_an_outbox(web: Server, receiver: Receiver) -> None:
    """And nothing is sent twice."""
    numbers = [str(number) for number in range(40)]
    with worker("--concurrency", "2") as one, worker("--concurrency", "2") as other:
        create_invoice(web, receiver, *numbers)
        callbacks = receiver.wait(len(numbers))
        for working in (one, other):
            working.terminate()
            assert working.wait() == 0
            assert "Traceback" not in working.output
    assert len(receiver.heard) == len(ids(callbacks)) == len(numbers)

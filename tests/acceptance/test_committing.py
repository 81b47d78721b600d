"""An invoice and its callback in one transaction of SQLite's: both, or neither, whatever happens; real processes."""

from __future__ import annotations

import itertools
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from invoicing_requests import create

from receivers import Receiver, receiving
from servers import UVICORN, Server, serving

HERE = Path(__file__).parent
APPLICATION = "committing_invoices:app"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transactions") / "callbacks.db"


@pytest.fixture(scope="module", autouse=True)
def environment(file: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OUTBOX", str(file))
        yield


@pytest.fixture(scope="module")
def web(environment: None) -> Iterator[Server]:
    with serving(UVICORN, APPLICATION, directory=HERE) as web:
        yield web


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def kept(file: Path, number: str) -> tuple[int, list[str]]:
    """How many invoices, and the states of which deliveries, the file has for a number."""
    with closing(sqlite3.connect(file)) as connection:
        ((invoices,),) = connection.execute("SELECT count(*) FROM invoice WHERE id = ?", (number,))
        rows = connection.execute(
            "SELECT coalesce(state, 'queued') FROM delivery LEFT JOIN result ON delivery = seq WHERE url LIKE ?",
            (f"%/invoices/{number}",),
        )
        return invoices, [state for (state,) in rows]


def heard_once(receiver: Receiver, number: str) -> None:
    """One callback of this invoice has come. That none comes after it, the file says: it has one delivery."""
    assert {one.target for one in receiver.wait()} == {f"/invoices/{number}"}


@pytest.mark.parametrize("path", ["threaded", "async", "in-time", "sqlalchemy"])
def test_committed_it_is_delivered_once(web: Server, receiver: Receiver, file: Path, path: str) -> None:
    assert create(web, path, receiver, path).json() == {"id": path}
    heard_once(receiver, path)
    invoices, deliveries = kept(file, path)
    assert (invoices, len(deliveries)) == (1, 1)


@pytest.mark.parametrize("path", ["threaded", "async", "in-time", "sqlalchemy"])
def test_rolled_back_there_is_neither(web: Server, receiver: Receiver, file: Path, path: str) -> None:
    number = f"twice-by-{path}"
    assert create(web, path, receiver, number).status_code == 200
    # Its key is there already.
    assert create(web, path, receiver, number).status_code == 500
    heard_once(receiver, number)
    invoices, deliveries = kept(file, number)
    assert (invoices, len(deliveries)) == (1, 1)


def test_handlers_in_many_threads_and_on_the_loop_take_turns(web: Server, receiver: Receiver, file: Path) -> None:
    numbers = [f"crowd-{number}" for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        paths = itertools.cycle(["threaded", "async", "sqlalchemy"])
        answers = list(pool.map(create, itertools.repeat(web), paths, itertools.repeat(receiver), numbers))
    assert [answer.status_code for answer in answers] == [200] * len(numbers)
    assert {one.target for one in receiver.wait(len(numbers))} == {f"/invoices/{number}" for number in numbers}
    for number in numbers:
        invoices, deliveries = kept(file, number)
        assert (invoices, len(deliveries)) == (1, 1)


def test_a_failure_that_was_rolled_back_leaves_neither(web: Server, receiver: Receiver, file: Path) -> None:
    assert create(web, "async", receiver, "refused").status_code == 409
    assert kept(file, "refused") == (0, [])


def test_a_failure_after_the_commit_keeps_both(web: Server, receiver: Receiver, file: Path) -> None:
    assert create(web, "threaded", receiver, "raises").status_code == 500
    heard_once(receiver, "raises")
    invoices, deliveries = kept(file, "raises")
    assert (invoices, len(deliveries)) == (1, 1)


def test_a_dependency_that_commits_after_the_response_is_a_500_and_the_log_says_how_to_do_better(
    web: Server, receiver: Receiver, file: Path
) -> None:
    answer = create(web, "late", receiver, "late")
    assert answer.status_code == 500
    assert "nobody can say yet" in answer.json()["detail"]
    web.wait_for("POST /late/: its response is complete", "is still open", 'Depends(…, scope="function")')
    # What it does after the response it does all the same.
    heard_once(receiver, "late")
    invoices, deliveries = kept(file, "late")
    assert (invoices, len(deliveries)) == (1, 1)


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of no service but those of the test: no other sends what these leave behind."""
    file = tmp_path / "callbacks.db"
    monkeypatch.setenv("OUTBOX", str(file))
    return file


@pytest.mark.parametrize("path", ["threaded", "async", "sqlalchemy"])
@pytest.mark.parametrize(("moment", "both"), [("after", 1), ("before", 0)])
def test_killed_around_the_commit_there_are_both_or_neither(
    receiver: Receiver, own_file: Path, path: str, moment: str, both: int
) -> None:
    """The callback is sent once by the process that comes after it."""
    with serving(UVICORN, APPLICATION, directory=HERE) as doomed:
        with suppress(httpx.TransportError):
            create(doomed, path, receiver, moment)
        assert doomed.wait() == -signal.SIGKILL
    assert kept(own_file, moment) == (both, ["queued"] * both)

    with serving(UVICORN, APPLICATION, directory=HERE) as web:
        create(web, path, receiver, f"next-of-{moment}")
        came = receiver.wait(1 + both)
        web.terminate()
        web.wait()
    targets = sorted(one.target for one in came)
    assert targets == sorted([f"/invoices/next-of-{moment}", *[f"/invoices/{moment}"] * both])
    assert kept(own_file, moment) == (both, ["delivered"] * both)

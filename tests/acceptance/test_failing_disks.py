"""An outbox whose file cannot be used says so, keeps what it has promised, and works on when the trouble is over.

A web process, its file, and something that is wrong with it. The client is told the truth: 503 without ``Retry-After``
where the handler has done its work, and 503 with it, and no work done, where the outbox is known to be down.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
import httpx
import pytest
from interpreters import on_small_disk, unprivileged
from troubles import AT_START, Trouble, locked_file

from callback_middleware import SQLiteOutbox
from power_load import Load
from power_verdict import everything
from receivers import Receiver, receiving
from servers import UVICORN, Server, serving

HERE = Path(__file__).parent
NOBODY = "http://127.0.0.1:9"
LARGE = "x" * 60_000
"""Its commit is many pages, and a disk is full in the middle of one."""


class Service:
    """A web process, and what its client got to know."""

    def __init__(self, server: Server, client: httpx.Client, callback_url: str) -> None:
        self.server = server
        self.acknowledged: set[str] = set()
        self._client = client
        self._callback_url = callback_url
        self._asked = 0

    def post(self, text: str = "") -> httpx.Response:
        """Ask for an invoice. It is acknowledged once the client has the whole of a 200."""
        self._asked += 1
        invoice = {"id": str(self._asked), "text": text}
        answer = self._client.post("/invoices/", params={"callback_url": self._callback_url}, json=invoice)
        if answer.status_code == 200:
            self.acknowledged.add(invoice["id"])
        return answer

    @property
    def handled(self) -> int:
        """How many invoices were made. This route documents no callback, and always answers."""
        count: int = self._client.get("/handled").json()
        return count


@pytest.fixture
def outbox(path: Path) -> SQLiteOutbox:
    return SQLiteOutbox(path, backlog=None)


@pytest.fixture
def other(path: Path) -> SQLiteOutbox:
    """In the same file."""
    return SQLiteOutbox(path, backlog=None)


Start: TypeAlias = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    return place / "outbox.db"


@pytest.fixture
def start(path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts the web process. Without a receiver it dispatches nothing: only requests touch the file."""

    @contextmanager
    def started(python: str | Path = sys.executable, *, receiver: Receiver | None = None) -> Iterator[Service]:
        monkeypatch.setenv("OUTBOX", str(path))
        monkeypatch.setenv("DISPATCH", "no" if receiver is None else "yes")
        with (
            serving(UVICORN, "failing_disks:app", directory=HERE, python=python) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):
            yield Service(server, client, NOBODY if receiver is None else receiver.url)

    return started


@pytest.mark.parametrize("trouble", [pytest.param(trouble, id=name) for name, trouble in AT_START.items()])
def test_trouble_at_the_start_is_told_and_over_when_it_ends(
    trouble: Trouble, start: Start, path: Path, tmp_path: Path
) -> None:
    with ExitStack() as until_the_end:
        with trouble.begin(path):
            service = until_the_end.enter_context(start(unprivileged(tmp_path)))
            service.server.wait_for(str(path), trouble.problem, trouble.remedy)
            assert_refuses(service)
        service.server.wait_for(f"the outbox {path} works again")
        assert service.post().status_code == 200
    assert kept(path) >= service.acknowledged == {"2"}


def test_a_lock_in_use_is_told_and_over_when_it_ends(start: Start, path: Path) -> None:
    with start() as service:
        assert service.post().status_code == 200
        with locked_file(path):
            failed = service.post()
            assert (failed.status_code, service.handled) == (503, 2)
            assert "retry-after" not in failed.headers
            service.server.wait_for(str(path), "another process has locked it", "let that process commit")
            assert_refuses(service)
        service.server.wait_for(f"the outbox {path} works again")
        assert service.post().status_code == 200
    assert kept(path) >= service.acknowledged == {"1", "4"}


@pytest.mark.parametrize(
    "names",
    [
        ["outbox.db"],
        ["outbox.db-wal"],
        ["outbox.db", "outbox.db-wal", "outbox.db-shm"],
    ],
)
def test_nothing_is_promised_for_a_file_that_is_gone(names: list[str], start: Start, path: Path) -> None:
    """What was in it has gone with it. What comes then is refused, or kept in a new one."""
    with start() as service:
        assert service.post().status_code == 200
        for name in names:
            path.with_name(name).unlink()
        service.acknowledged.clear()
        if service.post().status_code == 503:
            service.server.wait_for(str(path), "removed or replaced", "put it back")
            service.server.wait_for(f"the outbox {path} works again")
        assert service.post().status_code == 200
    assert kept(path) >= service.acknowledged > set()


@pytest.mark.parametrize("room", [0, 70_000, 700_000, 1_500_000])
def test_a_disk_that_is_full_loses_nothing(room: int, start: Start, path: Path, tmp_path: Path) -> None:
    with receiving() as receiver, start(on_small_disk(tmp_path, path.parent), receiver=receiver) as service:
        assert service.post().status_code == 200
        ballast = fill(service, path, but=room)
        post_until_full(service)
        service.server.wait_for(str(path), "its disk is full", "free space on it")

        ballast.unlink()
        service.server.wait_for(f"the outbox {path} works again")
        assert service.post(LARGE).status_code == 200
        wait_for(receiver, service.acknowledged)


def test_while_a_disk_stays_full_nothing_is_begun(start: Start, path: Path, tmp_path: Path) -> None:
    """Also where there is room for something small, and whatever is tried in between."""
    with receiving() as receiver, start(on_small_disk(tmp_path, path.parent), receiver=receiver) as service:
        assert service.post().status_code == 200
        fill(service, path, but=200_000)
        post_until_full(service)
        handled = service.handled

        answers = [service.post(LARGE) for _ in range(200)]

        assert {answer.status_code for answer in answers} == {503}
        assert all("retry-after" in answer.headers for answer in answers)
        assert service.handled == handled
        told = [line for line in service.server.output.splitlines() if str(path) in line]
        assert len(told) < 20, f"it says so {len(told)} times"


def test_what_is_in_flight_while_the_file_is_locked_is_delivered(start: Start, path: Path) -> None:
    with receiving() as receiver, start(receiver=receiver) as service:
        receiver.hold()
        assert service.post().status_code == 200
        receiver.wait()
        with locked_file(path):
            receiver.release()
            service.server.wait_for(str(path), "another process has locked it")
        service.server.wait_for(receiver.url, "is delivered")


async def test_another_outbox_of_the_same_process_cancels_no_lock(
    path: Path, outbox: SQLiteOutbox, other: SQLiteOutbox
) -> None:
    """POSIX: whoever closes a file gives up all the locks that their process has on it.

    Another process would then believe that nobody has the file open, and remove the log that is written to.
    """
    promises: list[str] = []
    await Load(outbox, promises.append, 1).run(8)
    await Load(other, promises.append, 2).run(8)
    await batches_in_another_process(path)
    await Load(outbox, promises.append, 3).run(8)

    put = {promise.removeprefix("put ") for promise in promises if promise.startswith("put ")}
    assert await batches_in_another_process(path) == put
    await outbox.aclose()
    await other.aclose()


async def test_a_closed_outbox_has_let_go_of_its_file(path: Path, outbox: SQLiteOutbox) -> None:
    """Or whoever moves it, or puts another in its place, would meet the last checkpoint."""
    await Load(outbox, str, 1).run(8)

    await outbox.aclose()

    assert [name.name for name in path.parent.iterdir()] == [path.name]


async def batches_in_another_process(path: Path) -> set[str]:
    """The batches that another process finds in the file. It opens it, and closes it."""
    script = (
        "import contextlib, json, sqlite3, sys\n"
        "with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:\n"
        "    print({json.loads(tags)['batch'] for (tags,) in connection.execute('SELECT tags FROM delivery')})"
    )
    found = await anyio.run_process([sys.executable, "-c", script, str(path)])
    return set(ast.literal_eval(found.stdout.decode()))


def assert_refuses(service: Service) -> None:
    """Before the handler runs, and a client may come again."""
    handled = service.handled
    refused = service.post()
    assert (refused.status_code, service.handled) == (503, handled)
    assert int(refused.headers["retry-after"]) > 0


def kept(path: Path) -> set[str]:
    """The invoices of which a callback is in the file."""
    deliveries = anyio.run(everything, SQLiteOutbox(path))
    return {delivery.url.rpartition("/")[2] for delivery in deliveries}


def wait_for(receiver: Receiver, invoices: set[str]) -> None:
    """Return when a callback of each has come."""
    heard = receiver.wait(len(invoices))
    while not invoices <= {callback.target.rpartition("/")[2] for callback in heard}:
        heard = receiver.wait(len(heard) + 1)


def fill(service: Service, path: Path, *, but: int) -> Path:
    """Take the room of a service's own disk, but for about so many bytes. Returns what takes it."""
    place = Path(f"/proc/{service.server._process.pid}/root{path.parent}")
    room = os.statvfs(place)
    ballast = place / "ballast"
    # The service may take the last of it at the same time.
    with suppress(OSError):
        ballast.write_bytes(bytes(max(room.f_bavail * room.f_bsize - but, 0)))
    return ballast


def post_until_full(service: Service) -> None:
    # Far more than there is room for.
    answers = (service.post(LARGE).status_code for _ in range(200))
    assert next(status for status in answers if status != 200) == 503

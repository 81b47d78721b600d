"""``callback-middleware work`` in this process; its signals are seen in ``tests/acceptance/test_worker.py``."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NoReturn
from uuid import UUID

import anyio
import anyio.lowlevel
import httpx
import pytest
from click.testing import CliRunner, Result
from fastapi import APIRouter, FastAPI

from callback_middleware import CallbackMiddleware, EgressPolicy, MemoryOutbox, RetryPolicy, SQLiteOutbox, State
from callback_middleware.asgi import ASGIApp, Receive, Scope, Send
from callback_middleware.cli import command
from callback_middleware.cli.worker import work
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE, Delivery
from callback_middleware.errors import ConfigurationError
from callback_middleware.identifiers import uuid7
from callback_middleware.outcomes import Answer, AttemptRequest, Outcome, outcome_of
from callback_middleware.ports import Batch
from callback_middleware.senders.aiohttp import AiohttpSender

ROOT = Path(__file__).parent.parent.parent
DOCS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


class KeepingSender:
    """A sender that keeps what it was given."""

    def __init__(self) -> None:
        self.requests: list[AttemptRequest] = []
        self.in_flight = self.most_in_flight = 0
        self.closed = False

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        self.requests.append(request)
        self.closed = False
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        self.in_flight -= 1
        return outcome_of(Answer(200))

    async def aclose(self) -> None:
        self.closed = True


class PretendingOutbox(MemoryOutbox):
    """An outbox in memory that says it is durable."""

    durable: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "PretendingOutbox()"


async def untouched(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise AssertionError("a worker serves nothing, and runs no lifespan")


@pytest.fixture
def sender() -> KeepingSender:
    return KeepingSender()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that can be imported as ``shop``."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return module


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """The command sets it for its process."""
    logger = logging.getLogger("callback_middleware")
    before = logger.level
    yield
    logger.setLevel(before)


def mount(module: ModuleType, **options: Any) -> CallbackMiddleware:
    app = CallbackMiddleware(untouched, **options)
    vars(module)["app"] = app
    return app


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["work", "shop:app", *arguments])


def put(outbox: SQLiteOutbox | MemoryOutbox, count: int) -> Sequence[UUID]:
    """Put so many deliveries that are due. Returns their ids."""
    now = SystemClock().now()

    async def put_them() -> Sequence[UUID]:
        report = await outbox.put(
            Batch(
                [
                    Delivery(
                        id=uuid7(now, number.to_bytes(10, "big")),
                        operation="POST /invoices/",
                        callback="invoice_notification",
                        method="POST",
                        url=f"https://{number}.example/events",
                        origin=f"https://{number}.example:443",
                        headers=(),
                        body=b"{}",
                        created_at=now,
                        due_at=now,
                        retry=RetryPolicy.fixed(60),
                        deadline=DEADLINE,
                    )
                    for number in range(count)
                ]
            )
        )
        await outbox.aclose()
        return report.stored

    return anyio.run(put_them)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("dispatch", [True, False])
def test_once_delivers_what_is_due_and_exits(
    loop: str, dispatch: bool, module: ModuleType, sender: KeepingSender, tmp_path: Path
) -> None:
    """Whether or not the application dispatches itself; and its lifespan is not run."""
    outbox = SQLiteOutbox(tmp_path / "callbacks.db")
    put(outbox, 3)
    mount(module, outbox=outbox, sender=sender, dispatch=dispatch)

    result = invoke("--once", "--loop", loop)

    assert (result.exit_code, result.output) == (0, ""), result.exception
    assert len(sender.requests) == 3
    assert anyio.run(outbox.counts)[State.DELIVERED] == 3
    assert sender.closed


@pytest.mark.parametrize(("arguments", "most"), [([], 2), (["--concurrency", "3"], 3)])
def test_concurrency_is_the_middlewares_unless_it_is_given(
    arguments: list[str], most: int, module: ModuleType, sender: KeepingSender
) -> None:
    outbox = PretendingOutbox()
    put(outbox, 9)
    mount(module, outbox=outbox, sender=sender, concurrency=2)

    assert invoke("--once", *arguments).exit_code == 0

    assert (sender.most_in_flight, len(sender.requests)) == (most, 9)


class LeavingSender(KeepingSender):
    """A sender in the middle of whose first attempt the process is told to stop."""

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        if not self.requests:
            signal.raise_signal(signal.SIGTERM)
        return await super().send(request, egress=egress, deadline=deadline)


@pytest.fixture
def unheard() -> Iterator[list[int]]:
    """Whether it reached whoever listened before: it is not the test run that a signal ends."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_signal_is_told_to_the_log_and_lets_the_attempt_end(
    module: ModuleType, unheard: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    outbox, sender = PretendingOutbox(), LeavingSender()
    put(outbox, 2)
    mount(module, outbox=outbox, sender=sender, concurrency=1)

    assert invoke("--once", "--grace", "7").exit_code == 0

    assert "stopping: attempts in flight have 7 s to end; a second signal ends them now" in caplog.messages
    counts = anyio.run(outbox.counts)
    assert (counts[State.DELIVERED], counts[State.PENDING]) == (1, 1)
    assert unheard == []


class StartingOutbox(PretendingOutbox):
    """An outbox that the process is told to stop in the middle of starting."""

    async def start(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_signal_before_it_has_begun_ends_it_as_one_afterwards_does(
    loop: str,
    module: ModuleType,
    sender: KeepingSender,
    unheard: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox = StartingOutbox()
    put(outbox, 1)
    mount(module, outbox=outbox, sender=sender)

    assert invoke("--once", "--loop", loop).exit_code == 0

    assert sender.requests == []
    assert caplog.messages[-1].endswith(" of shop:app has ended")
    assert unheard == []


def test_one_line_says_what_begins_and_one_that_it_has_ended(
    module: ModuleType, sender: KeepingSender, caplog: pytest.LogCaptureFixture
) -> None:
    mount(module, outbox=PretendingOutbox(), sender=sender)
    invoke("--once")
    first, *_, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("worker ")
    assert first.endswith(" delivers what shop:app puts in PretendingOutbox()")
    assert last.endswith(" of shop:app has ended")


def test_the_log_has_what_was_asked_for(
    module: ModuleType, sender: KeepingSender, caplog: pytest.LogCaptureFixture
) -> None:
    mount(module, outbox=PretendingOutbox(), sender=sender)
    invoke("--once", "--log-level", "error")
    assert caplog.records == []


def refusal(*arguments: str) -> str:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_an_outbox_in_another_process_memory_is_refused(module: ModuleType) -> None:
    mount(module)
    message = refusal("--once")
    assert "shop:app: MemoryOutbox is not durable" in message
    assert "outbox=SQLiteOutbox('callbacks.db')" in message


def test_a_middleware_that_is_disabled_is_refused(module: ModuleType) -> None:
    mount(module, outbox=PretendingOutbox(), enabled=False)
    assert "shop:app: enabled=False: this CallbackMiddleware sends nothing" in refusal("--once")


def test_an_application_that_is_not_there_is_refused(module: ModuleType) -> None:
    assert "shop has no attribute 'app'" in refusal("--once")


def test_a_sender_that_cannot_work_on_the_event_loop_is_refused_before_it_fails_an_attempt(
    module: ModuleType,
) -> None:
    outbox = PretendingOutbox()
    (one,) = put(outbox, 1)
    mount(module, outbox=outbox, sender=AiohttpSender())
    assert "shop:app: AiohttpSender runs on asyncio only" in refusal("--once", "--loop", "trio")
    assert not anyio.run(outbox.attempts, one)


def test_an_event_loop_that_is_not_installed_is_refused(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal("--loop", "trio") == "Error: --loop trio needs trio: pip install trio\n"


@pytest.mark.parametrize("given", ["option", "environment"])
def test_another_outbox_is_delivered_from_than_the_one_that_is_mounted(
    given: str, module: ModuleType, sender: KeepingSender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, other = PretendingOutbox(), SQLiteOutbox(tmp_path / "other.db")
    put(mounted, 1)
    put(other, 2)
    mount(module, outbox=mounted, sender=sender)
    url = f"sqlite:{tmp_path / 'other.db'}"
    if given == "environment":
        monkeypatch.setenv("CALLBACK_OUTBOX", url)

    result = invoke("--once", *(["--outbox", url] if given == "option" else []))

    assert (result.exit_code, result.output) == (0, ""), result.exception
    assert len(sender.requests) == 2
    assert anyio.run(other.counts)[State.DELIVERED] == 2
    assert anyio.run(mounted.counts)[State.PENDING] == 1


def test_another_outbox_takes_the_place_of_one_that_is_not_durable(
    module: ModuleType, sender: KeepingSender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount(module, sender=sender)
    path = tmp_path / "callbacks.db"
    assert invoke("--once", "--outbox", f"sqlite://{path}").exit_code == 0
    assert any(f"puts in SQLiteOutbox('{path}')" in message for message in caplog.messages)


class Particular(SQLiteOutbox):
    """An outbox that has something to say about another one like it."""

    asked: str | os.PathLike[str] = ""

    def elsewhere(self, path: str | os.PathLike[str]) -> SQLiteOutbox:
        self.asked = path
        return super().elsewhere(path)


def test_another_outbox_is_as_the_mounted_one_has_it(module: ModuleType, sender: KeepingSender, tmp_path: Path) -> None:
    mounted = Particular(tmp_path / "callbacks.db")
    mount(module, outbox=mounted, sender=sender)
    assert invoke("--once", "--outbox", f"sqlite:{tmp_path}/other.db").exit_code == 0
    assert mounted.asked == f"{tmp_path}/other.db"


def test_an_outbox_whose_url_names_none_is_refused_without_repeating_it(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(module)
    monkeypatch.setenv("CALLBACK_OUTBOX", "mysql://shop:secret@db/callbacks")
    message = refusal("--once")
    assert "postgresql://user@host/database, or sqlite:/path" in message
    assert "secret" not in message


def test_a_schema_without_another_outbox_is_refused(module: ModuleType) -> None:
    mount(module, outbox=PretendingOutbox())
    assert "--schema says where in the database of --outbox" in refusal("--once", "--schema", "shop")


class Secretive(PretendingOutbox):
    """An outbox that shows more of itself than it should."""

    def __repr__(self) -> str:
        return "Secretive('postgresql://shop:secret@db/callbacks')"


def test_no_password_is_told_to_the_log(
    module: ModuleType, sender: KeepingSender, caplog: pytest.LogCaptureFixture
) -> None:
    mount(module, outbox=Secretive(), sender=sender)
    invoke("--once")
    assert any("puts in Secretive('postgresql://shop:***@db/callbacks')" in message for message in caplog.messages)
    assert "secret" not in caplog.text


class Outdated(PretendingOutbox):
    """An outbox with a schema that is older than the library."""

    async def start(self) -> None:
        raise ConfigurationError("its schema is old: callback-middleware migrate")


def test_an_outbox_with_an_old_schema_is_refused_with_the_command_to_run(
    module: ModuleType, sender: KeepingSender
) -> None:
    outbox = Outdated()
    put(outbox, 1)
    mount(module, outbox=outbox, sender=sender)
    assert "shop:app: its schema is old: callback-middleware migrate" in refusal("--once")
    assert sender.requests == []


class ProbingSender(KeepingSender):
    """A sender that asks the worker in the middle of an attempt how it stands."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        super().__init__()
        self.log = log
        self.told: dict[str, Any] = {}

    async def send(self, request: AttemptRequest, *, egress: EgressPolicy, deadline: timedelta) -> Outcome:
        (url,) = re.findall(r"readiness: (\S+)", "\n".join(self.log.messages))
        async with httpx.AsyncClient(trust_env=False) as client:
            self.told = (await client.get(url)).json()
        return await super().send(request, egress=egress, deadline=deadline)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_probes_are_answered_while_it_works(loop: str, module: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    outbox, sender = PretendingOutbox(), ProbingSender(caplog)
    put(outbox, 1)
    mount(module, outbox=outbox, sender=sender)

    result = invoke("--once", "--loop", loop, "--health-port", "0")

    assert result.exit_code == 0, result.exception
    assert (sender.told["status"], sender.told["in_flight"]) == ("ready", 1)


def test_a_port_for_probes_that_is_taken_is_told_before_anything_is_claimed(
    module: ModuleType, sender: KeepingSender
) -> None:
    """With a status that is tried again: who has it may be about to end."""
    outbox = PretendingOutbox()
    put(outbox, 1)
    mount(module, outbox=outbox, sender=sender)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("--once", "--health-port", str(port))
    assert result.exit_code == 1
    assert f"probes cannot be answered at 127.0.0.1, port {port}" in result.stderr
    assert sender.requests == []


def test_once_an_outbox_that_fails_is_told_and_not_waited_for(module: ModuleType, tmp_path: Path) -> None:
    mount(module, outbox=SQLiteOutbox(tmp_path / "nowhere" / "callbacks.db"))
    result = invoke("--once")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: shop:app: ")
    assert str(tmp_path / "nowhere") in result.stderr


@pytest.mark.parametrize(
    "wrong", [["--concurrency", "0"], ["--grace", "-1"], ["--loop", "uvloop"], ["--health-port", "65536"]]
)
def test_an_option_that_makes_no_sense_is_refused(wrong: list[str], module: ModuleType) -> None:
    result = invoke(*wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.stderr


def test_every_command_in_the_docs_can_be_given() -> None:
    found = [line for page in DOCS for line in re.findall(r"callback-middleware work (\w+:[^`\n]+)", page.read_text())]
    assert len(found) > 1
    for line in found:
        work.make_context("work", shlex.split(line))


def with_callback(expression: str) -> FastAPI:
    router = APIRouter()

    @router.post(expression, status_code=201)
    def invoice_notification() -> None: ...

    app = FastAPI()

    @app.post("/invoices/", callbacks=router.routes)
    def create(callback_url: str | None = None) -> None: ...

    return app


def mismatches(outbox: MemoryOutbox, delivery: UUID) -> list[str]:
    return [attempt.mismatch for attempt in anyio.run(outbox.attempts, delivery)]


class Hiding:
    """Middleware that does not show what it wraps."""

    def __init__(self, app: ASGIApp) -> None:
        self._wrapped = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> NoReturn:
        raise AssertionError("a worker serves nothing")


@pytest.mark.parametrize("hidden", [False, True])
def test_answers_are_compared_with_what_the_imported_application_declares(
    hidden: bool, module: ModuleType, sender: KeepingSender
) -> None:
    outbox = PretendingOutbox()
    (one,) = put(outbox, 1)
    app = with_callback("{$callback_url}")
    if hidden:
        app.add_middleware(Hiding)
    app.add_middleware(CallbackMiddleware, outbox=outbox, sender=sender, dispatch=False)
    vars(module)["app"] = app

    assert invoke("--once").exit_code == 0

    assert mismatches(outbox, one) == ["answered 200; declared: 201"]


def test_a_worker_delivers_although_what_the_application_declares_is_wrong(
    module: ModuleType, sender: KeepingSender, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = PretendingOutbox()
    (one,) = put(outbox, 1)
    app = with_callback("{$request.query.}")
    app.add_middleware(CallbackMiddleware, outbox=outbox, sender=sender)
    vars(module)["app"] = app

    assert invoke("--once").exit_code == 0

    assert mismatches(outbox, one) == [""]
    assert anyio.run(outbox.counts)[State.DELIVERED] == 1
    (told,) = (one for one in caplog.messages if "what receivers answer is not checked" in one)
    assert "invoice_notification" in told

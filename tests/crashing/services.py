"""Service processes: started, stopped for a while, killed, and none left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from crashing.news import seen
from crashing.settings import Settings
from servers import PATIENCE, Server

_TESTS: Final = Path(__file__).parent.parent
_APPLICATION: Final = "crashing.application:application"


class Service:
    """A process that is running, in a process group of its own.

    Attributes:
        process: Its id, and its group's.
        alive: Whether nobody has killed it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process.pid
        self.alive = True
        # It has no port of its own: that is whose socket it serves.
        self._server = Server(process, 0)

    @property
    def output(self) -> str:
        """What it complained of."""
        return self._server.output

    def kill(self) -> None:
        """SIGKILL to all of it, at once."""
        self.alive = False
        os.killpg(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP to all of it."""
        os.killpg(self.process, signal.SIGSTOP)

    async def stopped(self) -> None:
        """Return when it has stopped. Fails if it never does."""

        async def look() -> bool:
            flags = os.WSTOPPED | os.WNOHANG
            return os.waitid(os.P_PID, self.process, flags) is not None  # noqa: ASYNC222 - it does not wait: WNOHANG

        await seen(look, f"process {self.process} has stopped")

    def stop_now(self) -> None:
        """SIGSTOP to all of it. On return it has stopped: that takes a moment."""
        self.stop()
        os.waitid(os.P_PID, self.process, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        os.killpg(self.process, signal.SIGCONT)

    async def terminate(self) -> None:
        """SIGTERM, as a deploy does. On return it has ended."""
        os.killpg(self.process, signal.SIGTERM)
        await self.ended()

    async def ended(self) -> int:
        """The exit status, once all of it is gone."""
        try:
            return await anyio.to_thread.run_sync(self._server.wait)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.process} did not end within {PATIENCE:g} s") from None

    def clear_away(self) -> None:
        """Make sure that nothing of it is left, and show what it complained of."""
        self._server.kill()
        if self._server.output:
            print(self._server.output)  # noqa: T201 - pytest shows it if the test fails


@asynccontextmanager
async def web(settings: Settings, listening: socket.socket) -> AsyncIterator[Service]:
    """The service, on a socket that outlives it: requests wait there until it takes them. It ends with the block."""
    # Of all loops and parsers the ones that are always there, and write at once.
    options = ["--loop", "asyncio", "--http", "h11", "--log-level", "warning"]
    command = ["uvicorn", _APPLICATION, "--fd", str(listening.fileno()), *options]
    async with _running(command, settings, listening) as service:
        yield service


@asynccontextmanager
async def worker(settings: Settings, loop: str) -> AsyncIterator[Service]:
    """A worker of the service, on asyncio or trio. It ends with the block."""
    command = ["callback_middleware", "work", _APPLICATION, "--loop", loop, "--log-level", "error"]
    async with _running(command, settings) as service:
        yield service


@asynccontextmanager
async def _running(command: Sequence[str], settings: Settings, *sockets: socket.socket) -> AsyncIterator[Service]:
    process = subprocess.Popen(  # noqa: S603, ASYNC220 - an interpreter of ours; it takes a moment, and nothing waits
        [sys.executable, "-m", *command],
        cwd=_TESTS,
        env=settings.to_environment(),
        pass_fds=[one.fileno() for one in sockets],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    service = Service(process)
    try:
        yield service
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(service.clear_away)

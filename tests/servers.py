"""Server processes on loopback: started, listened to, stopped, and none left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

PATIENCE = 60.0
"""Seconds until a process that does not do what it should is given up."""

STOPPING = "stopping: attempts in flight"
"""What the middleware prints when the server has told it to stop, and it is about to wait."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A program that serves ASGI applications.

    Attributes:
        arguments: Python's, for an application, and for the file descriptor of a socket that is bound and its port.
        ready: Printed when it takes requests.
        status: What it ends with when it is asked to by SIGTERM; negative for a signal.
    """

    name: str
    arguments: Callable[[str, int, int], Sequence[str]]
    ready: str
    status: int


UVICORN: Final = Kind(
    "uvicorn",
    lambda application, descriptor, _: ["uvicorn", application, "--fd", str(descriptor)],
    ready="Uvicorn running",
    # Once it has shut down, it lets the signal do what signals do.
    status=-signal.SIGTERM,
)
HYPERCORN: Final = Kind(
    "hypercorn",
    lambda application, descriptor, _: ["hypercorn", application, "--bind", f"fd://{descriptor}"],
    ready="Running on",
    status=0,
)
HYPERCORN_TRIO: Final = replace(
    HYPERCORN,
    name="hypercorn on trio",
    arguments=lambda *of: [*HYPERCORN.arguments(*of), "--worker-class", "trio"],
)
GRANIAN: Final = Kind(
    "granian",
    lambda application, _, port: ["granian", application, "--interface", "asgi", "--port", str(port)],
    ready="Started worker",
    status=0,
)


class Server:
    """A server process that is running, with everything that it and its workers print.

    Attributes:
        url: Without a path.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = process
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name=f"output of {self.url}")
        self._reader.start()

    @property
    def output(self) -> str:
        with self._news:
            return "".join(self._lines)

    def wait_for(self, *texts: str) -> None:
        """Return when it has printed a line that has all of these texts in it. Fails if it never does."""
        with self._news:
            self._news.wait_for(lambda: self._printed(texts) or self._ended, PATIENCE)
            assert self._printed(texts), f"it never printed {' … '.join(texts)}:\n{''.join(self._lines)}"

    def terminate(self) -> None:
        """Ask it to stop, as a deploy does."""
        self._process.terminate()

    def wait(self) -> int:
        """The exit status, negative for the signal that ended it, once it and all its workers are gone."""
        status = self._process.wait(PATIENCE)
        # Its workers have inherited its output: that ends with the last of them.
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "it left a process behind"
        return status

    def kill(self) -> None:
        """Make sure that nothing of it is left. Nothing happens if it has ended as it should."""
        if self._process.poll() is None or self._reader.is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _printed(self, texts: Sequence[str]) -> bool:
        return any(all(text in line for text in texts) for line in self._lines)

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def serving(kind: Kind, application: str, *, directory: Path, python: str | Path = sys.executable) -> Iterator[Server]:
    """A server process, from when it is ready until the block ends. A test that fails shows its output.

    Args:
        kind: Which server.
        application: As ``module:attribute``.
        directory: Where it runs, and finds the module.
        python: The interpreter of the environment that has them all.
    """
    with socket.socket() as bound:
        # Bound here, and never free again: no other process can take the port. A server that insists on binding it
        # itself may share it.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        process = subprocess.Popen(  # noqa: S603 - an interpreter of ours
            [str(python), "-m", *kind.arguments(application, bound.fileno(), port)],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            pass_fds=[bound.fileno()],
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        server = Server(process, port)
        try:
            server.wait_for(kind.ready)
        except BaseException:
            server.kill()
            raise
    try:
        yield server
    finally:
        server.kill()
        print(server.output)  # noqa: T201 - pytest shows it if the test fails

"""The demo's processes: uvicorn on loopback, started, killed, started again, and none left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

START_SECONDS = 30


class DemoFailed(Exception):
    """Something that the demo shows did not happen."""


class Service:
    """One service, in a process of its own.

    Attributes:
        url: Without a path; the same after it was started again.
    """

    def __init__(
        self,
        application: str,
        name: str,
        listening: socket.socket,
        environment: Callable[[str], Mapping[str, str]],
    ) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._application = application
        self._name = name
        self._listening = listening
        self._environment = environment(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        descriptor = self._listening.fileno()
        command = [sys.executable, "-m", "uvicorn", self._application, "--fd", str(descriptor)]
        command += ["--log-level", "warning"]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command, pass_fds=[descriptor], env={**os.environ, **self._environment}
        )
        self._wait_for(self._process)

    def kill(self) -> None:
        """End it as a crash does: at once, and without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end, as a deploy does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if process.poll() is not None:
                raise DemoFailed(f"{self._name} ended with status {process.returncode} instead of listening")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._listening.getsockname()[1])) == 0:
                    return
            time.sleep(0.05)
        raise DemoFailed(f"{self._name} did not come up within {START_SECONDS} s")


@contextmanager
def service(
    application: str, name: str, port: int, environment: Callable[[str], Mapping[str, str]]
) -> Iterator[Service]:
    """A service that runs until the block ends; port 0 means any that is free.

    Args:
        application: As ``module:attribute``.
        name: What it is called in the story.
        port: Where it listens.
        environment: Its configuration, which may depend on its URL.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoFailed(f"{name} cannot listen on port {port}: {error.strerror}") from None
        one = Service(application, name, listening, environment)
        try:
            one.start()
            print(f"{name[0].upper()}{name[1:]} listens at {one.url}", flush=True)
            yield one
        finally:
            one.stop()

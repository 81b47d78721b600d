"""A PostgreSQL for tests: a private one, from the machine's own programs, or the one that CALLBACK_TEST_POSTGRES names.

A private one listens on loopback alone, and is gone when the process that started it is, however that ended.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg import sql

from lacking import lacking
from postgres_programs import find_programs

GIVEN: Final = "CALLBACK_TEST_POSTGRES"
"""The environment's variable with the URL of a server to use: its user may create databases."""

UNPRIVILEGED: Final = ("postgres", "nobody")
"""Who it runs as where the tests run as root, which PostgreSQL refuses: the first that the machine knows."""

PATIENCE: Final = 60
"""Seconds until a server that does not start or stop is given up."""

# Waits until nobody holds the other end of its input, which the system sees to even if they are killed.
GUARD: Final = """
cat >/dev/null
"$0" stop --silent --mode=immediate --pgdata="$1/data" || kill -KILL "$(head -n 1 "$1/data/postmaster.pid")"
rm -rf "$1"
"""


class PostgresLackingError(Exception):
    """This machine has no programs to start a server from, or nobody to run it as. Says how to get one."""


class PostgresFailedError(Exception):
    """A server did not do as it was told. Says what it and its programs printed."""


class DatabaseServer:
    """A server on which databases may be created.

    Args:
        url: Of any database that its user may connect to.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str = "postgres") -> str:
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    def create_database(self) -> str:
        """The URL of a fresh, empty database."""
        name = f"callbacks_{uuid.uuid4().hex}"
        # Nobody may connect to template0: a template that somebody is connected to cannot be copied.
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database. Whoever is still connected to it is cut off."""
        name = sql.Identifier(unquote(urlsplit(url).path[1:]))
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name).as_string())

    def execute(
        self, statements: str, arguments: Sequence[Any] = (), *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of the first of these statements. They are one transaction.

        Args:
            statements: One; or several, divided by semicolons, if there are no arguments.
            arguments: One for each ``%s``.
            database: Its URL; without it, the one that everybody may connect to.
        """
        with psycopg.connect(database or self._url, autocommit=True) as connection:
            cursor = connection.execute(statements.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []


class PostgresServer(DatabaseServer):
    """A private server in a folder of its own: runs while the ``with`` block does, and is gone with this process.

    Args:
        fsync: Whether what it commits would survive a power cut. A crash of its own it survives either way.
        settings: More lines for its ``postgresql.conf``, or other values for those that stand there.

    Raises:
        PostgresLackingError: At entry; there are no programs to start it from, or nobody to run it as.
        PostgresFailedError: At entry; it did not start.
    """

    def __init__(self, *, fsync: bool = False, settings: Mapping[str, str | int] | None = None) -> None:
        super().__init__("")
        self._settings: Mapping[str, str | int] = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "max_prepared_transactions": 8,
            "shared_buffers": "128MB",
            # Not what the tests' machine has, and no round number: nothing may depend on it.
            "timezone": "Asia/Kathmandu",
            "fsync": "on" if fsync else "off",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            **(settings or {}),
        }
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        programs = find_programs()
        if programs is None:
            raise PostgresLackingError(
                "there is no PostgreSQL on this machine: apt-get install postgresql (no cluster of its need run), "
                f"or `docker compose up --detach --wait` and {GIVEN} as compose.yaml says"
            )
        self._programs = programs
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="callbacks-postgres-"))
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
        self._guard = subprocess.Popen(  # noqa: S603 - a shell with a script of ours
            ["/bin/sh", "-c", GUARD, programs / "pg_ctl", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            # Ctrl-C is for those who may use the server to the end of their tests.
            start_new_session=True,
            **self._account,
        )
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """End it and start it again, on the same port; ``immediate`` is a crash. Returns when it answers."""
        self._control("restart", f"--mode={mode}", f"--log={self._log}")

    def stop(self) -> None:
        """End it at once, and remove its folder. Nothing happens if it does not run."""
        if self._guard is None:
            return
        self._guard.communicate()
        self._guard = None
        self._port.close()

    def log_text(self) -> str:
        """What it printed since it was started."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _start(self) -> None:
        # Never listens, and is held until the server is gone: nothing else gets the port, while it restarts neither.
        # Only Linux lets another bind it nevertheless.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        port = self._port.getsockname()[1]
        if sys.platform != "linux":
            self._port.close()
        self._url = f"postgresql://callbacks@127.0.0.1:{port}/postgres"
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            "--username=callbacks",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        with (self._data / "postgresql.conf").open("a") as configuration:
            for name, value in {**self._settings, "port": port}.items():
                configuration.write(f"{name} = '{value}'\n")
        self._control("start", f"--log={self._log}")

    def _control(self, *arguments: str) -> None:
        # It waits until the server says in a file that it is ready.
        self._run("pg_ctl", *arguments, "--silent", "--wait", f"--timeout={PATIENCE}", f"--pgdata={self._data}")

    def _run(self, program: str, *arguments: str) -> None:
        ended = subprocess.run(  # noqa: S603 - PostgreSQL's own
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            # The server holds no end of it: that prints to its log.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self._folder,
            # PGDATA, PGPORT and others would speak for a server of somebody else's.
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
            check=False,
            **self._account,
        )
        if ended.returncode:
            raise PostgresFailedError(f"{program} ended with {ended.returncode}:\n{ended.stdout}\n{self.log_text()}")


def _account() -> dict[str, Any]:
    """Whom its processes run as, for `subprocess`: whoever runs the tests, unless that is root."""
    if os.geteuid() != 0:
        return {}
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresLackingError(
        "PostgreSQL refuses to run as root, and this machine has no user named "
        f"{' or '.join(map(repr, UNPRIVILEGED))}: run the tests as another, or add one of these"
    )


@contextmanager
def private_postgres(
    *, fsync: bool = False, settings: Mapping[str, str | int] | None = None
) -> Iterator[PostgresServer]:
    """A server that a test may restart. Where there can be none, the test is skipped, or fails if nothing may be.

    Args:
        fsync: As for `PostgresServer`.
        settings: Likewise.
    """
    server = PostgresServer(fsync=fsync, settings=settings)
    try:
        server.start()
    except PostgresLackingError as error:
        lacking(str(error))
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def given_or_private_postgres() -> Iterator[DatabaseServer]:
    """The server that the environment names; where it names none, a private one."""
    if given := os.environ.get(GIVEN):
        yield DatabaseServer(given)
    else:
        with private_postgres() as server:
            yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[DatabaseServer]:
    """One server for all tests. It is not theirs to restart: `private_postgres` is for those who must."""
    with given_or_private_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: DatabaseServer) -> Iterator[str]:
    """The URL of a fresh, empty database, which is dropped afterwards."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)

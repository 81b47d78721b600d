"""A PgBouncer for tests, in front of their PostgreSQL: hands out its few connections per transaction."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from lacking import lacking
from postgres_server import DatabaseServer
from postgres_server import _account as unprivileged

# Debian's is where only root's PATH leads.
FOLDERS: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))

PATIENCE: Final = 100
"""Times that one is asked until it answers."""

CONFIGURATION: Final = """
[databases]
* = host={server.hostname} port={port} user={user}{password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
log_connections = 0
log_disconnections = 0
server_idle_timeout = 1
{more}
"""

PREPARING: Final = (1, 21)
"""The first version that has what a client prepared on each connection that it hands to it. Others know no setting."""


def pooled(url: str, pooler: int) -> str:
    """The URL of a database through a PgBouncer on this port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{pooler}").geturl()


@contextmanager
def pgbouncer(server: DatabaseServer, *, connections: int = 2, prepares: bool = False) -> Iterator[int]:
    """One in front of a server, and its port. Where there is none, the test is skipped, or fails if nothing may be.

    Args:
        server: Whose connections it hands out.
        connections: How many of them to each database.
        prepares: Whether what a client has prepared follows it from connection to connection. An older one cannot:
            the test is skipped, wherever it runs.
    """
    program = shutil.which("pgbouncer", path=FOLDERS)
    if program is None:
        lacking("there is no PgBouncer on this machine: apt-get install pgbouncer (it need not be started)")
    version = _version(program)
    if prepares and version < PREPARING:
        # No lack that installing the package mends: a distribution has the one that it has.
        pytest.skip(f"PgBouncer {'.'.join(map(str, version))} hands on nothing that is prepared; 1.21 does")
    with tempfile.TemporaryDirectory(prefix="callbacks-pgbouncer-") as folder:
        listen = _free_port()
        parts = urlsplit(server.url())
        file = Path(folder, "pgbouncer.ini")
        file.write_text(
            CONFIGURATION.format(
                server=parts,
                port=parts.port or 5432,
                user=unquote(parts.username or ""),
                password=f" password='{unquote(parts.password)}'" if parts.password else "",
                listen=listen,
                connections=connections,
                more=f"max_prepared_statements = {100 if prepares else 0}" if version >= PREPARING else "",
            )
        )
        # It refuses root, as the server does.
        account = unprivileged()
        if account:
            os.chown(folder, account["user"], account["group"])
        with subprocess.Popen(  # noqa: S603 - the one that was found
            [program, str(file)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **account
        ) as process:
            try:
                _wait_until_it_answers(process, pooled(server.url(), listen))
                yield listen
            finally:
                process.kill()
                process.communicate()


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - likewise
    return tuple(map(int, said.split()[1].split(".")[:2]))


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(PATIENCE):
        try:
            with psycopg.connect(url, connect_timeout=5):
                return
        except psycopg.OperationalError:
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(f"pgbouncer ended:\n{process.stderr.read().decode()}") from None
            time.sleep(0.1)
    raise RuntimeError("pgbouncer does not answer")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port

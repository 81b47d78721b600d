"""``make bench``: every figure of ``docs/benchmarks.md``, in one run, each part in a process of its own."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import time
from importlib.metadata import version

PARTS = [
    *("expressions", "senders", "guard", "routes", "puts", "claims", "fairness", "goodput", "durable", "growth"),
    "postgres",
]
MEASURED = ["fastapi", "starlette", "uvicorn", "h11", "httptools", "httpx", "httpcore", "anyio", "aiohttp", "asyncpg"]


def main() -> int:
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}, {os.cpu_count()} cores")
    print(", ".join(f"{name} {version(name)}" for name in MEASURED) + f", SQLite {sqlite3.sqlite_version}")
    failed = 0
    for part in PARTS:
        # Who else was at work is a part of the figures.
        print(f"\nbenchmarks.{part} (load average {os.getloadavg()[0]:.1f})", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{part}"]
        failed |= subprocess.run(command, check=False).returncode  # noqa: S603 - our own modules
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

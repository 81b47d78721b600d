"""``make bench``: every figure of ``docs/benchmarks.md``, in one run, each part in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import version

PARTS = ["benchmarks.expressions", "benchmarks.senders", "benchmarks.routes"]
MEASURED = ["fastapi", "starlette", "uvicorn", "h11", "httpx", "httpcore", "anyio", "aiohttp"]


def main() -> int:
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}")
    print(", ".join(f"{name} {version(name)}" for name in MEASURED))
    failed = 0
    for part in PARTS:
        print(f"\n{part}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", part], check=False).returncode  # noqa: S603 - our own modules
    return failed


if __name__ == "__main__":
    sys.exit(main())

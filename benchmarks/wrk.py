"""Load from wrk, which costs the machine a tenth of what a generator in Python does."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Final

PATIENCE: Final = 20
"""Seconds after which a request counts as failed: far beyond what a crowded machine does to one."""

_SCRIPT: Final = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = %s
done = function(summary, latency)
  local e, p99 = summary.errors, latency:percentile(99)
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("measured %%d %%d %%d %%d\\n", summary.requests, summary.duration, p99, failed))
end
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stretch of load came to: requests that were answered, its seconds, and the 99th percentile in ms."""

    requests: int
    seconds: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def load(port: int, path: str, body: bytes, *, connections: int, seconds: int) -> Measured:
    """POST to a server of this machine for so long, each connection with one request at a time.

    Raises:
        SystemExit: There is no wrk, or a request was not answered 2xx: nothing is measured then.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("this needs wrk: apt-get install wrk, brew install wrk, or https://github.com/wg/wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % f"[==[{body.decode()}]==]")
        script.flush()
        arguments = [
            *("--threads=1", f"--connections={connections}", f"--duration={seconds}s"),
            *(f"--timeout={PATIENCE}s", f"--script={script.name}"),
        ]
        run = subprocess.run(  # noqa: S603 - our own arguments
            [wrk, *arguments, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=False
        )
    line = next((line for line in run.stdout.splitlines() if line.startswith("measured ")), None)
    if line is None:
        raise SystemExit(f"wrk said: {run.stdout}{run.stderr}")
    requests, microseconds, p99, failed = map(int, line.split()[1:])
    if failed or not requests:
        raise SystemExit(f"{failed} requests failed, {requests} did not: {run.stdout}")
    return Measured(requests, microseconds / 1e6, p99 / 1e3)

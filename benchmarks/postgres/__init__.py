"""The outbox in PostgreSQL: ``python -m benchmarks.postgres``. The server is the one that the tests start."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

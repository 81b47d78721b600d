"""Where this machine has PostgreSQL's server.

It needs the standard library alone: `.ci/run` asks it before anything is set up.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NEEDED: Final = ("initdb", "pg_ctl", "postgres")

# Debian and Ubuntu put none of them on the PATH; nor do some others, where several versions may stand side by side.
FOLDERS: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


def find_programs(root: Path = Path("/")) -> Path | None:
    """The folder that has all programs of a server; None where there is none.

    What the PATH says comes first, then the newest version in the usual folders.

    Args:
        root: Where the usual folders are looked for.
    """
    return next((folder for folder in _candidates(root) if all((folder / name).is_file() for name in NEEDED)), None)


def _candidates(root: Path) -> Iterator[Path]:
    # The clients' package alone has it too: it says where the server would be.
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - the PATH's
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    for folder in os.get_exec_path():
        yield Path(folder)
    yield from sorted((folder for pattern in FOLDERS for folder in root.glob(pattern)), key=_version, reverse=True)


def _version(folder: Path) -> int:
    numbers = re.findall(r"\d+", folder.parent.name)
    return int(numbers[0]) if numbers else 0


if __name__ == "__main__":
    sys.exit(find_programs() is None)

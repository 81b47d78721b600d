"""Virtual environments of their own, kept in ``.venvs``: built once, and again when what they hold has changed.

"Newest" is the newest on the day an environment was built; ``make clean`` forgets them all.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / ".venvs"
MARK = "built-of"
"""A file in a finished environment that says what of; without it, it is half of one."""
FLOOR = re.compile(r"([\w.-]+)>=([\d.]+)(?:,.*)?")
"""A requirement that says where it begins."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed together.

    Attributes:
        name: Its folder's.
        requirements: Beside the library.
        extra: The library's own, or empty for its base alone.
    """

    name: str
    requirements: tuple[str, ...]
    extra: str = ""

    @property
    def python(self) -> Path:
        return KEPT / self.name / "bin" / "python"


class BuildFailed(Exception):
    """An environment cannot be built; the message is pip's."""


def oldest(extra: str) -> tuple[str, ...]:
    """Requirements of the oldest releases that the library and one of its extras admit."""
    project = _project()
    admitted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    floors = [FLOOR.fullmatch(requirement) for requirement in admitted]
    assert all(floors), f"each of {admitted} must say where it begins"
    return tuple(f"{floor[1]}=={floor[2]}" for floor in floors if floor is not None)


def build(environment: Environment) -> Path:
    """Build an environment, unless it is there already. Returns its interpreter.

    Raises:
        BuildFailed: The package index cannot be reached, or nothing satisfies what is asked for.
    """
    mark = KEPT / environment.name / MARK
    digest = _digest(environment)
    if mark.is_file() and mark.read_text() == digest:
        return environment.python
    venv.create(KEPT / environment.name, clear=True, symlinks=True)
    extra = f"[{environment.extra}]" if environment.extra else ""
    # No byte code: a server compiles the few modules that it imports, pip all of them.
    _pip(environment.python, "install", "--no-compile", "--editable", f"{ROOT}{extra}", *environment.requirements)
    mark.write_text(digest)
    return environment.python


def installed(python: Path) -> frozenset[str]:
    """The names of the distributions in an environment, in lower case."""
    script = "import importlib.metadata as m; print(*(found.name.lower() for found in m.distributions()))"
    found = subprocess.run(  # noqa: S603 - an interpreter of ours
        [python, "-c", script], check=True, capture_output=True, text=True
    )
    return frozenset(found.stdout.split())


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _digest(environment: Environment) -> str:
    """Stands for everything that an environment is made of, as far as it is known before it is made."""
    project = _project()
    made_of = [
        project["dependencies"],
        project["optional-dependencies"],
        environment.requirements,
        environment.extra,
        sys.version,
        str(ROOT),
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _pip(python: Path, *arguments: str) -> None:
    # This environment's pip works for the other one, which needs none.
    command: Sequence[str | Path] = [sys.executable, "-m", "pip", "--python", python, *arguments]
    pip = subprocess.run(  # noqa: S603 - what the matrix lists
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if pip.returncode:
        raise BuildFailed(f"pip {' '.join(arguments)} ended with status {pip.returncode}:\n{pip.stdout}")

"""Libraries that a test puts between a process and the system's own, each from one file of C."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from lacking import lacking


def preloadable(source: Path, *, into: Path, purpose: str) -> Path:
    """A library to preload. Where there can be none, the test is skipped, or fails if nothing may be.

    Args:
        source: A file of C.
        into: The folder for it.
        purpose: What happens by means of it: the beginning of the sentence that says what is lacking.
    """
    if sys.platform != "linux":
        lacking(f"{purpose} with LD_PRELOAD and /proc, which Linux has: run it there")
    if shutil.which("cc") is None:
        lacking(f"{purpose} in C, and there is no compiler: apt-get install gcc libc6-dev")
    return compile_library(source, into=into)


def compile_library(source: Path, *, into: Path, compiler: str = "cc") -> Path:
    """A library to preload, from one file of C."""
    library = into / source.with_suffix(".so").name
    strict = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *strict, "-o", library, source, "-ldl"], check=True)  # noqa: S603 - a file of ours
    return library

"""This interpreter, for processes that have less than this one: fewer privileges, or less room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lacking import lacking


def unprivileged(folder: Path) -> str | Path:
    """For a process that permissions hold for: they do not for root."""
    if os.geteuid() != 0:
        return sys.executable
    if shutil.which("setpriv") is None:
        lacking("root must give up its privileges: apt-get install util-linux")
    return program(folder, f'exec setpriv --bounding-set=-dac_override,-dac_read_search {sys.executable} "$@"')


def on_small_disk(folder: Path, place: Path) -> Path:
    """For a process that has a disk of 4 MiB mounted on ``place``. Nobody else sees it, and it goes when they end.

    Others reach it as ``/proc/<pid>/root/<place>``.
    """
    rights = "" if os.geteuid() == 0 else "--map-root-user"
    mount = f"mount -t tmpfs -o size=4M tmpfs {place}"
    small = program(folder, f'exec unshare {rights} --mount sh -c \'{mount} && exec {sys.executable} "$@"\' sh "$@"')
    tried = subprocess.run([small, "-c", ""], check=False, capture_output=True, text=True)  # noqa: S603 - ours
    if tried.returncode != 0:
        lacking(f"a small disk must be mounted: allow user namespaces, or run it as root ({tried.stderr.strip()})")
    return small


def program(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path

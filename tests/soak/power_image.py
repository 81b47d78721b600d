"""Cut the power of a file system under an SQLite outbox, and judge what a machine finds there that starts again.

    unshare --mount python power_image.py --home /var/tmp/somewhere --after 300

A file system of its own, ext4 in a file, is mounted through a loop device; an outbox on it is under load. When so many
promises were made, the file system is shut down as it stands: of what was not synced the device gets nothing any more.
The image is copied, and the copy is mounted, which replays its journal. Prints a verdict, as JSON.

Mounts stay in the mount namespace of this process and go with it, whatever becomes of it. Ends with the status
:data:`CANNOT_MOUNT` where the machine does not let it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Final

import power_load
from power_verdict import Verdict, judge

CANNOT_MOUNT: Final = 77
SIZE: Final = 128 * 1024 * 1024

EXT4_IOC_SHUTDOWN: Final = 0x8004_587D
"""``_IOR('X', 125, __u32)`` of linux/fs/ext4/ext4.h: nothing of this file system is written from now on."""
WITHOUT_FLUSH: Final = struct.pack("=I", 2)
"""``EXT4_GOING_FLAGS_NOLOGFLUSH``: not even what its journal has gathered."""


def mount(image: Path, on: Path) -> None:
    on.mkdir()
    command = ["mount", "-t", "ext4", "-o", "loop", str(image), str(on)]
    mounted = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)  # noqa: S603 - paths of ours
    if mounted.returncode != 0:
        print(mounted.stderr.strip(), file=sys.stderr)  # noqa: T201 - for whoever started this
        sys.exit(CANNOT_MOUNT)


def make(image: Path) -> None:
    """An empty file system."""
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)  # noqa: S603, S607 - a path of ours


def work_until_cut(directory: Path, arguments: argparse.Namespace) -> list[str]:
    """Have an outbox under load, and cut the power. Returns what was promised before.

    Not what is said while it is cut: a sync that has written its data when the file system is shut down, and only waits
    for the journal, returns as if all were well (seen with Linux 6.18; no machine without power would say anything).
    """
    command = [sys.executable, power_load.__file__, str(directory / "outbox.db"), "/dev/stdout"]
    options = ["--seed", str(arguments.seed), *(f"--setting={setting}" for setting in arguments.setting)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as load:  # noqa: S603 - a script of ours
        promises = list(islice(load.stdout or (), arguments.after))
        cut(directory)
        load.kill()
    return [promise.rstrip("\n") for promise in promises]


def cut(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSH)
    finally:
        os.close(descriptor)


def run(arguments: argparse.Namespace) -> Verdict:
    image, copy = arguments.home / "image", arguments.home / "copy"
    make(image)
    mount(image, on=arguments.home / "before")
    promises = work_until_cut(arguments.home / "before", arguments)
    if len(promises) < arguments.after:
        return Verdict(broken=(f"the load ended after {len(promises)} promises, before the cut",))
    shutil.copyfile(image, copy)
    mount(copy, on=arguments.home / "after")
    return judge(arguments.home / "after" / "outbox.db", promises)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True, help="an empty folder")
    parser.add_argument("--after", type=int, required=True, help="promises, until the power is cut")
    parser.add_argument("--seed", type=int, default=0, help="of the load")
    parser.add_argument("--setting", action="append", default=[], help="of SQLite's, name=value, whatever is asked for")
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(asdict(run(parse()))))  # noqa: T201 - for whoever started this

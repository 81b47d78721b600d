"""The record that ``changes.c`` makes of a process: what it did to the files of one directory, in order."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

SOURCE: Final = Path(__file__).with_name("changes.c")

HEADER: Final = struct.Struct("=IIQQ")
"""Kind, bytes that follow, inode, value."""


@dataclass(frozen=True, slots=True)
class Created:
    """A name in the directory stands for a new, empty file."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Written:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file has this length now: it was cut, or filled up with zeros."""

    inode: int
    length: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    name: str


@dataclass(frozen=True, slots=True)
class Renamed:
    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Synced:
    """A file, or the directory, is durable as it was when the record was this long."""

    inode: int
    until: int


Change: TypeAlias = Created | Written | Truncated | Unlinked | Renamed | Synced


@dataclass(frozen=True, slots=True)
class Entry:
    """One change.

    Attributes:
        position: Where it stands in the record, in bytes from its beginning.
    """

    position: int
    change: Change


def run_recorded(
    command: Sequence[str | Path], *, recorder: Path, directory: Path, record: Path, beneath: Sequence[Path] = ()
) -> Sequence[Entry]:
    """Run a process to its end, and return what it did to the files of ``directory``.

    Args:
        command: Its program and arguments. It must end with status 0.
        recorder: ``changes.c``, compiled.
        directory: Watched without what is below its folders.
        record: Appended to; outside of ``directory``.
        beneath: Libraries that are preloaded between the recorder and the system's.
    """
    watched = {
        "LD_PRELOAD": ":".join(map(str, (recorder, *beneath))),
        "CHANGES_OF": str(directory.resolve()),
        "CHANGES_TO": str(record),
    }
    subprocess.run(command, env=os.environ | watched, check=True)  # noqa: S603 - a script of ours
    return list(entries(record.read_bytes()))


def entries(record: bytes) -> Iterator[Entry]:
    """The changes in a record."""
    position = 0
    while position < len(record):
        kind, length, inode, value = HEADER.unpack_from(record, position)
        data = record[position + HEADER.size : position + HEADER.size + length]
        yield Entry(position, _change(kind, inode, value, data))
        position += HEADER.size + length


def _change(kind: int, inode: int, value: int, data: bytes) -> Change:
    match kind:
        case 1:
            return Created(data.decode(), inode)
        case 2:
            return Written(inode, value, data)
        case 3:
            return Truncated(inode, value)
        case 4:
            return Unlinked(data.decode())
        case 5:
            name, _, to = data.decode().partition("/")
            return Renamed(name, to)
        case 6:
            return Synced(inode, value)
    raise ValueError(f"changes.c records a kind {kind} that is not known here")

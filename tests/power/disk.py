"""What a disk may hold when the power fails: files, what was made durable of them, and what chance leaves of the rest.

It promises what POSIX does, and no more:

- What a sync vouched for is there.
- Of what was written to a file since, every sector is there or not, by itself, and as it was after one of the writes to
  it. A file that shrank or grew since did so or not.
- Of what was created, removed and renamed in the directory since its own sync, each has happened or not. A file's sync
  does not vouch for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from changes import Created, Entry, Renamed, Synced, Truncated, Unlinked, Written

SECTOR: Final = 512
"""Bytes that are written whole or not at all."""

KEPT: Final = (0.0, 0.5, 0.9, 1.0)
"""How much of what was not synced is there after a cut, from nothing to everything. Each cut has one of these."""


class Disk:
    """The files of one directory without folders, as processes see them and as they are on the disk.

    Args:
        inode: The directory's.
        files: What is in it and durable: the inode and the content of every name.
    """

    def __init__(self, inode: int, files: Mapping[str, tuple[int, bytes]]) -> None:
        self._inode = inode
        self._names = {name: _File(content) for name, (_, content) in files.items()}
        self._durable = dict(self._names)
        self._unsynced: list[tuple[int, _Renaming]] = []
        self._inodes = {files[name][0]: file for name, file in self._names.items()}

    @classmethod
    def found(cls, directory: Path) -> Disk:
        """A disk that holds what is in a directory at this moment."""
        files = {path.name: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
        return cls(directory.stat().st_ino, files)

    def apply(self, entry: Entry) -> None:
        """The next change happens."""
        match entry.change:
            case Created(name, inode):
                # The inode of a file that is gone may be another's now.
                file = self._inodes[inode] = _File(b"")
                self._rename(entry.position, (None, name, file))
            case Unlinked(name):
                self._rename(entry.position, (name, None, None))
            case Renamed(name, to):
                self._rename(entry.position, (name, to, None))
            case Synced(inode, until) if inode == self._inode:
                self._sync(until)
            case Synced(inode, until):
                self._inodes[inode].sync(until)
            case Written(inode) | Truncated(inode) as change:
                self._inodes[inode].change(entry.position, change)

    def seen(self) -> Mapping[str, bytes]:
        """What processes see, by name: everything that has happened."""
        return {name: bytes(file.seen) for name, file in self._names.items()}

    def unsynced(self) -> frozenset[str]:
        """The names of the files that would lose something."""
        return frozenset(name for name, file in self._names.items() if file.unsynced)

    def after_cut(self, chance: Random) -> Mapping[str, bytes]:
        """What may be there, by name, if the power fails now."""
        kept = chance.choice(KEPT)
        names = dict(self._durable)
        for _, renaming in self._unsynced:
            if chance.random() < kept:
                _apply(names, renaming)
        return {name: file.after_cut(kept, chance) for name, file in names.items()}

    def _rename(self, position: int, renaming: _Renaming) -> None:
        _apply(self._names, renaming)
        self._unsynced.append((position, renaming))

    def _sync(self, until: int) -> None:
        while self._unsynced and self._unsynced[0][0] < until:
            _apply(self._durable, self._unsynced.pop(0)[1])


class _File:
    """One file: as processes see it, as it surely is on the disk, and what lies between."""

    def __init__(self, content: bytes) -> None:
        self.seen = bytearray(content)
        self._durable = bytearray(content)
        self.unsynced: list[tuple[int, Written | Truncated]] = []

    def change(self, position: int, change: Written | Truncated) -> None:
        _write(self.seen, change)
        self.unsynced.append((position, change))

    def sync(self, until: int) -> None:
        covered = sum(position < until for position, _ in self.unsynced)
        for _, change in self.unsynced[:covered]:
            _write(self._durable, change)
        del self.unsynced[:covered]

    def after_cut(self, kept: float, chance: Random) -> bytes:
        seen, disk = bytearray(self._durable), bytearray(self._durable)
        for _, change in self.unsynced:
            _write(seen, change)
            whole = chance.random() < kept
            if isinstance(change, Truncated):
                if whole:
                    _resize(disk, change.length)
                continue
            torn = not whole and chance.random() < kept
            first = change.offset // SECTOR * SECTOR
            for start in range(first, change.offset + len(change.data), SECTOR):
                if whole or (torn and chance.random() < kept):
                    # All of the sector as it is now: a disk cannot write one's bytes and leave out its neighbour's.
                    _put(disk, start, seen[start : start + SECTOR])
        return bytes(disk)


_Renaming: TypeAlias = tuple[str | None, str | None, _File | None]
"""A name that goes, one that comes, and the file it stands for if it is a new one."""


def _apply(names: dict[str, _File], renaming: _Renaming) -> None:
    gone, come, new = renaming
    file = new if gone is None else names.pop(gone, None)
    if come is not None and file is not None:
        names[come] = file


def _write(content: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Written):
        _put(content, change.offset, change.data)
    else:
        _resize(content, change.length)


def _put(content: bytearray, offset: int, data: bytes | bytearray) -> None:
    if len(content) < offset:
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, length: int) -> None:
    del content[length:]
    content.extend(bytes(length - len(content)))

"""What the model of a disk says may be there after a power cut: no more than POSIX allows, and no less."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from changes import Change, Created, Entry, Renamed, Synced, Truncated, Unlinked, Written
from disk import SECTOR, Disk

DIRECTORY, FILE, OTHER = 1, 2, 3
END = 10**6
"""After everything that these tests do."""

CUTS = 300
"""Enough for chance to show everything that it can."""

CREATED = (Created("file", FILE), Synced(DIRECTORY, END))


def disk_after(*changes: Change) -> Disk:
    """A disk that was empty, after these changes; the first stands at position 1, the second at 2."""
    disk = Disk(DIRECTORY, {})
    for position, change in enumerate(changes, 1):
        disk.apply(Entry(position, change))
    return disk


def cuts(disk: Disk) -> list[Mapping[str, bytes]]:
    """What may be there."""
    return [disk.after_cut(Random(seed)) for seed in range(CUTS)]  # noqa: S311 - chance that repeats


def contents(disk: Disk) -> set[bytes]:
    """What the one file may hold, where it is surely there."""
    return {files["file"] for files in cuts(disk)}


def test_what_was_synced_is_there() -> None:
    disk = disk_after(*CREATED, Written(FILE, 0, b"old"), Synced(FILE, END))

    assert contents(disk) == {b"old"}
    assert disk.unsynced() == frozenset()


def test_what_was_not_synced_is_there_or_not() -> None:
    disk = disk_after(*CREATED, Written(FILE, 0, b"old"), Synced(FILE, END), Written(FILE, 0, b"new"))

    assert contents(disk) == {b"old", b"new"}
    assert disk.seen() == {"file": b"new"}
    assert disk.unsynced() == {"file"}


def test_a_sync_does_not_vouch_for_what_came_after_it_began() -> None:
    disk = disk_after(*CREATED, Written(FILE, 0, b"old"), Written(FILE, 0, b"new"), Synced(FILE, 4))

    assert contents(disk) == {b"old", b"new"}


def test_a_directorys_sync_does_not_vouch_for_what_came_after_it_began() -> None:
    disk = disk_after(Created("first", FILE), Created("second", OTHER), Synced(DIRECTORY, 2))

    assert {frozenset(files) for files in cuts(disk)} == {frozenset({"first"}), frozenset({"first", "second"})}


def test_a_later_write_may_be_there_without_an_earlier_one() -> None:
    disk = disk_after(*CREATED, Written(FILE, 0, b"a" * SECTOR), Written(FILE, SECTOR, b"b" * SECTOR))

    assert bytes(SECTOR) + b"b" * SECTOR in contents(disk)
    assert b"a" * SECTOR in contents(disk)


def test_a_write_is_torn_between_sectors_and_nowhere_else() -> None:
    disk = disk_after(*CREATED, Truncated(FILE, 3 * SECTOR), Synced(FILE, END), Written(FILE, 0, b"n" * 3 * SECTOR))

    found = contents(disk)

    assert len(found) == 2**3
    assert {bytes(sorted(set(content[at : at + SECTOR]))) for content in found for at in (0, SECTOR, 2 * SECTOR)} == {
        b"\0",
        b"n",
    }


def test_a_sector_is_as_it_was_after_one_of_the_writes_to_it() -> None:
    disk = disk_after(
        *CREATED, Written(FILE, 0, b"--"), Synced(FILE, END), Written(FILE, 0, b"a"), Written(FILE, 1, b"b")
    )

    assert contents(disk) == {b"--", b"a-", b"ab"}


def test_a_file_that_was_cut_may_be_as_long_as_before() -> None:
    disk = disk_after(*CREATED, Written(FILE, 0, b"long"), Synced(FILE, END), Truncated(FILE, 2))

    assert contents(disk) == {b"long", b"lo"}


def test_a_name_is_there_or_not_until_its_directory_is_synced() -> None:
    new = (Created("file", FILE), Written(FILE, 0, b"x"), Synced(FILE, END))

    assert {frozenset(files) for files in cuts(disk_after(*new))} == {frozenset(), frozenset({"file"})}
    assert {frozenset(files) for files in cuts(disk_after(*new, Synced(DIRECTORY, END)))} == {frozenset({"file"})}


def test_a_file_that_was_removed_may_be_back_until_its_directory_is_synced() -> None:
    removed = (*CREATED, Written(FILE, 0, b"x"), Synced(FILE, END), Unlinked("file"))

    assert {files.get("file") for files in cuts(disk_after(*removed))} == {None, b"x"}
    assert {files.get("file") for files in cuts(disk_after(*removed, Synced(DIRECTORY, END)))} == {None}


def test_a_file_that_was_renamed_has_one_of_its_names() -> None:
    other = (Created("other", OTHER), Written(OTHER, 0, b"o"), Synced(OTHER, END), Synced(DIRECTORY, END))

    disk = disk_after(*CREATED, *other, Renamed("other", "file"))

    assert disk.seen() == {"file": b"o"}
    assert {tuple(sorted(files.items())) for files in cuts(disk)} == {
        (("file", b""), ("other", b"o")),
        (("file", b"o"),),
    }


def test_an_inode_that_is_used_again_is_another_file() -> None:
    first = (*CREATED, Written(FILE, 0, b"first"), Synced(FILE, END))

    disk = disk_after(*first, Unlinked("file"), Created("file", FILE), Written(FILE, 0, b"second"))

    assert disk.seen() == {"file": b"second"}
    assert {files.get("file") for files in cuts(disk)} == {None, b"first", b"", b"second"}


def test_what_was_there_before_is_durable() -> None:
    disk = Disk(DIRECTORY, {"file": (FILE, b"before")})
    disk.apply(Entry(1, Written(FILE, 0, b"after ")))

    assert contents(disk) == {b"before", b"after "}

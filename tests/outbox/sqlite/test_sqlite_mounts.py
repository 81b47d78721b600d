from __future__ import annotations

from pathlib import Path

import pytest

from callback_middleware.outbox.sqlite import mounts
from callback_middleware.outbox.sqlite.mounts import NETWORK, PASSING, file_system

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
24 22 0:25 / /run rw - tmpfs tmpfs rw,size=1g
30 22 0:41 / /srv/shared\040files rw,relatime shared:2 master:1 - nfs4 server:/export rw,vers=4.2
31 22 0:42 / /srv/back\134slash rw - cifs //server/share rw
32 22 0:43 / /home rw - xfs /dev/sdb1 rw
33 22 0:44 / /home rw - fuse.sshfs me@server:/home rw
34 33 0:45 /sub /home/local rw,relatime - btrfs /dev/sdc1 rw,subvol=/sub
35 22 0:46 / /var/lib/docker/overlay2/merged rw - overlay overlay rw,lowerdir=/a,upperdir=/b
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/callbacks.db", "ext4"),
        ("/srv/callbacks.db", "ext4"),
        ("/run/callbacks.db", "tmpfs"),
        ("/running/callbacks.db", "ext4"),
        ("/srv/shared files/a/b/callbacks.db", "nfs4"),
        ("/srv/back\\slash/callbacks.db", "cifs"),
        ("/home/callbacks.db", "fuse.sshfs"),
        ("/home/local/callbacks.db", "btrfs"),
        ("/var/lib/docker/overlay2/merged/data/callbacks.db", "overlay"),
    ],
)
def test_a_file_is_on_the_innermost_mount_and_of_two_on_the_later(path: str, kind: str) -> None:
    assert file_system(Path(path), TABLE) == kind


@pytest.mark.parametrize("table", ["", "\n", "22 1 8:1", "22 1 8:1 / / rw,relatime shared:1", "a b c d / f - "])
def test_of_a_table_that_says_nothing_nothing_is_known(table: str) -> None:
    assert file_system(Path("/callbacks.db"), table) is None


def test_without_a_table_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", Path("/nowhere/mountinfo"))

    assert file_system(Path("/callbacks.db")) is None


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="the kernel does not say (not Linux)")
def test_the_kernels_own_table_is_understood() -> None:
    assert file_system(Path("/proc/self/status")) == "proc"


def test_what_is_refused_is_not_what_is_warned_about() -> None:
    assert not NETWORK & PASSING

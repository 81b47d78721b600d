"""What kind of file system a file is on, where the operating system tells."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

logger = logging.getLogger("callback_middleware")

# SQLite's locks and its shared memory do not work across machines, and on some of these not even on one.
NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "ocfs2", "gfs2"),
        *("coda", "orangefs", "beegfs", "davfs", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.juicefs"),
    }
)
# Gone with the container, or with the machine's next start.
PASSING: Final = frozenset({"overlay", "aufs", "tmpfs", "ramfs"})

_MOUNTS: Final = Path("/proc/self/mountinfo")


def file_system(path: Path, table: str | None = None) -> str | None:
    """The type of the file system that a file is on, or will be; None where that is unknown.

    Args:
        path: Absolute and resolved.
        table: What ``/proc/self/mountinfo`` says (proc_pid_mountinfo(5)); read if it is not given.
    """
    if table is None:
        try:
            table = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    best, kind = -1, None
    for line in table.splitlines():
        mounted, _, source = line.partition(" - ")
        fields, types = mounted.split(" "), source.split(" ")
        if len(fields) < 5 or not types[0]:  # noqa: PLR2004 - the fifth field is where it is mounted
            continue
        point = Path(_unescaped(fields[4]))
        # A later mount on the same folder hides the earlier one.
        if len(point.parts) >= best and path.is_relative_to(point):
            best, kind = len(point.parts), types[0]
    return kind


def has_room(folder: Path, needed: int) -> bool:
    """Whether this user may still write so many bytes on a folder's file system; also where that is unknown."""
    try:
        status = os.statvfs(folder)
    except (AttributeError, OSError):
        return True
    return status.f_bavail * status.f_frsize >= needed


def _unescaped(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field

"""On what a directory lies: the file system's type, its room, the descriptors that a process may open."""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

from ottla import capabilities

MOUNTS = "/proc/self/mountinfo"

NETWORK_TYPES = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "virtiofs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "afs",
        "beegfs",
        "fuse.sshfs",
    ]
)
MEMORY_TYPES = frozenset(("tmpfs", "ramfs"))
LAYER_TYPES = frozenset(("overlay", "aufs"))

FREE_BYTES_MIN = 1 << 30
FREE_SHARE_MIN = 0.05


class Mount(NamedTuple):
    """Where a path lies."""

    point: str
    type: str
    read_only: bool


class Room(NamedTuple):
    """Free and total bytes, and free inodes (-1 where the file system has no such number)."""

    free_bytes: int
    total_bytes: int
    free_inodes: int


def mount_of(path: str, table: str | None = None) -> Mount | None:
    """The mount that ``path`` lies in; None where the system does not tell.

    ``table``: the text of ``/proc/self/mountinfo``, read if None.
    """
    if table is None:
        try:
            with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:
                table = stream.read()
        except OSError:
            return None
    path = os.path.realpath(path)
    best: Mount | None = None
    for line in table.splitlines():
        before, separator, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if not separator or len(fields) < 6 or not types:
            continue
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and (best is None or len(point) >= len(best.point)):
            best = Mount(point, types[0], "ro" in fields[5].split(","))
    return best


def room_of(path: str) -> Room:
    """How much room there is at ``path``. Raises ``OSError``."""
    if not hasattr(os, "statvfs"):  # Windows
        usage = shutil.disk_usage(path)
        return Room(usage.free, usage.total, -1)
    status = os.statvfs(path)
    inodes = status.f_favail if status.f_files else -1
    return Room(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, inodes)


def descriptors_max() -> tuple[int, int]:
    """How many files a process may open: as it is, and up to what it may be raised."""
    try:
        import resource
    except ImportError:  # Windows
        return capabilities.OPEN_FILES_WITHOUT_LIMIT, capabilities.OPEN_FILES_WITHOUT_LIMIT
    return resource.getrlimit(resource.RLIMIT_NOFILE)

"""Taking a partition with damaged bytes out of service from outside the broker, and what was asked for.

The rules kept here (INVARIANTS 23):

- The mark is the file ``quarantined`` in the partition's directory, the one that recovery leaves: every later
  start leaves the partition out until somebody has looked after it.
- A broker that is running is told by a line in ``.quarantine-request`` of the log directory, after the mark
  is there. It takes the request away before it reads it, so that none is lost: who asks waits for that.
"""

from __future__ import annotations

import os

from ottla.log import names
from ottla.log.disk import Disk
from ottla.log.names import PartitionDirectory

_REQUEST_BYTES_MAX = 1 << 20
_MARK_BYTES_MAX = 1 << 16


def request_quarantine(disk: Disk, directory: str, reason: str) -> None:
    """Mark the partition in ``directory``, and leave a request for a broker that is running.

    Raises ``OSError``.
    """
    disk.replace_file(f"{directory}/{names.QUARANTINE}", f"{reason}\n".encode())
    parent, _, name = directory.rpartition("/")
    descriptor = disk.open(
        f"{parent}/{names.QUARANTINE_REQUEST}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    try:
        os.write(descriptor, f"{name}\n".encode())
    finally:
        disk.close(descriptor)


def is_pending(disk: Disk, log_directory: str) -> bool:
    """Whether a broker has not yet taken a request."""
    return disk.exists(f"{log_directory}/{names.QUARANTINE_REQUEST}")


def take_requests(disk: Disk, log_directory: str) -> list[tuple[PartitionDirectory, str]]:
    """The partitions that somebody has marked since the last call, each with the reason. Blocks.

    Raises ``OSError``.
    """
    path = f"{log_directory}/{names.QUARANTINE_REQUEST}"
    if not disk.exists(path):
        return []
    taken = f"{path}.taken"
    disk.rename(path, taken)
    try:
        content = disk.read_file(taken, _REQUEST_BYTES_MAX).decode(errors="replace")
    except ValueError:
        content = ""
    disk.remove(taken)
    found = []
    for name in dict.fromkeys(content.splitlines()):
        parsed = names.parse_directory_name(name)
        if parsed is None or parsed.suffix or "/" in name:
            continue
        try:
            mark = disk.read_file(f"{log_directory}/{name}/{names.QUARANTINE}", _MARK_BYTES_MAX)
        except (FileNotFoundError, ValueError):
            continue  # nobody has marked it, or it is gone
        found.append((parsed, mark.decode(errors="replace").strip()))
    return found

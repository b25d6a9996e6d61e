"""Taking a partition with damaged bytes out of service from outside the broker, and what was asked for.

The rules kept here (INVARIANTS 23):

- The mark is the file ``quarantined`` in the partition's directory, the one that recovery leaves: every later
  start leaves the partition out until somebody has looked after it.
- A broker that is running is told by a line in ``.quarantine-request`` of the log directory, after the mark
  is there. It takes the request away before it reads it, so that none is lost: who asks waits for that.
- Where none is running, its last stop does not speak for the partition any more, which may come from a backup when it
  is back.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ottla.log import names
from ottla.log.checkpoints import (
    decode_clean_shutdown,
    decode_not_closed,
    encode_clean_shutdown,
)
from ottla.log.disk import Disk
from ottla.log.names import PartitionDirectory

_REQUEST_BYTES_MAX = 1 << 20
_CLEAN_STOP_BYTES_MAX = 1 << 28
_MARK_BYTES_MAX = 1 << 16


def request_quarantine(disk: Disk, directory: str, reason: str) -> None:
    """Mark the partition in ``directory``, and leave a request for a broker that is running.

    Raises ``OSError``.
    """
    disk.replace_file(f"{directory}/{names.QUARANTINE}", f"{reason}\n".encode())
    parent, _, name = directory.rpartition("/")
    if disk.exists(f"{parent}/{names.CLEAN_SHUTDOWN}"):
        with suppress(BlockingIOError):  # a broker starts just now, and leaves the partition out
            lock = disk.lock(f"{parent}/{names.LOCK}")
            try:
                take_from_clean_stop(disk, parent, name)
            finally:
                disk.unlock(lock)
    descriptor = disk.open(
        f"{parent}/{names.QUARANTINE_REQUEST}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    try:
        os.write(descriptor, f"{name}\n".encode())
    finally:
        disk.close(descriptor)


def take_from_clean_stop(disk: Disk, log_directory: str, name: str) -> None:
    """Have the next start recover the log in the directory ``name``, though the last stop was clean.

    The log directory's lock is held. Raises ``OSError``.
    """
    path = f"{log_directory}/{names.CLEAN_SHUTDOWN}"
    try:
        content = disk.read_file(path, _CLEAN_STOP_BYTES_MAX)
    except FileNotFoundError:
        return
    not_closed = decode_not_closed(content)
    if not_closed is None:
        return  # it counts for nothing
    epoch = decode_clean_shutdown(content)
    left = encode_clean_shutdown(-1 if epoch is None else epoch, not_closed | {name})
    disk.replace_file(path, left)


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

"""A log directory as it lies there: who has it open, how it was left, what its small files say.

Read without changing or locking anything, so that it can be looked at beside a running broker.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    MetaProperties,
    decode_meta_properties,
    decode_not_closed,
    decode_offsets,
)
from ottla.log.disk import Disk, Holder
from ottla.log.names import PartitionDirectory
from ottla.log.verification.findings import DAMAGE, FAULT, Finding
from ottla.log.verification.segments import Standing

Offsets = dict[tuple[str, int], int]

_CHECKPOINT_BYTES_MAX = 1 << 28


class DirectoryState(NamedTuple):
    """What a log directory is found to be.

    ``holder``: who has it locked, None if nobody. ``partitions``: the partitions' directories by their
    names. ``offsets``: each checkpoint file's entries. ``findings``: small files that can't be read.
    ``not_closed``: the names of those that the clean stop does not speak for.
    """

    path: str
    standing: Standing
    holder: Holder | None
    meta: MetaProperties | None
    partitions: dict[str, PartitionDirectory]
    offsets: dict[str, Offsets]
    findings: tuple[Finding, ...]
    not_closed: frozenset[str] = frozenset()

    def standing_of(self, topic: str, partition: int) -> Standing:
        """How one of the logs was left: a clean stop may have had one out of service."""
        known = self.offset(names.RECOVERY_POINT_CHECKPOINT, topic, partition) is not None
        closed = known and names.directory_name(topic, partition) not in self.not_closed
        return Standing.UNCLEAN if self.standing is Standing.CLEAN and not closed else self.standing

    def offset(self, checkpoint: str, topic: str, partition: int) -> int | None:
        """What a checkpoint says of a partition."""
        return self.offsets.get(checkpoint, {}).get((topic, partition))


def looks_like_a_log_directory(path: str) -> bool:
    """Whether ``path`` is a broker's log directory, rather than a partition's or anything else."""
    marks = (names.META_PROPERTIES, names.LOCK, names.CLEAN_SHUTDOWN, *names.OFFSET_CHECKPOINTS)
    return any(os.path.exists(f"{path}/{name}") for name in marks)


def read_directory(path: str, disk: Disk | None = None) -> DirectoryState:
    """What lies in the log directory at ``path``. Raises ``OSError`` where it can't be read."""
    disk = disk if disk is not None else Disk()
    path = os.path.abspath(path)
    findings: list[Finding] = []
    partitions: dict[str, PartitionDirectory] = {}
    with os.scandir(path) as scan:
        for entry in scan:
            parsed = names.parse_directory_name(entry.name)
            if parsed is not None and entry.is_dir():
                partitions[entry.name] = parsed
    holder = disk.lock_holder(f"{path}/{names.LOCK}")
    not_closed = _read_not_closed(disk, path)
    if holder is not None:
        standing = Standing.RUNNING
    elif not_closed is not None or not partitions:
        standing = Standing.CLEAN
    else:
        standing = Standing.UNCLEAN
    return DirectoryState(
        path,
        standing,
        holder,
        _read_meta(disk, path, findings),
        dict(sorted(partitions.items())),
        {
            name: _read_offsets(disk, f"{path}/{name}", findings)
            for name in names.OFFSET_CHECKPOINTS
        },
        tuple(findings),
        not_closed or frozenset(),
    )


def _read_not_closed(disk: Disk, path: str) -> frozenset[str] | None:
    """What a clean stop has not closed; None where the stop was not clean."""
    try:
        content = disk.read_file(f"{path}/{names.CLEAN_SHUTDOWN}", _CHECKPOINT_BYTES_MAX)
    except (FileNotFoundError, ValueError):
        return None
    return decode_not_closed(content)


def _read_meta(disk: Disk, path: str, findings: list[Finding]) -> MetaProperties | None:
    file = f"{path}/{names.META_PROPERTIES}"
    try:
        return decode_meta_properties(disk.read_file(file, _CHECKPOINT_BYTES_MAX))
    except FileNotFoundError:
        return None
    except (CorruptCheckpoint, ValueError) as error:
        message = f"it can't be read, and no broker starts on the directory: {error}"
        findings.append(Finding(DAMAGE, "meta.properties", file, message))
        return None


def _read_offsets(disk: Disk, path: str, findings: list[Finding]) -> Offsets:
    try:
        return decode_offsets(disk.read_file(path, _CHECKPOINT_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except (CorruptCheckpoint, ValueError) as error:
        message = f"it can't be read and counts as empty: {error}"
        findings.append(Finding(FAULT, "checkpoint", path, message))
        return {}

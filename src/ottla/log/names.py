"""Kafka's file and directory names.

A partition's directory is ``<topic>-<partition>``; in it every segment has files named after its base
offset in 20 digits. A directory on its way out is ``<topic>-<partition>.<32 hex digits>-delete``.
Sources: ``LogFileUtils``, ``LocalLog``.
"""

from __future__ import annotations

from typing import NamedTuple

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
SNAPSHOT_SUFFIX = ".snapshot"
DELETED_SUFFIX = ".deleted"
CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"
SEGMENT_SUFFIXES = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)

LEADER_EPOCH_CHECKPOINT = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"
RECOVERY_POINT_CHECKPOINT = "recovery-point-offset-checkpoint"
LOG_START_CHECKPOINT = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT = "replication-offset-checkpoint"
CLEANER_CHECKPOINT = "cleaner-offset-checkpoint"
SHORT_CHECKPOINT = "short-offset-checkpoint"
"""Not Kafka's (which ignores it): up to where logs were synced that end before. See ``ottla.log.short_logs``."""

OFFSET_CHECKPOINTS = (
    RECOVERY_POINT_CHECKPOINT,
    LOG_START_CHECKPOINT,
    HIGH_WATERMARK_CHECKPOINT,
    CLEANER_CHECKPOINT,
    SHORT_CHECKPOINT,
)
META_PROPERTIES = "meta.properties"
LOCK = ".lock"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
QUARANTINE = "quarantined"
"""Not Kafka's (which ignores it): why the partition is not served. See ``ottla.log.recovery``."""

MOVED = "moved"
"""Not Kafka's (which ignores it): the partition has just come here. See ``ottla.log.future_log``."""

MOVING = "moving"
"""Not Kafka's either: the partition is about to leave. See ``ottla.log.future_log``."""

LAST_LIFE = "last-life"
SYNC_FAILED = "sync-failed"
"""Not Kafka's (which ignores it): a sync failed here. See ``ottla.log.distrust``."""
QUARANTINE_REQUEST = ".quarantine-request"
"""Not Kafka's: names of partition directories that a running broker is to take out of service."""

SALVAGED = "salvaged"
"""Not Kafka's: the offsets that ``ottla log salvage`` left out, a first and a last one on each line."""

DELETE_DIRECTORY_SUFFIX = "-delete"
FUTURE_DIRECTORY_SUFFIX = "-future"
STRAY_DIRECTORY_SUFFIX = "-stray"
_DIRECTORY_SUFFIXES = (DELETE_DIRECTORY_SUFFIX, FUTURE_DIRECTORY_SUFFIX, STRAY_DIRECTORY_SUFFIX)

_OFFSET_DIGITS = 20
DIRECTORY_NAME_MAX = 255
"""Bytes that a file system takes in a name."""


class PartitionDirectory(NamedTuple):
    """What the name of a partition's directory says."""

    topic: str
    partition: int
    suffix: str
    """``""``, or ``-delete``, ``-future`` or ``-stray``."""


def file_name(offset: int, suffix: str) -> str:
    """The name of a segment's file (or a snapshot): 20 digits and the suffix."""
    return f"{offset:020d}{suffix}"


def offset_of(name: str) -> int | None:
    """The offset that a file is named after; None if it is no file of a segment."""
    digits = name.partition(".")[0]
    if len(digits) != _OFFSET_DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits)


def directory_name(topic: str, partition: int) -> str:
    """The directory of a partition in its log directory."""
    return f"{topic}-{partition}"


def retired_directory_name(topic: str, partition: int, unique: str, suffix: str) -> str:
    """What a partition's directory is called once it is out of service: ``...-delete`` or ``...-stray``.

    ``unique``: 32 hex digits. The topic is cut so that the name fits a file system's 255 bytes.
    """
    ending = f"-{partition}.{unique}{suffix}"
    return topic[: DIRECTORY_NAME_MAX - len(ending)] + ending


def future_directory_name(topic: str, partition: int, unique: str = "0" * 32) -> str:
    """What the directory of a partition's copy is called while it is moved; may be too long to be one."""
    return f"{topic}-{partition}.{unique}{FUTURE_DIRECTORY_SUFFIX}"


def parse_directory_name(name: str) -> PartitionDirectory | None:
    """What ``name`` says; None if it is not the name of a partition's directory."""
    suffix = ""
    for ending in _DIRECTORY_SUFFIXES:
        if name.endswith(ending):
            stem, dot, unique = name[: -len(ending)].rpartition(".")
            if dot and unique and "-" in stem:
                name, suffix = stem, ending
            break
    topic, dash, digits = name.rpartition("-")
    if not dash or not topic or not digits.isascii() or not digits.isdigit():
        return None
    return PartitionDirectory(topic, int(digits), suffix)

"""What a cleaner is asked for, and what it answers: the words between the broker and its worker process.

Plain values, which JSON carries over the pipe. Sizes in bytes, times in milliseconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.log import names

if TYPE_CHECKING:
    from ottla.log.disk import Disk


class SourceSegment(NamedTuple):
    """A segment that is to be cleaned; ``end_offset`` is the next one's base offset."""

    base_offset: int
    size_bytes: int
    end_offset: int
    index_bytes: int
    time_index_bytes: int


class CleaningLimits(NamedTuple):
    """What one cleaning may take: ``log.cleaner.*``, divided by the number of threads."""

    dedupe_bytes: int
    load_factor: float
    io_bytes: int
    bytes_per_second: float


class CleaningJob(NamedTuple):
    """One cleaning of one log.

    ``segments`` are all below ``end_offset``, the first offset that may not be cleaned; what lies below
    ``first_dirty_offset`` has one record a key. ``settings`` are the topic's, as text. ``producers``: the last
    data offset (-1 for none) and the epoch of each active producer. ``token`` is part of the names of the
    files that are written, so that nobody takes another cleaning's for this one's.
    """

    directory: str
    token: str
    segments: list[SourceSegment]
    first_dirty_offset: int
    end_offset: int
    settings: dict[str, str]
    producers: dict[int, tuple[int, int]]
    limits: CleaningLimits
    now_ms: int

    def to_json(self) -> dict[str, Any]:
        """For ``json.dumps``."""
        return self._asdict()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> CleaningJob:
        """What ``to_json`` gave, after JSON."""
        return cls(
            **{
                **fields,
                "segments": [SourceSegment(*one) for one in fields["segments"]],
                "producers": {int(key): tuple(one) for key, one in fields["producers"].items()},
                "limits": CleaningLimits(*fields["limits"]),
            }
        )


class CleanedGroup(NamedTuple):
    """A cleaned segment that is to take the place of old ones, its files written and synced.

    ``replaced`` are the old ones' base offsets; ``suffixes`` the suffixes of the files there are;
    ``changed`` is False where nothing was taken away: then there is no file.
    """

    token: str
    base_offset: int
    replaced: list[int]
    changed: bool
    size_bytes: int
    index_bytes: int
    time_index_bytes: int
    suffixes: list[str]


class CleaningCounts(NamedTuple):
    """What a cleaning has read and written; ``keyless`` records were dropped for having no key."""

    bytes_read: int = 0
    bytes_written: int = 0
    records_read: int = 0
    records_kept: int = 0
    keyless: int = 0
    map_utilization: float = 0.0


class CleaningDone(NamedTuple):
    """All groups were told of. The log is clean below ``clean_end_offset`` once they are swapped in."""

    clean_end_offset: int
    counts: CleaningCounts


RATE = "bytes_per_second"
"""What an order for another rate is called."""

CORRUPT = "corrupt"
"""A batch's checksum or header is wrong: the partition has to be quarantined."""
UNCLEANABLE = "uncleanable"
"""This log can't be cleaned as it is: it is left alone until the broker starts again."""
DISK = "disk"
"""The disk said no; ``errno`` says what."""
GONE = "gone"
"""A segment is not there any more: the log was deleted or cut meanwhile."""


class CleaningFailed(Exception):
    """A cleaning ended early: ``kind`` is one of the four above; ``errno`` is the disk's, or 0."""

    def __init__(self, kind: str, reason: str, errno: int = 0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.errno = errno


def cleaned_path(directory: str, base_offset: int, suffix: str, token: str) -> str:
    """Where the file of a cleaned segment lies until it is swapped in."""
    name = names.file_name(base_offset, suffix)
    return f"{directory}/{name}.{token}{names.CLEANED_SUFFIX}"


def cleaned_files(disk: Disk, directory: str, token: str) -> list[str]:
    """The paths of what a cleaning has written, and what is in no place yet. Raises ``OSError``."""
    ending = f".{token}{names.CLEANED_SUFFIX}"
    found = [entry.name for entry in disk.entries(directory)]
    return [f"{directory}/{name}" for name in found if name.endswith(ending)]

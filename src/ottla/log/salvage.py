"""Keeping what is whole of a damaged partition: ``ottla log salvage``.

The rules kept here:

- The broker is stopped: the log directory's lock is held meanwhile.
- Every whole batch that is in order stays, at its offset. What is damaged is left out, so that its offsets
  are missing, as in a compacted log; no offset is ever given to another record, since the log goes on behind
  everything that was on the disk once.
- A segment that is rewritten stays beside the new one as ``....log.damaged``, which no broker reads. Each is
  put in place in one rename, and the quarantine's mark is taken away last: a crash in between leaves a
  quarantined partition, to be salvaged again.
- A compaction that was about to put segments in place comes first, as at a start; where its segment is damaged
  it is one more damaged segment, or, where those are still there that it was to replace, set aside.
- The directory's last stop does not speak for what is left: the log is recovered when it is loaded.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    decode_offsets,
    encode_offsets,
)
from ottla.log.disk import Disk
from ottla.log.files import CREATE_FLAGS, FILE_MODE
from ottla.log.leftovers import finish_leftovers
from ottla.log.quarantine import take_from_clean_stop
from ottla.log.rules import LogRules
from ottla.log.verification.walk import CHUNK_BYTES, Broken, walk
from ottla.settings.definitions import TopicConfig

DAMAGED_SUFFIX = ".damaged"
_NEW_SUFFIX = ".salvaged"
_CHECKPOINT_BYTES_MAX = 1 << 28
_OFFSET = re.compile("[0-9]{1,19}")


class Salvaged(NamedTuple):
    """What became of a partition. ``kept`` are the paths of the damaged segments' old files.

    ``lost`` lists the ranges of offsets that are missing now, ends included.
    """

    batches: int
    segments_rewritten: int
    lost: tuple[tuple[int, int], ...]
    kept: tuple[str, ...]
    end_offset: int


def salvage(disk: Disk, directory: str) -> Salvaged:
    """Rewrite the damaged segments of the partition in ``directory`` without what is damaged.

    Raises ``BlockingIOError`` where a broker has the log directory open, and ``OSError``.
    """
    parent, _, name = directory.rpartition("/")
    parsed = names.parse_directory_name(name)
    if parsed is None:
        raise ValueError(f"{directory} is not named after a partition")
    lock = disk.lock(f"{parent}/{names.LOCK}")
    try:
        return _Salvage(disk, directory, parent, (parsed.topic, parsed.partition)).run()
    finally:
        disk.unlock(lock)


def read_lost(disk: Disk, directory: str) -> list[tuple[int, int]]:
    """What an earlier salvage has left out of the partition in ``directory``. Raises ``OSError``."""
    try:
        content = disk.read_file(f"{directory}/{names.SALVAGED}", _CHECKPOINT_BYTES_MAX)
    except (FileNotFoundError, ValueError):
        return []
    lost = []
    for line in content.decode(errors="replace").splitlines():
        first, _, last = line.partition(" ")
        if _OFFSET.fullmatch(first) and _OFFSET.fullmatch(last):
            lost.append((int(first), int(last)))
    return lost


class _Salvage:
    def __init__(self, disk: Disk, directory: str, parent: str, key: tuple[str, int]) -> None:
        self._disk = disk
        self._directory = directory
        self._parent = parent
        self._key = key
        self._next_offset = 0
        self._batches = 0
        self._lost: list[tuple[int, int]] = []
        self._rewritten: list[int] = []

    def run(self) -> Salvaged:
        self._settle_swaps()
        files = [entry.name for entry in self._disk.entries(self._directory)]
        bases = sorted(
            offset
            for name in files
            if name.endswith(names.LOG_SUFFIX) and (offset := names.offset_of(name)) is not None
        )
        self._next_offset = bases[0] if bases else 0
        for number, base in enumerate(bases):
            following = bases[number + 1] if number + 1 < len(bases) else None
            self._segment(base, following)
        self._end_behind_everything(bases)
        if self._rewritten:
            self._forget_snapshots(files, self._rewritten[0])
        self._note_lost()
        self._move_recovery_point()
        # Its producers, too, are told by the batches that are left.
        take_from_clean_stop(self._disk, self._parent, names.directory_name(*self._key))
        self._disk.remove(f"{self._directory}/{names.QUARANTINE}")
        self._disk.sync_directory(self._directory)
        kept = [self._path(base, names.LOG_SUFFIX + DAMAGED_SUFFIX) for base in self._rewritten]
        return Salvaged(self._batches, len(kept), tuple(self._lost), tuple(kept), self._next_offset)

    def _settle_swaps(self) -> None:
        """A start would let them replace what is salvaged now."""
        disk = self._disk
        sizes = {entry.name: entry.size_bytes for entry in disk.entries(self._directory)}
        swaps = [
            f"{self._directory}/{name}"
            for name in sizes
            if name.endswith(names.LOG_SUFFIX + names.SWAP_SUFFIX)
        ]
        if all(self._is_whole(path) for path in swaps):
            finish_leftovers(disk, self._directory, sizes, LogRules(TopicConfig.of()), 0)
            return
        for path in swaps:
            place = path.removesuffix(names.SWAP_SUFFIX)
            disk.rename(path, path + DAMAGED_SUFFIX if disk.exists(place) else place)
        disk.sync_directory(self._directory)

    def _is_whole(self, path: str) -> bool:
        descriptor = self._disk.open(path, os.O_RDONLY)
        try:
            size = self._disk.size_of(descriptor)
            found = walk(self._disk, descriptor, size)
            return all(not isinstance(one, Broken) and one.intact for one in found)
        finally:
            self._disk.close(descriptor)

    def _path(self, base: int, suffix: str) -> str:
        return f"{self._directory}/{names.file_name(base, suffix)}"

    def _segment(self, base: int, following: int | None) -> None:
        path = self._path(base, names.LOG_SUFFIX)
        self._miss(base, following=True)
        descriptor = self._disk.open(path, os.O_RDONLY)
        try:
            size = self._disk.size_of(descriptor)
            whole = self._whole_ranges(descriptor, size, following)
            if whole != [(0, size)] and size:
                self._rewrite(descriptor, base, whole)
        finally:
            self._disk.close(descriptor)

    def _miss(self, offset: int, *, following: bool = False) -> None:
        """The next batch begins at ``offset``: what lies before it is lost."""
        if offset > self._next_offset:
            self._lost.append((self._next_offset, offset - 1))
            if following:
                self._next_offset = offset

    def _whole_ranges(
        self, descriptor: int, size: int, limit_offset: int | None
    ) -> list[tuple[int, int]]:
        """Where in the file whole batches in order lie: start and end of each run of them."""
        ranges: list[tuple[int, int]] = []
        for found in walk(self._disk, descriptor, size):
            if isinstance(found, Broken):
                break
            header = found.header
            fits = limit_offset is None or header.last_offset < limit_offset
            ordered = header.last_offset_delta >= 0 and header.base_offset >= self._next_offset
            if not (found.intact and ordered and fits):
                continue
            self._miss(header.base_offset)
            self._next_offset = header.next_offset
            self._batches += 1
            end = found.position + header.size_bytes
            if ranges and ranges[-1][1] == found.position:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((found.position, end))
        return ranges

    def _rewrite(self, descriptor: int, base: int, ranges: list[tuple[int, int]]) -> None:
        disk, path = self._disk, self._path(base, names.LOG_SUFFIX)
        written = 0
        new = disk.open(path + _NEW_SUFFIX, CREATE_FLAGS, FILE_MODE)
        try:
            for start, end in ranges:
                while start < end:
                    piece = disk.read_fully(descriptor, min(CHUNK_BYTES, end - start), start)
                    disk.write_fully(new, piece, written)
                    start += len(piece)
                    written += len(piece)
            disk.fsync(new)
        finally:
            disk.close(new)
        if not disk.exists(path + DAMAGED_SUFFIX):  # from an attempt before: that is the first one
            os.link(path, path + DAMAGED_SUFFIX)
        disk.rename(path + _NEW_SUFFIX, path)
        for suffix in (names.INDEX_SUFFIX, names.TIME_INDEX_SUFFIX):
            disk.remove(self._path(base, suffix))
        self._rewritten.append(base)

    def _end_behind_everything(self, bases: list[int]) -> None:
        """Where the log's end is lost, go on behind it with a new segment: no offset is given twice."""
        end = max(
            self._checkpoint(names.RECOVERY_POINT_CHECKPOINT).get(self._key, 0),
            self._checkpoint(names.HIGH_WATERMARK_CHECKPOINT).get(self._key, 0),
        )
        if end <= self._next_offset or not bases:
            return
        self._lost.append((self._next_offset, end - 1))
        self._next_offset = end
        for suffix in (names.LOG_SUFFIX, names.INDEX_SUFFIX):
            self._disk.write_file(self._path(end, suffix), b"", sync=True)

    def _forget_snapshots(self, files: list[str], first_rewritten: int) -> None:
        for name in files:
            offset = names.offset_of(name)
            if (
                offset is not None
                and name.endswith(names.SNAPSHOT_SUFFIX)
                and offset > first_rewritten
            ):
                self._disk.remove(f"{self._directory}/{name}")

    def _note_lost(self) -> None:
        """So that ``ottla log verify`` does not take the gaps for another damage."""
        path = f"{self._directory}/{names.SALVAGED}"
        known = list(read_lost(self._disk, self._directory))
        lost = dict.fromkeys([*known, *self._lost])
        if lost:
            content = "".join(f"{first} {last}\n" for first, last in lost)
            self._disk.replace_file(path, content.encode())
        self._disk.sync_directory(self._directory)

    def _checkpoint(self, name: str) -> dict[tuple[str, int], int]:
        try:
            content = self._disk.read_file(f"{self._parent}/{name}", _CHECKPOINT_BYTES_MAX)
            return decode_offsets(content)
        except (FileNotFoundError, CorruptCheckpoint, ValueError):
            return {}

    def _move_recovery_point(self) -> None:
        """All is synced now; and a gap below the recovery point is taken for one, not for a tear."""
        points = self._checkpoint(names.RECOVERY_POINT_CHECKPOINT)
        points[self._key] = self._next_offset
        path = f"{self._parent}/{names.RECOVERY_POINT_CHECKPOINT}"
        self._disk.replace_file(path, encode_offsets(points))

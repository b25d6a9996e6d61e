"""A log on its way into another log directory: its copy, in ``<topic>-<partition>.<32 hex digits>-future``.

The way (KIP-113, ``ReplicaAlterLogDirsThread``; ours where a crash would leave Kafka with one partition in two
directories):

1. The current log is rolled, and its closed segments are copied with their indexes and snapshots, until what
   came in meanwhile is little. The copied batches are checked (``copy_check``). Everything is synced. The current log takes appends all the while.
2. The copy becomes a ``Log`` (``open_log``), takes over the records behind the last roll (``catch_up``), and is
   synced again.
3. A file named ``moving`` is put into the current log's directory and one named ``moved`` into the copy's, which then
   gets the partition's name; all is synced (``publish``). From here on a crash finds two directories: the longer log
   is the right one, the one with ``moved`` where they are equal. Each file names the other directory, so that neither
   is taken for the log while the other one is in a log directory that is offline. The current log goes on until
   that is done.
4. The copy takes over the last records, the epochs and the producers, and is the log from then on (``take_over``).
5. It is synced, the checkpoints of its directory are written; then the old directory goes, and the file last.

Each method says where it runs: on the loop, which owns both logs, or off it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoints import encode_partition_metadata
from ottla.log.copy_check import CopyCheck, SourceDamaged, SourceFailed
from ottla.log.directory import LogDirectory
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.loading import LoadedLog
from ottla.log.log import Log
from ottla.log.recovery import rebuild_producers
from ottla.log.rules import LogRules
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.records.batch import CorruptBatch
from ottla.topic_ids import ZERO_ID

CHUNK_BYTES = 4 << 20
"""Bytes copied in one call off the loop."""
CATCH_UP_BYTES = 256 << 10
"""Bytes taken over in one turn of the loop."""
LITTLE_BYTES = 4 << 20
"""A round that had no more to copy was the last one."""

_SEGMENT_FILES = (
    names.INDEX_SUFFIX,
    names.TIME_INDEX_SUFFIX,
    names.TRANSACTION_INDEX_SUFFIX,
    names.SNAPSHOT_SUFFIX,
)


class Copied(NamedTuple):
    """A closed segment that is to be copied: its offsets, and the size of its ``.log``."""

    base_offset: int
    end_offset: int
    size_bytes: int


class FutureLog:
    """The copy of ``current`` in ``directory``.

    ``size_bytes`` and ``end_offset`` tell how far it is; ``log`` is the copy as a log once there is one.
    """

    def __init__(self, current: Log, directory: LogDirectory, unique: str) -> None:
        """``unique``: 32 hex digits. Nothing is touched before ``create``."""
        self.current = current
        self.directory = directory
        self.disk = directory.disk
        name = names.future_directory_name(current.topic, current.partition, unique)
        self.path = f"{directory.path}/{name}"
        self.log: Log | None = None
        self.size_bytes = 0
        self.end_offset = current.log_start_offset
        self.is_published = False
        self.is_taken_over = False
        self._unique = unique
        self._generation = current.generation
        self._rolled_at = current.log_end_offset
        self._copied: list[Copied] = []

    @property
    def is_stale(self) -> bool:
        """Whether the current log was cut meanwhile: what was copied may be wrong."""
        return self.current.generation != self._generation

    # 1. The closed segments

    def create(self) -> None:
        """Make the directory. Off the loop; raises ``OSError``.

        The current log is on the disk by now: a copy without it is never taken for a partition's log. If it
        was moved itself, and a crash has left its mark, that goes: only one of two may have one.
        """
        removed = [
            self.disk.remove(f"{self.current.directory}/{name}")
            for name in (names.MOVED, names.MOVING)
        ]
        if any(removed):
            self.disk.sync_directory(self.current.directory)
        self.disk.mkdir(self.path)
        if self.current.topic_id != ZERO_ID:
            metadata = encode_partition_metadata(self.current.topic_id)
            path = f"{self.path}/{names.PARTITION_METADATA}"
            self.disk.write_file(path, metadata, sync=True)
        self.disk.sync_directory(self.directory.path)

    def next_round(self, now_ms: int) -> list[Copied]:
        """Close the active segment; returns what is to be copied now. On the loop; raises ``KafkaError``."""
        current = self.current
        self._rolled_at = current.log_end_offset
        current.settle_swap()
        current.roll(now_ms)
        known = {one.base_offset for one in self._copied}
        segments = list(current.segments)
        return [
            Copied(one.base_offset, following.base_offset, one.size_bytes)
            for one, following in pairwise(segments)
            if one.base_offset not in known
        ]

    def copy(self, segment: Copied) -> Generator[Callable[[], int], None, None]:
        """The steps of copying one segment, and of checking the copy: each copies so many bytes, off the loop.

        A segment that retention takes away meanwhile is left out. They raise ``SourceFailed``, ``OSError``, and
        what ``CopyCheck.step`` raises.
        """
        path = f"/{names.file_name(segment.base_offset, names.LOG_SUFFIX)}"
        file = _FileCopy(self.current.directory + path, self.path + path, self, segment.size_bytes)
        try:
            while not file.done:
                yield file.step
            if not file.missing:
                yield lambda: self._copy_small_files(segment)
        finally:
            file.close()
        if file.missing:
            return
        check = CopyCheck(
            self.disk,
            self.current.directory + path,
            self.path + path,
            segment.base_offset,
            segment.end_offset,
            CHUNK_BYTES,
        )
        try:
            while not check.done:
                yield check.step
        finally:
            check.close()
        self._copied.append(segment)
        self.end_offset = segment.end_offset

    def _copy_small_files(self, segment: Copied) -> int:
        copied = 0
        for suffix in _SEGMENT_FILES:
            path = f"/{names.file_name(segment.base_offset, suffix)}"
            file = _FileCopy(self.current.directory + path, self.path + path, self, None)
            try:
                while not file.done:
                    copied += file.step()
            finally:
                file.close()
        return copied

    # 2. The copy as a log

    def open_log(self, now_ms: int) -> None:
        """Make the copy a log, empty behind the last roll. Off the loop; raises ``OSError``, ``KafkaError``.

        It knows the producers from here on: what it rolls while it catches up leaves snapshots, and a start
        after a crash believes them.
        """
        current = self.current
        end_offset = self._rolled_at
        rules = LogRules(current.config)
        segments = []
        for one in self._copied:
            if one.end_offset <= current.log_start_offset:
                self._forget(one)
            else:
                segments.append(self._segment(one, rules, now_ms))
        active = Segment(self.disk, self.path, end_offset, rules, now_ms)
        active.create()
        self._copy_snapshot(end_offset)
        self.disk.sync_directory(self.path)
        whole = Segments([*segments, active])
        log_start_offset = min(current.log_start_offset, end_offset)
        producers = rebuild_producers(self.disk, self.path, whole, log_start_offset, end_offset)
        loaded = LoadedLog(
            topic=current.topic,
            partition=current.partition,
            topic_id=current.topic_id,
            rules=rules,
            segments=whole,
            epochs=LeaderEpochs(list(current.epochs.entries)),
            producers=producers,
            log_start_offset=log_start_offset,
            log_end_offset=end_offset,
            flushed_end_offset=end_offset,
        )
        directory = self.directory
        self.log = Log(
            self.disk,
            self.path,
            current.config,
            loaded,
            now_ms,
            health=directory.health,
            trash=directory.trash,
        )

    def _forget(self, segment: Copied) -> None:
        for suffix in (names.LOG_SUFFIX, *_SEGMENT_FILES):
            self.disk.remove(f"{self.path}/{names.file_name(segment.base_offset, suffix)}")

    def _segment(self, one: Copied, rules: LogRules, now_ms: int) -> Segment:
        sizes = [
            self._size_of(names.file_name(one.base_offset, suffix))
            for suffix in (names.INDEX_SUFFIX, names.TIME_INDEX_SUFFIX)
        ]
        return Segment(
            self.disk,
            self.path,
            one.base_offset,
            rules,
            now_ms,
            size_bytes=one.size_bytes,
            index_bytes=sizes[0],
            time_index_bytes=sizes[1],
        )

    def _size_of(self, name: str) -> int | None:
        path = f"{self.path}/{name}"
        if not self.disk.exists(path):
            return None
        descriptor = self.disk.open(path, os.O_RDONLY)
        try:
            return self.disk.size_of(descriptor)
        finally:
            self.disk.close(descriptor)

    def _copy_snapshot(self, offset: int) -> None:
        """The producers as of the last roll, so that a recovery need not read all of the log."""
        path = f"/{names.file_name(offset, names.SNAPSHOT_SUFFIX)}"
        file = _FileCopy(self.current.directory + path, self.path + path, self, None)
        try:
            while not file.done:
                file.step()
        finally:
            file.close()

    def catch_up(self, now_ms: int) -> bool:
        """Take over some of the records that are missing; whether none is left. On the loop.

        Raises ``KafkaError``: the source's or the destination's, whose health tells; ``SourceDamaged``.
        """
        log, current = self.log, self.current
        assert log is not None
        if log.log_end_offset < current.log_start_offset:
            log.truncate_fully_and_start_at(current.log_start_offset, now_ms)
        if log.log_end_offset < current.log_end_offset:
            found = current.read(
                log.log_end_offset, CATCH_UP_BYTES, current.log_end_offset, at_least_one=True
            )
            try:
                data = b"".join(region.read() for region in found.regions)
            except OSError as error:
                what = f"read of {current.directory} failed"
                raise current.health.failed_operation(what, error) from error
            finally:
                for region in found.regions:
                    region.close()
            try:
                taken = log.append_as_follower(data, now_ms)
            except CorruptBatch as error:
                raise SourceDamaged(f"{current.directory} is damaged: {error}") from error
            if taken is None:
                raise KafkaError(
                    ErrorCode.UNKNOWN_SERVER_ERROR, f"nothing to take over from {current!r}"
                )
        self.end_offset = log.log_end_offset
        self.size_bytes = log.size_bytes
        return log.log_end_offset >= current.log_end_offset

    # 3. The name

    def close_files(self) -> None:
        """Have no file of the copy open: where Windows is, its directory could get no other name. On the loop."""
        if self.log is not None:
            for segment in self.log.segments:
                segment.close()

    def publish(self) -> None:
        """Give the copy the partition's name, durably. Off the loop; raises ``OSError``."""
        path = f"{self.directory.path}/{names.directory_name(self.current.topic, self.current.partition)}"
        if self.disk.exists(path):
            raise FileExistsError(f"{path} exists")
        try:
            self._mark(self.current.directory, names.MOVING, path)
        except OSError as error:
            raise SourceFailed.of(error) from error
        self._mark(self.path, names.MOVED, self.current.directory)
        self.disk.rename(self.path, path)
        self.is_published = True
        self.path = path
        self.disk.sync_directory(self.directory.path)

    def _mark(self, directory: str, name: str, other: str) -> None:
        self.disk.write_file(f"{directory}/{name}", f"{other}\n".encode(), sync=True)
        self.disk.sync_directory(directory)

    # 4. The change

    def take_over(self, now_ms: int) -> Log:
        """Be the log from now on; the old one takes no operation any more. On the loop, in one turn.

        Raises ``KafkaError``: then the old one is the log still, and the longer one.
        """
        log, current = self.log, self.current
        assert log is not None
        assert self.is_published
        current.check_usable()  # it may have been found damaged, or its directory has failed
        while not self.catch_up(now_ms):
            continue
        log.follow(current)
        current.give_up(f"has moved to {self.path}")
        self.is_taken_over = True
        return log

    # 5. The rest

    def remove_mark(self) -> None:
        """The old directory is gone: nobody need ask any more which is the right one. Off the loop."""
        path = f"{self.path}/{names.MOVED}"
        self.disk.remove(path)
        self.disk.sync_directory(self.path)

    def discard(self) -> str | None:
        """Give the copy up; returns the path to be removed later, None if there is none. Off the loop.

        Where the current log cannot be read any more, the copy stays, as one that is not complete: it may be
        the best that is left. Raises ``OSError``.
        """
        assert not self.is_taken_over
        self.close_files()
        if not self.disk.exists(self.path):
            return None
        keep = self.current.health.failure is not None
        suffix = names.FUTURE_DIRECTORY_SUFFIX if keep else names.DELETE_DIRECTORY_SUFFIX
        name = names.retired_directory_name(
            self.current.topic, self.current.partition, self._unique, suffix
        )
        path = f"{self.directory.path}/{name}"
        if path != self.path:
            self.disk.rename(self.path, path)
            self.path = path
            self.disk.sync_directory(self.directory.path)
        if not keep:
            self.disk.remove(f"{self.current.directory}/{names.MOVING}")
        return None if keep else self.path


class _FileCopy:
    """One file being copied, to its size as told, or as found; synced at its end."""

    def __init__(self, source: str, target: str, future: FutureLog, size: int | None) -> None:
        self._source, self._target = source, target
        self._future = future
        self._size = size
        self._position = 0
        self._descriptors: tuple[int, int] | None = None
        self.done = False
        self.missing = False

    def step(self) -> int:
        """Copy a chunk; returns its bytes. Off the loop."""
        disk = self._future.disk
        if self._descriptors is None and not self._open():
            self.done = self.missing = True
            return 0
        assert self._descriptors is not None
        assert self._size is not None
        source, target = self._descriptors
        wanted = min(CHUNK_BYTES, self._size - self._position)
        copied = self._copy(source, target, wanted) if wanted else 0
        self._position += copied
        self._future.size_bytes += copied
        if self._position >= self._size:
            disk.fdatasync(target)
            self.done = True
        elif not copied:
            raise SourceFailed(f"{self._source} ends before it should")
        return copied

    def _open(self) -> bool:
        disk = self._future.disk
        try:
            source = disk.open(self._source, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SourceFailed.of(error) from error
        try:
            if self._size is None:
                self._size = disk.size_of(source)
            target = disk.open(self._target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError:
            disk.close(source)
            raise
        self._descriptors = source, target
        return True

    def _copy(self, source: int, target: int, size: int) -> int:
        disk = self._future.disk
        copied = disk.copy_in_kernel(source, target, self._position, size)
        if copied is not None:
            return copied
        try:
            data = disk.read_fully(source, size, self._position)
        except OSError as error:
            raise SourceFailed.of(error) from error
        disk.write_fully(target, data, self._position)
        return len(data)

    def close(self) -> None:
        """Close both files."""
        if self._descriptors is not None:
            for descriptor in self._descriptors:
                self._future.disk.close(descriptor)
            self._descriptors = None

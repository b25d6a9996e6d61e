"""The files of one partition: segments rolled, flushed, retired, cut and closed.

What ``Log`` builds on. The rules kept here:

- Nothing waits for the disk to sync: ``begin_flush`` says what a sync has to cover, others run it,
  ``complete_flush`` moves ``flushed_end_offset``. A cut between the two makes the flush count for nothing.
- A roll, a cut or a removal that lacks room leaves the log as it was.
- ``log_start_offset`` never goes back but where the log is cut below it (``truncate_*``).

Sources: ``LocalLog``, ``UnifiedLog``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoints import encode_epochs, encode_partition_metadata
from ottla.log.disk import Disk
from ottla.log.flush import Flush
from ottla.log.health import DirectoryHealth
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.loading import LoadedLog, mark_quarantined
from ottla.log.recovery import rebuild_producers
from ottla.log.retention import RetentionLimits, SegmentFacts, deletable
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.log.snapshots import take_snapshot
from ottla.log.sparse_index import CorruptIndex
from ottla.log.trash import Trash
from ottla.logs import logger
from ottla.records.batch import CorruptBatch, UnsupportedMagic
from ottla.settings.definitions import TopicConfig
from ottla.topic_ids import ZERO_ID

log = logger(__name__)


class LocalLog:
    """The state of a log and all that moves whole segments. See ``Log``, which appends and reads."""

    __slots__ = (
        "_disk",
        "_epochs",
        "_generation",
        "_names_changed",
        "_new_directory",
        "_segments",
        "_trash",
        "_unsynced_paths",
        "_unsynced_segments",
        "_unusable",
        "config",
        "directory",
        "flushed_end_offset",
        "flushed_ms",
        "flushing",
        "health",
        "is_on_disk",
        "log_end_offset",
        "log_start_offset",
        "on_flush_wanted",
        "on_flushed",
        "partition",
        "producers",
        "rules",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        disk: Disk,
        directory: str,
        config: TopicConfig,
        loaded: LoadedLog,
        now_ms: int,
        *,
        health: DirectoryHealth | None = None,
        trash: Trash | None = None,
    ) -> None:
        """The log of what was ``loaded`` from ``directory``."""
        self._disk = disk
        self.directory = directory
        self.topic = loaded.topic
        self.partition = loaded.partition
        self.topic_id = loaded.topic_id
        self.config = config
        self.rules = loaded.rules
        self.health = health or DirectoryHealth(directory.rpartition("/")[0])
        self._trash = trash if trash is not None else Trash(disk)
        self._segments: Segments = loaded.segments
        self._epochs: LeaderEpochs = loaded.epochs
        self.producers = loaded.producers
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = loaded.log_end_offset
        self.flushed_end_offset = loaded.flushed_end_offset
        self.flushed_ms = now_ms
        self.flushing = 0
        """The flusher's note of how far this log's flush is."""
        self.on_flushed: Callable[[Any], None] | None = None
        self.on_flush_wanted: Callable[[Any], None] | None = None
        self.is_on_disk = True
        """False while a new partition has no directory yet: see ``Log.create``."""
        self._unusable: str | None = None
        self._generation = 0
        self._unsynced_segments: list[Segment] = list(loaded.unsynced)
        self._unsynced_paths: list[str] = list(loaded.unsynced_paths)
        self._names_changed = self._new_directory = bool(loaded.unsynced)
        self._throw_away(loaded.retired, now_ms)

    # What it is

    @property
    def size_bytes(self) -> int:
        """The size of its batches in bytes."""
        return self._segments.size_bytes

    @property
    def segments(self) -> Segments:
        """The segments, oldest first. For reading only."""
        return self._segments

    @property
    def epochs(self) -> LeaderEpochs:
        """The leader epochs. For reading only."""
        return self._epochs

    @property
    def latest_epoch(self) -> int:
        """The leader epoch of the newest batch (or of a leadership that began since); -1 if none."""
        return self._epochs.latest

    @property
    def recovery_point(self) -> int:
        """From where on a recovery has to look at the batches: what is checkpointed.

        The durable end, or the base offset of a segment before it whose files are not all synced (it was
        rolled, and its indexes are new; or it was cut, and the old bytes may come back).
        """
        bases = [segment.base_offset for segment in self._unsynced_segments]
        return min(self.flushed_end_offset, *bases) if bases else self.flushed_end_offset

    @property
    def generation(self) -> int:
        """Changes whenever the log's end is cut."""
        return self._generation

    @property
    def unusable(self) -> str | None:
        """Why the log takes no operation any more (closed, deleted, corrupt); None while it does."""
        return self._unusable

    def assign_topic_id(self, topic_id: bytes) -> None:
        """Learn the topic's id, and keep it in partition.metadata.

        Raises ``KafkaError``: INCONSISTENT_TOPIC_ID if the files belong to another topic of this name,
        KAFKA_STORAGE_ERROR.
        """
        if self.topic_id == topic_id:
            return
        if self.topic_id != ZERO_ID:
            raise KafkaError(
                ErrorCode.INCONSISTENT_TOPIC_ID,
                f"{self.directory} belongs to another topic named {self.topic}",
            )
        self.check_usable()
        try:
            if self.is_on_disk:
                self._write_metadata(topic_id)
        except OSError as error:
            what = f"partition.metadata of {self.directory} not written"
            raise self.health.failed_operation(what, error) from error
        self.topic_id = topic_id

    def _write_metadata(self, topic_id: bytes) -> None:
        path = f"{self.directory}/{names.PARTITION_METADATA}"
        self._disk.write_file(path, encode_partition_metadata(topic_id))
        self._unsynced_paths.append(path)
        self._names_changed = True

    def make_directory(self) -> None:
        """Make what ``Log.create`` has put off. Raises ``KafkaError``, and may be called again."""
        self.check_usable()
        active = self._segments.active
        try:
            self._disk.mkdir(self.directory)
            try:
                if self.topic_id != ZERO_ID:
                    self._write_metadata(self.topic_id)
                active.create()
            except OSError:
                self._unsynced_paths.clear()
                self._disk.remove_tree(self.directory)
                raise
        except OSError as error:
            what = f"{self.directory} could not be made"
            raise self.health.failed_operation(what, error) from error
        self.is_on_disk = self._names_changed = self._new_directory = True

    def update_config(self, config: TopicConfig) -> None:
        """Use other settings from now on."""
        self.config = config
        self.rules.apply(config)

    def check_usable(self) -> None:
        """Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) if the log must not be used (any more)."""
        if self._unusable is not None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.directory} {self._unusable}")
        self.health.check()

    def begin_epoch(self, leader_epoch: int) -> None:
        """This replica leads from now on: its epoch starts at the log's end, records or not."""
        self._epochs.assign(leader_epoch, self.log_end_offset)

    def quarantine(self, reason: str) -> KafkaError:
        """The log was found corrupt: none of its bytes are served again. Returns the error to raise.

        A file in the directory says so to the next start; whoever has looked after it removes that.
        """
        if self._unusable is None:
            self._unusable = f"is quarantined: {reason}"
            mark_quarantined(self._disk, self.directory, reason)
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.directory} {self._unusable}")

    # Rolling and flushing

    def roll(self, now_ms: int, base_offset: int | None = None) -> Segment:
        """Start a new segment at the log's end (or at ``base_offset``, if that is further).

        Its name, and the old segment with its indexes, become durable with the next flush, which is
        asked for. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR), and then goes on with the old segment.
        """
        self.check_usable()
        new_offset = max(base_offset or 0, self.log_end_offset)
        old = self._segments.active
        if old.base_offset == new_offset:
            return old  # it is empty
        segment = Segment(self._disk, self.directory, new_offset, self.rules, now_ms)
        try:
            old.end_appends()
            segment.create()
        except OSError as error:
            what = f"new segment of {self.directory} could not be made"
            raise self.health.failed_operation(what, error) from error
        self.producers.end_offset = new_offset
        snapshot = take_snapshot(self._disk, self.directory, self.producers)
        if snapshot is not None:
            self._unsynced_paths.append(snapshot)
        self._note_unsynced(old)
        self._segments.add(segment)
        self._names_changed = True
        log.debug("segment rolled", directory=self.directory, base_offset=new_offset)
        self.want_flush()
        return segment

    def want_flush(self) -> None:
        """Ask whoever flushes for a flush."""
        if self.on_flush_wanted is not None:
            self.on_flush_wanted(self)

    @property
    def is_dirty(self) -> bool:
        """Whether a flush would have anything to do."""
        return self.is_on_disk and (
            self.log_end_offset > self.flushed_end_offset
            or self._names_changed
            or self._epochs.changed
            or bool(self._unsynced_segments)
            or bool(self._unsynced_paths)
        )

    def begin_flush(self) -> Flush | None:
        """All that has to reach the disk for the log as it is now to be durable; None if it is.

        One at a time: the next one after ``complete_flush`` or ``abandon_flush``. Raises
        ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self.check_usable()
        if not self.is_dirty:
            return None
        flush = Flush(self._disk, self.directory, self.log_end_offset, self._generation)
        try:
            for segment in self._unsynced_segments:
                for file in segment.files:
                    flush.add(file)
            flush.add(self._segments.active.log_file)
        except OSError as error:
            flush.release()
            raise self.health.failed_operation(f"flush of {self.directory}", error) from error
        flush.segments = list(self._unsynced_segments)
        flush.paths, self._unsynced_paths = self._unsynced_paths, []
        flush.names_changed, self._names_changed = self._names_changed, False
        flush.new_directory, self._new_directory = self._new_directory, False
        if self._epochs.changed:
            flush.epochs = encode_epochs(self._epochs.entries)
            self._epochs.changed = False
        return flush

    def complete_flush(self, flush: Flush, now_ms: int) -> None:
        """``flush`` has run: what it covers is durable. Calls ``on_flushed``."""
        flush.release()
        if flush.generation == self._generation:
            self.flushed_end_offset = max(self.flushed_end_offset, flush.end_offset)
            for segment in flush.segments:
                self._forget_unsynced(segment)
        self.flushed_ms = now_ms
        if self.on_flushed is not None:
            self.on_flushed(self)

    def abandon_flush(self, flush: Flush) -> None:
        """``flush`` could not run: the next one has to cover what it was to cover."""
        flush.release()
        self._unsynced_paths[:0] = flush.paths
        self._names_changed |= flush.names_changed
        self._new_directory |= flush.new_directory
        self._epochs.changed |= flush.epochs is not None

    def _note_unsynced(self, segment: Segment) -> None:
        """All files of ``segment`` have to be synced by the next flush."""
        if segment not in self._unsynced_segments:
            self._unsynced_segments.append(segment)

    def _forget_unsynced(self, segment: Segment) -> None:
        if segment in self._unsynced_segments:
            self._unsynced_segments.remove(segment)

    def flush(self, now_ms: int) -> None:
        """Make all of the log durable here and now; blocks for the disk.

        For recovery, for closing, and for tools. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR); if a sync
        failed, the directory is offline.
        """
        flush = self.begin_flush()
        if flush is None:
            return
        try:
            flush.run()
        except OSError as error:
            self.abandon_flush(flush)
            if not flush.is_harmless(error):
                self.health.fail(error)
            raise self.health.failed_operation(f"flush of {self.directory}", error) from error
        self.complete_flush(flush, now_ms)

    # Removing from the start

    def delete_old_segments(self, now_ms: int, limit_offset: int) -> int:
        """Retire the segments that retention lets go, below ``limit_offset``; returns how many.

        ``limit_offset`` is the high watermark. Moves the log's start. Raises ``KafkaError``.
        """
        self.check_usable()
        limits = RetentionLimits(
            self.rules.delete, self.rules.retention_bytes, self.rules.retention_ms
        )
        try:
            count = deletable(
                self._facts(),
                limits,
                log_start_offset=self.log_start_offset,
                limit_offset=limit_offset,
                now_ms=now_ms,
            )
            if count:
                self._delete_first(count, now_ms)
        except OSError as error:
            what = f"retention of {self.directory} failed"
            raise self.health.failed_operation(what, error) from error
        return count

    def _facts(self) -> list[SegmentFacts]:
        active = self._segments.active
        return [
            SegmentFacts(
                self._segments.end_of(segment, self.log_end_offset),
                segment.size_bytes,
                segment is active,
                segment.largest_timestamp_ms,
            )
            for segment in self._segments
        ]

    def _delete_first(self, count: int, now_ms: int) -> None:
        if count == len(self._segments):
            self.roll(now_ms)
        removed = self._segments.remove_first(count)
        first_offset = self._segments.first.base_offset
        self._move_start(max(first_offset, self.log_start_offset))
        self._retire(removed, now_ms)
        log.info(
            "segments deleted", directory=self.directory, count=count, log_start_offset=first_offset
        )

    def increment_log_start_offset(self, offset: int, limit_offset: int) -> bool:
        """Let the log start at ``offset`` (DeleteRecords), if that is further than it does.

        The segments before it go with the next ``delete_old_segments``. Raises ``KafkaError``:
        OFFSET_OUT_OF_RANGE above ``limit_offset`` (the high watermark).
        """
        self.check_usable()
        if offset > min(limit_offset, self.log_end_offset):
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"the log cannot start at {offset}, behind the high watermark {limit_offset}",
            )
        if offset <= self.log_start_offset:
            return False
        self._move_start(offset)
        return True

    def _move_start(self, offset: int) -> None:
        self.log_start_offset = offset
        self._epochs.truncate_from_start(offset)
        self.producers.end_offset = max(self.producers.end_offset, offset)

    def _retire(self, segments: list[Segment], now_ms: int) -> None:
        """Rename the segments' files and have them removed later."""
        for segment in segments:
            self._throw_away(segment.retire(), now_ms)
            self._forget_unsynced(segment)
        self._names_changed = True

    def _throw_away(self, paths: Iterable[str], now_ms: int) -> None:
        for path in paths:
            self._trash.put(path, now_ms + self.rules.file_delete_delay_ms)

    # Cutting the end

    def truncate_to(self, offset: int, now_ms: int) -> bool:
        """Drop every batch that reaches ``offset``; whether there was any.

        A flush that is under way counts for nothing. Before this, the checkpointed recovery point must
        be lowered (``LogDirectory.lower_recovery_points``), or a recovery would take the missing end for
        damage. Until the next flush a power loss may bring the batches back. Raises ``KafkaError``
        (KAFKA_STORAGE_ERROR).
        """
        self.check_usable()
        if offset < 0:
            raise ValueError(f"offset {offset}")
        if offset >= self.log_end_offset:
            self._epochs.truncate_from_end(self.log_end_offset)
            return False
        if offset < self._segments.first.base_offset:
            self.truncate_fully_and_start_at(offset, now_ms)
            return True
        self._generation += 1
        try:
            self._retire(self._segments.remove_behind(offset), now_ms)
            active = self._segments.active
            active.truncate_to(offset, now_ms)
            active.write_indexes()
            self._note_unsynced(active)
            self._end_at(active.last_batch_end())
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        except (CorruptBatch, CorruptIndex, UnsupportedMagic) as error:
            raise self.quarantine(str(error)) from error
        return True

    def _end_at(self, offset: int) -> None:
        """Everything else follows the segments, which end at ``offset`` now."""
        self.log_end_offset = offset
        self.flushed_end_offset = min(self.flushed_end_offset, offset)
        self.log_start_offset = min(self.log_start_offset, offset)
        self._epochs.truncate_from_end(offset)
        self.producers = rebuild_producers(
            self._disk, self.directory, self._segments, self.log_start_offset, offset
        )
        self._names_changed = True

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """Drop everything; the next batch gets ``offset``. Raises ``KafkaError``."""
        self.check_usable()
        if not self.is_on_disk:
            self.make_directory()
        self._generation += 1
        segment = Segment(self._disk, self.directory, offset, self.rules, now_ms)
        try:
            self._retire(list(self._segments), now_ms)
            segment.create()
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        self._segments.replace_all(segment)
        self._unsynced_segments.clear()
        self._epochs.clear()
        self.producers.clear(offset)
        self.log_start_offset = self.log_end_offset = self.flushed_end_offset = offset
        self._names_changed = True

    # Ending

    def close(self, now_ms: int, *, clean: bool = True) -> None:
        """Give the log up. ``clean``: finish indexes, take a snapshot, and sync it all (blocks).

        Only after all logs of a directory were closed cleanly may it be marked as stopped cleanly.
        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) where a clean close fails.
        """
        if self._unusable is not None:
            return
        try:
            if clean:
                self.health.check()
                self.finish_files()
                self.flush(now_ms)
        finally:
            for segment in self._segments:
                segment.close()
            self._unusable = "is closed"

    def finish_files(self) -> None:
        """Write what is only in memory, so that the next start need not look at the batches.

        What this writes is durable after the next flush. Raises ``KafkaError``.
        """
        if not self.is_on_disk:
            return
        active = self._segments.active
        try:
            if active.end_appends():
                self._note_unsynced(active)
        except OSError as error:
            raise self.health.failed_operation(f"close of {self.directory}", error) from error
        snapshot = take_snapshot(self._disk, self.directory, self.producers)
        if snapshot is not None:
            self._unsynced_paths.append(snapshot)
            self._names_changed = True

    def retire(self, unique: str, suffix: str) -> str | None:
        """Give the log up and rename its directory ``...-delete`` or ``...-stray``; returns the path.

        None if it never had a directory. ``unique``: 32 hex digits. Regions that are being sent stay
        readable. Raises ``KafkaError``.
        """
        if self._unusable is None:
            self.health.check()
        path = None
        if self.is_on_disk:
            name = names.retired_directory_name(self.topic, self.partition, unique, suffix)
            path = f"{self.directory.rpartition('/')[0]}/{name}"
            try:
                self._disk.rename(self.directory, path)
            except OSError as error:
                what = f"{self.directory} could not be renamed"
                raise self.health.failed_operation(what, error) from error
        self._unusable = "is deleted"
        self._generation += 1
        for segment in self._segments:
            for file in segment.files:
                file.forget()
        return path

"""The state of one partition's log, and how far it is on the disk.

The rules kept here:

- Nothing waits for the disk to sync: ``begin_flush`` says what a sync has to cover, others run it,
  ``complete_flush`` moves ``flushed_end_offset``. A cut between the two makes the flush count for nothing.
- The recovery point never lies behind a segment of which a file is not synced, an index included.
- Once the directory is offline, or the log closed, deleted or found corrupt, it takes no operation.

Source: ``LocalLog``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoints import encode_epochs, encode_partition_metadata
from ottla.log.disk import Disk
from ottla.log.flush import Flush
from ottla.log.health import DirectoryHealth
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.loading import LoadedLog, mark_quarantined
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.log.trash import Trash
from ottla.settings.definitions import TopicConfig
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.log.cleaned_log import PendingSwap
    from ottla.log.producer_state import ProducerEntry
    from ottla.records.batch import BatchHeader

_QUARANTINED = "is quarantined"


class FlushedLog:
    """The state of a log, and how it becomes durable. ``LocalLog`` moves its segments, ``Log`` appends."""

    __slots__ = (
        "_disk",
        "_epochs",
        "_gathered_producers",
        "_generation",
        "_is_exchanged",
        "_names_changed",
        "_new_directory",
        "_retiring",
        "_segments",
        "_swap",
        "_trash",
        "_undone_to",
        "_unsynced_paths",
        "_unsynced_segments",
        "_unusable",
        "clean_end_offset",
        "config",
        "directory",
        "flushed_end_offset",
        "flushed_ms",
        "flushing",
        "health",
        "is_on_disk",
        "log_end_offset",
        "log_start_offset",
        "moving",
        "on_flush_wanted",
        "on_flushed",
        "on_quarantined",
        "partition",
        "producers",
        "rules",
        "topic",
        "topic_id",
        "undone",
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
        self.on_quarantined: Callable[[Any], None] | None = None
        """Told once, in whatever thread has found the damage."""
        self.is_on_disk = True
        """False while a new partition has no directory yet: see ``Log.create``."""
        self.moving = False
        """Whether it is being copied into another log directory: nothing is compacted meanwhile."""
        self._unusable: str | None = None
        self._generation = 0
        self.undone = 0
        """How often gathered appends were given up: see ``LocalLog.write_gathered`` and ``kept``."""
        self._undone_to: tuple[int, ...] = ()
        """Where the log ended after each of the last of these times."""
        self._gathered_producers: dict[int, tuple[BatchHeader, ProducerEntry | None]] = {}
        """Of the producers of gathered batches: the first one's header, and what was known before it."""
        self.clean_end_offset = 0
        self._swap: PendingSwap | None = None
        self._is_exchanged = False
        self._retiring: list[Segment] = []
        """Segments that are not the log's any more, and whose files have their names still."""
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

    def kept(self, end_offset: int, undone: int) -> bool:
        """Whether an append that ended at ``end_offset``, ``undone`` having been read behind it, is in the log still.

        A roll writes what was gathered before it: that stays where a later write fails.
        """
        since = self.undone - undone
        if not since:
            return True
        # The first time decides: what it left was written, and what was dropped may have its offsets by now.
        known = since <= len(self._undone_to) and self.health.failure is None
        return known and end_offset <= self._undone_to[-since]

    @property
    def unusable(self) -> str | None:
        """Why the log takes no operation any more (closed, deleted, corrupt); None while it does."""
        return self._unusable

    @property
    def is_quarantined(self) -> bool:
        """Whether the log was found corrupt since it was opened."""
        return self._unusable is not None and self._unusable.startswith(_QUARANTINED)

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

    def relocate(self, directory: str) -> None:
        """Its directory was renamed: find the files there from now on."""
        self.directory = directory
        for segment in self._segments:
            for file in segment.files:
                file.path = f"{directory}/{file.path.rpartition('/')[2]}"
        self._unsynced_paths = [
            f"{directory}/{path.rpartition('/')[2]}" for path in self._unsynced_paths
        ]
        self._names_changed = True

    def follow(self, other: FlushedLog) -> None:
        """This is a copy of ``other`` with all its records: know all else that it knows."""
        self.update_config(other.config)
        self.topic_id = other.topic_id
        self.log_start_offset = max(self.log_start_offset, other.log_start_offset)
        self.clean_end_offset = other.clean_end_offset
        self._epochs = LeaderEpochs(list(other.epochs.entries))
        self._epochs.changed = True
        snapshot_offset = self.producers.snapshot_offset
        self.producers = other.producers
        self.producers.snapshot_offset = snapshot_offset

    def give_up(self, why: str) -> None:
        """Take no operation any more; ``retire`` and ``close`` are left."""
        self._unusable = why

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
            self._unusable = f"{_QUARANTINED}: {reason}"
            mark_quarantined(self._disk, self.directory, reason)
            if self.on_quarantined is not None:
                self.on_quarantined(self)
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.directory} {self._unusable}")

    # Flushing

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

    def begin_flush(self, *, with_files: bool = True, again: bool = False) -> Flush | None:
        """All that has to reach the disk for the log as it is now to be durable; None if it is.

        ``with_files=False`` opens none of them, for a sync of the whole file system. ``again``: more flushes are
        to follow while the log is in use, and are made quicker (``room``). One at a time: the next one after
        ``complete_flush`` or ``abandon_flush``. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self.check_usable()
        if not self.is_dirty:
            return None
        active = self._segments.active
        if again:
            active.log_file.make_room(active.size_bytes)
        flush = Flush(
            self._disk, self.directory, self.log_end_offset, self._generation, pinned=with_files
        )
        try:
            for segment in self._unsynced_segments:
                for file in segment.files_there:
                    flush.add(file)
            flush.add(active.log_file)
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

    def _throw_away(self, paths: Iterable[str], now_ms: int) -> None:
        for path in paths:
            self._trash.put(path, now_ms + self.rules.file_delete_delay_ms)

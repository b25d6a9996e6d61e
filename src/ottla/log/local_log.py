"""The files of one partition: segments rolled, retired, cut and closed.

What ``Log`` builds on. The rules kept here:

- A roll or a removal that lacks room leaves the log as it was; a cut that fails halfway takes the
  directory offline.
- ``log_start_offset`` never goes back but where the log is cut below it (``truncate_*``).

Sources: ``LocalLog``, ``UnifiedLog``.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.cleaned_log import CleanedLog
from ottla.log.recovery import rebuild_producers, remove_snapshots_behind, replay_producers
from ottla.log.retention import RetentionLimits, SegmentFacts, deletable
from ottla.log.segment import Segment
from ottla.log.snapshots import take_snapshot
from ottla.log.sparse_index import CorruptIndex
from ottla.logs import logger
from ottla.records.batch import BatchHeader, CorruptBatch, UnsupportedMagic

if TYPE_CHECKING:
    from ottla.log.disk import Disk
    from ottla.log.producer_state import ProducerState

log = logger(__name__)


UNDONE_MAX = 64
"""How many failed writes a log remembers: of one read's requests, each of which may meet another."""

NOTHING_KEPT = -1

REPLAYED_AT_ONCE_BYTES = 256 * 1024
"""So much of a log is read for its producers on the loop where it is cut: some milliseconds."""


class Replay:
    """Finds out what producers are known of where a log is going to be cut: ``run`` may take its time, in a thread."""

    __slots__ = ("_disk", "_segments", "_start", "generation", "log", "offset", "state")

    def __init__(self, log: LocalLog, disk: Disk, offset: int) -> None:
        self.log = log
        self.generation = log.generation
        self.offset = offset
        self.state: ProducerState | None = None
        """None where it could not be found out: whoever cuts the log meets the reason."""
        self._disk = disk
        self._start = log.log_start_offset
        self._segments = list(log.segments)

    def run(self) -> None:
        """Read. Blocks."""
        try:
            self.state = replay_producers(
                self._disk, self.log.directory, self._segments, self._start, self.offset
            )
        except (OSError, CorruptBatch, UnsupportedMagic) as error:
            why = str(error)
            log.warning("producers not read yet", directory=self.log.directory, reason=why)


class LocalLog(CleanedLog):
    """All that moves whole segments. See ``Log``, which appends and reads."""

    __slots__ = ()

    def write_gathered(self, now_ms: int) -> None:
        """Write what ``append_as_leader`` has gathered; the log ends before all of it where that fails.

        ``kept`` tells who appended whether it is in the log. Raises ``KafkaError``
        (KAFKA_STORAGE_ERROR).
        """
        active = self._segments.active
        if not active.gathered_bytes:
            return
        try:
            active.write_gathered()
        except OSError as error:
            raise self._undo_gathered(error, now_ms) from error
        except MemoryError as error:  # there is no room for the bytes side by side
            refused = OSError(ENOMEM, "no memory for the batches")
            raise self._undo_gathered(refused, now_ms) from error
        if self._gathered_producers:
            self._gathered_producers.clear()

    def _note_gathered_producer(self, header: BatchHeader) -> None:
        """Keep what is known of a producer before the first batch of its that is gathered now."""
        producer_id = header.producer_id
        if producer_id not in self._gathered_producers:
            entry = self.producers.producers.get(producer_id)
            self._gathered_producers[producer_id] = header, entry.copy() if entry else None

    def _undo_gathered(self, error: OSError, now_ms: int) -> KafkaError:
        """Go back to before the appends whose write has failed; the error to raise.

        Reads next to nothing: while the disk is full this happens with every request. No flush and no
        copy knows of these appends, so the log's ``generation`` stays.
        """
        self.undone += 1
        self._undone_to = (*self._undone_to[1 - UNDONE_MAX :], NOTHING_KEPT)
        active = self._segments.active
        noted, self._gathered_producers = self._gathered_producers, {}
        try:
            offset = active.drop_gathered(now_ms)
            self._undone_to = (*self._undone_to[:-1], offset)
            self.log_end_offset = self.producers.end_offset = offset
            self._epochs.truncate_from_end(offset + 1)  # this leader's may well start here
            for producer_id, (header, before) in noted.items():
                if before is not None:
                    self.producers.producers[producer_id] = before
                else:
                    self.producers.producers.pop(producer_id, None)
                    self.producers.expect(header)
        except OSError as failed:
            self.health.fail(failed)
        except (CorruptBatch, CorruptIndex, UnsupportedMagic) as damage:
            return self.quarantine(str(damage))
        return self.health.failed_operation(f"append to {self.directory} failed", error)

    def roll(self, now_ms: int, base_offset: int | None = None) -> Segment:
        """Start a new segment at the log's end (or at ``base_offset``, if that is further).

        Its name, and the old segment with its indexes, become durable with the next flush, which is
        asked for. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR), and then goes on with the old segment.
        """
        self.check_usable()
        self.write_gathered(now_ms)
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

    # Removing from the start

    def delete_old_segments(self, now_ms: int, limit_offset: int, *, by_policy: bool = True) -> int:
        """Retire the segments that retention lets go, below ``limit_offset``; returns how many.

        ``limit_offset`` is the high watermark. Moves the log's start. With ``by_policy=False`` only
        those go that lie below the log's start. Raises ``KafkaError``.
        """
        self.check_usable()
        try:
            if self._retiring:
                self._retire([], now_ms)
            count = self._count_deletable(now_ms, limit_offset, by_policy=by_policy)
            if count:
                self._delete_first(count, now_ms)
        except OSError as error:
            what = f"retention of {self.directory} failed"
            raise self.health.failed_operation(what, error) from error
        return count

    def start_after_retention(self, now_ms: int, limit_offset: int) -> int | None:
        """Where the log would start after ``delete_old_segments``; None if that had nothing to do.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self.check_usable()
        try:
            count = self._count_deletable(now_ms, limit_offset)
        except OSError as error:
            what = f"retention of {self.directory} failed"
            raise self.health.failed_operation(what, error) from error
        if not count:
            return self.log_start_offset if self._retiring else None
        last = list(self._segments)[count - 1]
        return max(self._segments.end_of(last, self.log_end_offset), self.log_start_offset)

    def _count_deletable(self, now_ms: int, limit_offset: int, *, by_policy: bool = True) -> int:
        limits = RetentionLimits(
            self.rules.delete and by_policy, self.rules.retention_bytes, self.rules.retention_ms
        )
        return deletable(
            self._facts(),
            limits,
            log_start_offset=self.log_start_offset,
            limit_offset=limit_offset,
            now_ms=now_ms,
        )

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
        self.settle_swap()
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
        """Rename the segments' files and have them removed later.

        Those that could not be renamed before go first, and these stay where they can't be: none waits for the
        next start.
        """
        for segment in segments:
            self._forget_unsynced(segment)
        self._retiring += segments
        self._names_changed |= bool(self._retiring)
        while self._retiring:
            self._throw_away(self._retiring[0].retire(), now_ms)
            del self._retiring[0]

    # Cutting the end

    def replay_before_cut(self, offset: int) -> Replay | None:
        """What to run before ``truncate_to(offset)``, and to give to it; None where there is not much to read."""
        snapshot_offset = self.producers.snapshot_offset
        known = snapshot_offset if snapshot_offset <= offset else 0
        read = [one for one in self._segments.from_offset(known) if one.base_offset < offset]
        if sum(segment.size_bytes for segment in read) <= REPLAYED_AT_ONCE_BYTES:
            return None
        return Replay(self, self._disk, offset)

    def truncate_to(self, offset: int, now_ms: int, replay: Replay | None = None) -> bool:
        """Drop every batch that reaches ``offset``; whether there was any.

        Reads all batches since the newest snapshot of the producers before ``offset``, unless ``replay`` has.
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
        is_known = replay is not None and (replay.log, replay.generation) == (self, self.generation)
        self.settle_swap()
        self.limit_clean_end(offset)
        self._generation += 1
        try:
            self._retire(self._segments.remove_behind(offset), now_ms)
            active = self._segments.active
            active.truncate_to(offset, now_ms)
            active.write_indexes()
            self._note_unsynced(active)
            self._end_at(active.last_batch_end(), replay if is_known else None)
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        except (CorruptBatch, CorruptIndex, UnsupportedMagic) as error:
            raise self.quarantine(str(error)) from error
        self.want_flush()
        return True

    def _end_at(self, offset: int, replay: Replay | None) -> None:
        """Everything else follows the segments, which end at ``offset`` now."""
        self.log_end_offset = offset
        self.flushed_end_offset = min(self.flushed_end_offset, offset)
        self.log_start_offset = min(self.log_start_offset, offset)
        self._epochs.truncate_from_end(offset)
        state = replay.state if replay is not None else None
        if state is not None and state.end_offset == offset:
            remove_snapshots_behind(self._disk, self.directory, offset)
            self.producers = state
        else:
            self.producers = rebuild_producers(
                self._disk, self.directory, self._segments, self.log_start_offset, offset
            )
        self._names_changed = True

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """Drop everything; the next batch gets ``offset``. Raises ``KafkaError``."""
        self.check_usable()
        if not self.is_on_disk:
            self.make_directory()
        self.settle_swap()
        self.limit_clean_end(0)
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
        self.log_start_offset = self.log_end_offset = offset
        if self.flushed_end_offset > offset:
            self.flushed_end_offset = offset
        self._names_changed = True
        self.want_flush()  # until then a power loss brings the old log back, which ends elsewhere

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
        self.settle_swap()
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
            for segment in self._segments:
                for file in segment.files:
                    file.close_if_idle()
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

"""A log directory: all the partitions in it, what is checkpointed of them, and whether it is in use.

The rules kept here (``LogManager``, KAFKA-10471):

- One process at a time: ``.lock`` is held from ``open`` to ``close``.
- ``.kafka_cleanshutdown`` is removed before anything is loaded and written after everything is synced,
  so that it is there only after a stop that left nothing to recover. It speaks for the logs that the stop has
  closed: those that the recovery points name, but none that was out of service, which it names. What it does
  not speak for is recovered, whenever it is back.
- A checkpoint is replaced, never changed; one that can't be read counts as empty, which is safe: recovery
  begins at 0, logs start at their first segment.
- A partition that is damaged is left out and told of in ``quarantined``; the others are loaded.
- A partition is deleted by renaming its directory ``...-delete``; removing the files takes its time.

Loading, checkpointing and closing block: run them off the loop. The rest belongs to the loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from threading import Lock

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoint_turns import Checkpoint, CheckpointTurns
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    MetaProperties,
    decode_clean_shutdown,
    decode_meta_properties,
    decode_not_closed,
    decode_offsets,
    encode_clean_shutdown,
    encode_meta_properties,
    encode_offsets,
)
from ottla.log.disk import Disk
from ottla.log.distrust import heed_failure, note_failure
from ottla.log.flusher import Flusher, flush_here
from ottla.log.health import DirectoryHealth
from ottla.log.last_life import LogsLife
from ottla.log.left_out import LeftOut
from ottla.log.loading import QuarantinedLog
from ottla.log.log import Log
from ottla.log.partition_directories import find_partitions
from ottla.log.recovery import CorruptLog
from ottla.log.short_logs import ShortLogs
from ottla.log.trash import Trash
from ottla.logs import logger
from ottla.settings.definitions import TopicConfig

log = logger(__name__)

_CHECKPOINT_BYTES_MAX = 1 << 28


class DirectoryInUse(Exception):
    """Another broker, in this process or another one, has the log directory open."""


class LogDirectory:
    """One entry of ``log.dirs``.

    ``logs`` by topic and partition; ``high_watermarks`` as checkpointed when it was loaded;
    ``quarantined``: why a partition is left out; ``had_clean_shutdown``: whether the last stop was one;
    ``unfinished``: the paths of copies that an earlier life was moving here; ``was_signed``: whether it said whom it belongs to when that was last looked at;
    ``last_broker_epoch``: the epoch in that clean stop's file, None if it told none; ``life``: see ``last_life``.
    """

    def __init__(
        self,
        path: str,
        disk: Disk | None = None,
        *,
        flusher: Flusher | None = None,
        on_offline: Callable[[str, OSError], None] | None = None,
    ) -> None:
        """Nothing is touched before ``open``. ``flusher`` is attached to every log.

        ``on_offline(path, error)`` is called once, when the directory fails, on the thread that met it.
        """
        self.path = os.path.abspath(path)
        self.disk = disk if disk is not None else Disk()
        self.health = DirectoryHealth(self.path, self._failed)
        self.trash = Trash(self.disk)
        self.logs: dict[tuple[str, int], Log] = {}
        self.high_watermarks: dict[tuple[str, int], int] = {}
        self._left_out = LeftOut()
        self.unfinished: dict[tuple[str, int], str] = {}
        self.had_clean_shutdown = False
        self.was_signed = False
        self.last_broker_epoch: int | None = None
        self._not_closed: frozenset[str] = frozenset()
        self._flusher = flusher
        self._on_offline = on_offline
        self._lock_descriptor: int | None = None
        self.life = LogsLife(self.disk, self.path)
        self.short = ShortLogs(self.disk, self.path)
        self._checkpointed: dict[tuple[str, int], int] = {}
        self._clean_ends: dict[tuple[str, int], int] = {}
        self._ceilings: dict[tuple[str, int], tuple[int, int]] = {}
        self._promised: dict[Log, tuple[int, int]] = {}
        self._departing: dict[tuple[str, int], int] = {}
        self._turns = CheckpointTurns()
        self._starts_checkpointed: frozenset[tuple[str, int]] = frozenset()
        self._stale = False
        self._checkpoint_lock = Lock()

    @property
    def offline(self) -> OSError | None:
        """Why the directory may not be used any more; None while it may."""
        return self.health.failure

    @property
    def quarantined(self) -> Mapping[tuple[str, int], str]:
        """Why each partition is left out that is."""
        return self._left_out.reasons

    @property
    def partition_count(self) -> int:
        """How many partitions lie here."""
        return len(self.logs)

    def _failed(self, path: str, error: OSError) -> None:
        note_failure(self.disk, path, error)
        if self._on_offline is not None:
            self._on_offline(path, error)

    # Opening and loading

    def open(self) -> None:
        """Make the directory if there is none, and lock it.

        Raises ``DirectoryInUse``, ``OSError``.
        """
        self.disk.make_directories(self.path)
        try:
            self._lock_descriptor = self.disk.lock(f"{self.path}/{names.LOCK}")
        except BlockingIOError as error:
            raise DirectoryInUse(f"{self.path} is in use by {error.strerror}") from error
        try:
            self.life.sync_failed = heed_failure(self.disk, self.path)
        except OSError:
            self.disk.unlock(self._lock_descriptor)
            self._lock_descriptor = None
            raise

    def read_meta_properties(self) -> MetaProperties | None:
        """Whom the directory belongs to; None if it is new.

        Raises ``CorruptCheckpoint``: a directory of somebody unknown is not to be written to.
        """
        content = self._read(names.META_PROPERTIES)
        self.was_signed = content is not None
        if content is None:
            return None
        try:
            return decode_meta_properties(content)
        except CorruptCheckpoint as error:
            raise CorruptCheckpoint(
                f"{self.path}/{names.META_PROPERTIES} is damaged: {error}"
            ) from error

    def write_meta_properties(self, meta: MetaProperties) -> None:
        """Say whom the directory belongs to. Raises ``OSError``."""
        written = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime())
        path = f"{self.path}/{names.META_PROPERTIES}"
        self.disk.replace_file(path, encode_meta_properties(meta, written))

    def load(
        self,
        config_of: Callable[[str], TopicConfig],
        now_ms: int,
        *,
        on_loaded: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load every partition; after an unclean stop, recover them. May take long: off the loop.

        ``config_of(topic)`` gives a topic's settings; ``on_loaded(done, of)`` is called after each one.
        Raises ``OSError`` (the directory is offline then).
        """
        try:
            self._load(config_of, now_ms, on_loaded)
        except OSError as error:
            self.health.fail(error)
            raise

    def _load(
        self,
        config_of: Callable[[str], TopicConfig],
        now_ms: int,
        on_loaded: Callable[[int, int], None] | None,
    ) -> None:
        self._take_clean_shutdown()
        known = {name: self._read_offsets(name) for name in names.OFFSET_CHECKPOINTS}
        self.high_watermarks = known[names.HIGH_WATERMARK_CHECKPOINT]
        lies_here = find_partitions(self.disk, self.path)
        found, self.unfinished = lies_here.current, lies_here.future
        for path in lies_here.deleted:
            self.trash.put(path, 0)
        for number, (key, directory) in enumerate(found, 1):
            self._load_partition(key, directory, config_of(key[0]), now_ms, known)
            if on_loaded is not None:
                on_loaded(number, len(found))
        flush_here(self.disk, self.logs.values(), now_ms, or_later=True)
        self._checkpointed = known[names.RECOVERY_POINT_CHECKPOINT]
        lowers = self.short.find(self.logs, known, left_out=self.quarantined)
        self._starts_checkpointed = frozenset(known[names.LOG_START_CHECKPOINT])
        self._take_clean_ends(known[names.CLEANER_CHECKPOINT])
        named = self._checkpointed.keys() | self._starts_checkpointed | self._clean_ends.keys()
        self._stale = bool(named - self.logs.keys() - self.quarantined.keys())
        if self._stale or lowers:
            self.write_checkpoints(self.take_checkpoints())
        clean = self.had_clean_shutdown
        self.life.begin(self._flusher, is_known=self.was_signed, was_clean=clean)
        figures = {"partitions": len(self.logs), "quarantined": len(self.quarantined)}
        log.info("log directory loaded", directory=self.path, **figures, clean=clean)

    def _load_partition(
        self,
        key: tuple[str, int],
        directory: str,
        config: TopicConfig,
        now_ms: int,
        known: Mapping[str, Mapping[tuple[str, int], int]],
    ) -> None:
        """``known``: what the checkpoints, by their names, say of all partitions."""
        recovery_point = known[names.RECOVERY_POINT_CHECKPOINT].get(key)
        closed = recovery_point is not None and names.directory_name(*key) not in self._not_closed
        try:
            loaded = Log.open(
                self.disk,
                directory,
                config,
                now_ms,
                recovery_point=max(recovery_point or 0, 0),
                log_start_offset=max(known[names.LOG_START_CHECKPOINT].get(key, 0), 0),
                clean=self.had_clean_shutdown and closed,
                sync=False,
                health=self.health,
                trash=self.trash,
            )
        except (CorruptLog, QuarantinedLog) as error:
            log.error("partition left out", directory=directory, reason=str(error))
            self._left_out.put(key, str(error), {name: at.get(key) for name, at in known.items()})
            return
        self.enter(loaded)

    def _take_clean_ends(self, clean_ends: Mapping[tuple[str, int], int]) -> None:
        """How far each log is compacted; nothing of one that has lost more than it should have."""
        self._clean_ends = dict(clean_ends)
        for key, end_offset in clean_ends.items():
            found = self.logs.get(key)
            if found is not None and 0 < end_offset <= found.log_end_offset:
                found.clean_end_offset = end_offset

    def enter(self, entered: Log) -> None:
        """A log of this directory is in service."""
        self.logs[entered.topic, entered.partition] = entered
        if self._flusher is not None:
            self._flusher.attach(entered)

    def _take_clean_shutdown(self) -> None:
        """Learn whether the last stop was clean, and let a crash from here on be none."""
        path = f"{self.path}/{names.CLEAN_SHUTDOWN}"
        content = self._read(names.CLEAN_SHUTDOWN)
        if content is not None:
            self.last_broker_epoch = decode_clean_shutdown(content)
            not_closed = decode_not_closed(content)
            self.had_clean_shutdown = not_closed is not None
            self._not_closed = not_closed or frozenset()
            self.disk.remove(path)
            self.disk.sync_directory(self.path)

    def _read(self, name: str) -> bytes | None:
        try:
            return self.disk.read_file(f"{self.path}/{name}", _CHECKPOINT_BYTES_MAX)
        except FileNotFoundError:
            return None

    def _read_offsets(self, name: str) -> dict[tuple[str, int], int]:
        try:
            content = self._read(name)
            return {} if content is None else decode_offsets(content)
        except (CorruptCheckpoint, ValueError) as error:
            log.warning("checkpoint ignored", path=f"{self.path}/{name}", reason=str(error))
            return {}

    # Partitions

    def get(self, topic: str, partition: int) -> Log | None:
        """The partition's log, None if it is not here (or is quarantined)."""
        return self.logs.get((topic, partition))

    def create(
        self, topic: str, partition: int, topic_id: bytes, config: TopicConfig, now_ms: int
    ) -> Log:
        """The log of a new partition. Touches no disk before the first append: see ``Log.create``.

        Raises ``KafkaError``: KAFKA_STORAGE_ERROR, also if the partition is quarantined here.
        """
        self.health.check()
        why = self.quarantined.get((topic, partition))
        if why is not None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, why)
        try:
            made = Log.create(
                self.disk,
                self.path,
                topic,
                partition,
                topic_id,
                config,
                now_ms,
                health=self.health,
                trash=self.trash,
            )
        except FileExistsError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
        self.enter(made)
        return made

    def delete(self, topic: str, partition: int, now_ms: int) -> None:
        """Take the partition's log out of service and have its files removed later.

        Nothing if it is not here. One that is quarantined goes too: its name is free again. The
        checkpoints forget it with their next writing. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        found = self.logs.get((topic, partition))
        if found is None:
            if (topic, partition) in self.quarantined:
                self._delete_quarantined(topic, partition)
            return
        path = self._retire(found, names.DELETE_DIRECTORY_SUFFIX)
        if path is not None:
            self.trash.put(path, now_ms + found.rules.file_delete_delay_ms)

    def _delete_quarantined(self, topic: str, partition: int) -> None:
        self.health.check()
        path = f"{self.path}/{names.directory_name(topic, partition)}"
        name = names.retired_directory_name(
            topic, partition, os.urandom(16).hex(), names.DELETE_DIRECTORY_SUFFIX
        )
        try:
            self.disk.rename(path, f"{self.path}/{name}")
        except OSError as error:
            raise self.health.failed_operation(f"{path} could not be renamed", error) from error
        self._left_out.take((topic, partition))
        self._stale = True
        self.trash.put(f"{self.path}/{name}", 0)

    def set_aside(self, topic: str, partition: int) -> None:
        """Take a log out of service and keep its files, in a directory named ``...-stray``.

        For the log of a topic that the cluster does not know: whoever lost track of it may want it back.
        Nothing if it is not here. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        found = self.logs.get((topic, partition))
        if found is not None:
            path = self._retire(found, names.STRAY_DIRECTORY_SUFFIX)
            log.warning("log of an unknown topic set aside", topic=topic, path=path)

    def leave(self, found: Log) -> int:
        """A log of this directory is out of service: the next checkpoints do not name it.

        Returns where it was promised to start, 0 if it was not.
        """
        key = (found.topic, found.partition)
        del self.logs[key]
        self.high_watermarks.pop(key, None)
        known = self._checkpointed.pop(key, None) is not None or key in self._starts_checkpointed
        known |= key in self._clean_ends
        self._stale |= known or self._turns.outstanding or self._checkpoint_lock.locked()
        return self._promised.pop(found, (0, 0))[0]

    def leave_out(self, found: Log, why: str) -> None:
        """A log of this directory is out of service, and its partition counts as quarantined."""
        key = (found.topic, found.partition)
        offsets = {
            names.RECOVERY_POINT_CHECKPOINT: found.recovery_point,
            names.LOG_START_CHECKPOINT: found.log_start_offset or None,
            names.HIGH_WATERMARK_CHECKPOINT: self.high_watermarks.get(key),
            names.CLEANER_CHECKPOINT: found.clean_end_offset or None,
        }
        self._left_out.put(key, why, offsets)
        self.leave(found)

    def keep_start(self, gone: Log, start: int) -> None:
        """A log that left goes on elsewhere, while its directory is still here: ``log_starts`` names it.

        What lies there may be all that a crash leaves, until ``gone_for_good``.
        """
        self._departing[gone.topic, gone.partition] = start

    def gone_for_good(self, gone: Log) -> None:
        """The directory of a log that left is not here any more."""
        if self._departing.pop((gone.topic, gone.partition), None) is not None:
            self._stale = True

    def _retire(self, found: Log, suffix: str) -> str | None:
        path = found.retire(os.urandom(16).hex(), suffix)
        self.leave(found)
        return path

    # Upkeep

    def remove_trash(self, paths: list[str]) -> list[str]:
        """Unlink what ``trash.take_due(now_ms)`` gave; returns what is left of it. Off the loop."""
        return self.trash.remove(paths)

    def want_overdue_flushes(self, now_ms: int) -> None:
        """Ask for a flush of every dirty log that has waited ``flush.ms`` for one."""
        for one in self.logs.values():
            if now_ms - one.flushed_ms >= one.rules.flush_ms and one.is_dirty:
                one.want_flush()

    def remove_expired_producers(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers that were silent for ``producer.id.expiration.ms``; returns how many."""
        return sum(
            one.producers.remove_expired(now_ms, expiration_ms) for one in self.logs.values()
        )

    # Checkpoints

    def recovery_points(self) -> Checkpoint:
        """What ``write_recovery_points`` is to write: taken on the loop, written off it."""
        for key, (_, generation) in list(self._ceilings.items()):
            found = self.logs.get(key)
            if found is None or found.generation != generation:
                del self._ceilings[key]  # the log has been cut since
        points = {key: one.recovery_point for key, one in self.logs.items()}
        return self._take(names.RECOVERY_POINT_CHECKPOINT, points)

    def _take(self, name: str, offsets: Mapping[tuple[str, int], int]) -> Checkpoint:
        return self._turns.take(name, self._left_out.added_to(name, offsets))

    def promise_log_start(self, log: Log, offset: int) -> None:
        """``log`` is going to start at ``offset``: let ``log_starts`` say so from now on.

        Whoever tells a client that records are gone writes that down first, and moves the log's start
        after that: so nobody ever sees a start that a crash could take back.
        """
        promised, _ = self._promised.get(log, (0, 0))
        self._promised[log] = max(offset, promised), log.generation

    def log_starts(self) -> Checkpoint:
        """What ``write_log_starts`` is to write: the logs that don't start at 0, or soon will not."""
        offsets = {
            key: one.log_start_offset for key, one in self.logs.items() if one.log_start_offset
        }
        offsets |= {key: start for key, start in self._departing.items() if key not in self.logs}
        for one, (offset, generation) in list(self._promised.items()):
            key = (one.topic, one.partition)
            kept = self.logs.get(key) is one and one.generation == generation
            if not kept or one.log_start_offset >= offset:
                del self._promised[one]  # it is gone, was cut since, or has moved
            else:
                offsets[key] = offset
        return self._take(names.LOG_START_CHECKPOINT, offsets)

    def write_recovery_points(self, points: Checkpoint) -> None:
        """Replace the recovery-point checkpoint, unless a later one is there. Blocks; raises ``KafkaError``."""
        with self._checkpoint_lock:
            if self._turns.is_next(names.RECOVERY_POINT_CHECKPOINT, points):
                self._write_recovery_points(points.offsets)
                self._turns.wrote(names.RECOVERY_POINT_CHECKPOINT, points)

    def _write_recovery_points(self, offsets: Mapping[tuple[str, int], int]) -> None:
        points = dict(offsets)
        for key, (offset, _) in list(self._ceilings.items()):
            if key in points:
                points[key] = min(points[key], offset)
        self._write_offsets(names.RECOVERY_POINT_CHECKPOINT, points)
        self._checkpointed = points

    def write_log_starts(self, starts: Checkpoint) -> None:
        """Replace the log-start checkpoint, unless a later one is there. Blocks; raises ``KafkaError``."""
        with self._checkpoint_lock:
            if self._turns.is_next(names.LOG_START_CHECKPOINT, starts):
                self._write_offsets(names.LOG_START_CHECKPOINT, starts.offsets)
                self._turns.wrote(names.LOG_START_CHECKPOINT, starts)
                self._starts_checkpointed = frozenset(starts.offsets)

    @property
    def has_stale_checkpoints(self) -> bool:
        """Whether a checkpoint names a partition that is gone.

        A topic that gets its name must not find it after a crash: it would begin at the old log start,
        and what a torn write left of it would be taken for damage. So ``write_checkpoints`` comes before
        anybody is told that a partition is deleted.
        """
        return self._stale

    def take_checkpoints(self) -> tuple[Checkpoint, Checkpoint, Checkpoint]:
        """All of what ``write_checkpoints`` is to write: taken on the loop, written off it."""
        self._stale = False
        return self.recovery_points(), self.log_starts(), self.clean_ends()

    def write_checkpoints(self, taken: tuple[Checkpoint, Checkpoint, Checkpoint]) -> None:
        """Replace the checkpoints. Blocks; raises ``KafkaError``."""
        try:
            self.write_recovery_points(taken[0])
            self.write_log_starts(taken[1])
            self.write_clean_ends(taken[2])
        except KafkaError:
            self._stale = True
            raise

    def clean_ends(self) -> Checkpoint:
        """What ``write_clean_ends`` is to write: how far each log is compacted, where it is at all."""
        ends = {key: one.clean_end_offset for key, one in self.logs.items() if one.clean_end_offset}
        return self._take(names.CLEANER_CHECKPOINT, ends)

    def write_clean_ends(self, ends: Checkpoint) -> None:
        """Replace the cleaner's checkpoint, unless it says that, or a later one is there.

        Blocks; raises ``KafkaError``.
        """
        with self._checkpoint_lock:
            if self._turns.is_next(names.CLEANER_CHECKPOINT, ends):
                self._write_clean_ends(ends.offsets)
                self._turns.wrote(names.CLEANER_CHECKPOINT, ends)

    def _write_clean_ends(self, offsets: Mapping[tuple[str, int], int]) -> None:
        if offsets != self._clean_ends:
            self._write_offsets(names.CLEANER_CHECKPOINT, offsets)
            self._clean_ends = dict(offsets)

    def write_high_watermarks(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Replace the high-watermark checkpoint. Blocks; raises ``KafkaError``."""
        name = names.HIGH_WATERMARK_CHECKPOINT
        self._write_offsets(name, self._left_out.added_to(name, offsets))

    def lower_recovery_points(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Before logs are cut to ``offsets``: no checkpointed recovery point may lie behind the segments
        that are cut, since until the next flush the old bytes may come back.

        It stays so until they are cut. Writes only if one does lie behind. Blocks; raises
        ``KafkaError``.
        """
        for key, offset in offsets.items():
            found = self.logs.get(key)
            if found is not None:
                cut = found.segments.floor(offset)
                base_offset = cut.base_offset if cut is not None else 0
                self._ceilings[key] = (base_offset, found.generation)
        points = self._checkpointed
        ceilings = list(self._ceilings.items())
        if any(points.get(key, 0) > offset for key, (offset, _) in ceilings):
            with self._checkpoint_lock:
                self._write_recovery_points(points)
        if any(self._clean_ends.get(key, 0) > offset for key, offset in offsets.items()):
            with self._checkpoint_lock:
                ends = self._clean_ends
                lowered = {key: min(end, offsets.get(key, end)) for key, end in ends.items()}
                self._write_clean_ends(lowered)

    def _write_offsets(self, name: str, offsets: Mapping[tuple[str, int], int]) -> None:
        self.health.check()
        path = f"{self.path}/{name}"
        try:
            self.short.save()
            self.disk.replace_file(path, encode_offsets(offsets))
        except OSError as error:
            raise self.health.failed_operation(f"{path} not written", error) from error

    # Closing

    def close(self, now_ms: int, *, clean: bool = True, broker_epoch: int = -1) -> bool:
        """Close every log and give the directory up; a clean close syncs all and says so.

        The flusher must have nothing under way. Blocks. Never raises for a directory that failed: whether it was
        closed cleanly is returned.
        """
        closed = False
        try:
            if clean and self.health.failure is None and self._lock_descriptor is not None:
                self._close_cleanly(now_ms, broker_epoch)
                closed = True
        except (KafkaError, OSError) as error:
            log.error("clean close failed", directory=self.path, reason=str(error))
        finally:
            for one in self.logs.values():
                one.close(now_ms, clean=False)
            if self._lock_descriptor is not None:
                self.disk.unlock(self._lock_descriptor)
                self._lock_descriptor = None
        return closed

    def _close_cleanly(self, now_ms: int, broker_epoch: int) -> None:
        not_closed = {key for key, one in self.logs.items() if one.unusable is not None}
        for key in self.logs.keys() - not_closed:
            self.logs[key].finish_files()
        flush_here(self.disk, self.logs.values(), now_ms)
        self.write_checkpoints(self.take_checkpoints())
        left = [names.directory_name(*key) for key in not_closed | self.quarantined.keys()]
        path = f"{self.path}/{names.CLEAN_SHUTDOWN}"
        self.disk.replace_file(path, encode_clean_shutdown(broker_epoch, left))

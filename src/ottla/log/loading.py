"""Loading a partition's directory: what is in it, what must not be, and where its log begins and ends.

The rules kept here (``LogLoader``, KAFKA-3955):

- After a clean stop no batch is read but the last few of the active segment. Otherwise the segments from
  the recovery point's on are recovered; what that leaves has to be synced before it is served.
- A missing or impossible index is rebuilt; an index without a log is removed; a missing or damaged
  checkpoint or snapshot is replaced by what the batches tell.
- A partition that was found damaged stays out of service: a file named ``quarantined`` in its directory
  says why, until somebody removes it.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoints import CorruptCheckpoint, decode_epochs, decode_partition_metadata
from ottla.log.disk import Disk
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.leftovers import finish_leftovers
from ottla.log.producer_state import ProducerState
from ottla.log.recovery import (
    CorruptLog,
    SegmentScan,
    rebuild_producers,
    recover_segments,
    snapshot_offsets,
)
from ottla.log.rules import LogRules
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.log.snapshots import UnprovenSnapshots, snapshot_path, stray_snapshots
from ottla.log.sparse_index import CorruptIndex
from ottla.logs import logger
from ottla.records.batch import CorruptBatch, UnsupportedMagic
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

_SMALL_FILE_BYTES_MAX = 16 << 20


class QuarantinedLog(KafkaError):
    """The directory's ``quarantined`` file keeps the partition out of service (KAFKA_STORAGE_ERROR)."""

    def __init__(self, directory: str, reason: str) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, f"{directory} is quarantined: {reason}")


class LoadedLog(NamedTuple):
    """What a ``Log`` starts from.

    ``unsynced`` and ``unsynced_paths``: segments and files that loading has changed; ``retired``: paths
    of files that are to be removed later.
    """

    topic: str
    partition: int
    topic_id: bytes
    rules: LogRules
    segments: Segments
    epochs: LeaderEpochs
    producers: ProducerState
    log_start_offset: int
    log_end_offset: int
    flushed_end_offset: int
    unsynced: tuple[Segment, ...] = ()
    unsynced_paths: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()


def load_log(
    disk: Disk,
    directory: str,
    rules: LogRules,
    now_ms: int,
    *,
    recovery_point: int,
    log_start_checkpoint: int,
    clean: bool,
) -> LoadedLog:
    """Load the partition in ``directory``. Blocks; see ``Log.open``.

    Raises ``CorruptLog`` and ``QuarantinedLog`` (KafkaErrors), ``OSError``, and ``ValueError`` if the
    directory's name is no partition's.
    """
    name = names.parse_directory_name(directory.rpartition("/")[2])
    if name is None:
        raise ValueError(f"{directory} is not named after a partition")
    loader = _Loader(disk, directory, rules, now_ms, log_start_checkpoint)
    try:
        return loader.load(name, recovery_point, clean)
    except CorruptLog as error:
        loader.snapshots.end()
        mark_quarantined(disk, directory, str(error))
        raise


def mark_quarantined(disk: Disk, directory: str, reason: str) -> None:
    """Keep the partition out of service over restarts."""
    log.error("partition quarantined", directory=directory, reason=reason)
    try:
        disk.replace_file(f"{directory}/{names.QUARANTINE}", f"{reason}\n".encode())
    except OSError as error:
        log.error("quarantine not noted", directory=directory, reason=str(error))


class _Loader:
    """One directory being loaded. ``sizes``: its files by name."""

    def __init__(
        self, disk: Disk, directory: str, rules: LogRules, now_ms: int, log_start: int
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.rules = rules
        self.now_ms = now_ms
        self.log_start = log_start
        self.sizes: dict[str, int] = {}
        self.retired: list[str] = []
        self.changed: list[Segment] = []
        self.dropped: list[Segment] = []
        self.unindexed: list[Segment] = []
        self.epochs_lost = False
        self.snapshots = UnprovenSnapshots(disk, directory, ())

    def load(self, name: names.PartitionDirectory, recovery_point: int, clean: bool) -> LoadedLog:
        self.sizes = self._list()
        if names.QUARANTINE in self.sizes:
            reason = self._read(names.QUARANTINE) or b"unknown"
            raise QuarantinedLog(self.directory, reason.decode(errors="replace").strip())
        if finish_leftovers(self.disk, self.directory, self.sizes, self.rules, self.now_ms):
            self.sizes = self._list()
        epochs = self._load_epochs()
        checkpointed = list(epochs.entries)
        segments = self._open_segments()
        self._drop_before_start(segments)
        try:
            producers, end = self._load_end(segments, recovery_point, epochs, clean)
        except (CorruptBatch, UnsupportedMagic) as error:
            raise CorruptLog(self.directory, 0, str(error)) from error
        if end < recovery_point:
            log.error(
                "log ends below its recovery point",
                directory=self.directory,
                log_end_offset=end,
                recovery_point=recovery_point,
            )
        if end < self.log_start:
            self._start_again(segments, epochs, producers)
            end = self.log_start
        log_start = max(self.log_start, segments.first.base_offset)
        # In this order: where no record is left, so is no epoch, and the next recovery finds the same.
        epochs.truncate_from_start(log_start)
        epochs.truncate_from_end(end)
        unsynced, paths = self._finish(producers, end, clean)
        if not self.epochs_lost and unsynced and epochs.entries == checkpointed:
            epochs.changed = False  # the file stays; but whether it was synced is not known
            paths += (f"{self.directory}/{names.LEADER_EPOCH_CHECKPOINT}",)
        return LoadedLog(
            topic=name.topic,
            partition=name.partition,
            topic_id=self._topic_id(),
            rules=self.rules,
            segments=segments,
            epochs=epochs,
            producers=producers,
            log_start_offset=log_start,
            log_end_offset=end,
            flushed_end_offset=min(recovery_point, end) if unsynced else end,
            unsynced=unsynced,
            unsynced_paths=paths,
            retired=tuple(self.retired),
        )

    def _list(self) -> dict[str, int]:
        entries = self.disk.entries(self.directory)
        return {entry.name: entry.size_bytes for entry in entries if not entry.is_directory}

    def _read(self, name: str) -> bytes | None:
        """A small file's content, None if there is none (or it is absurdly large)."""
        if name not in self.sizes or self.sizes[name] > _SMALL_FILE_BYTES_MAX:
            return None
        return self.disk.read_file(f"{self.directory}/{name}", _SMALL_FILE_BYTES_MAX)

    def _remove(self, name: str, why: str) -> None:
        log.info("leftover file removed", path=f"{self.directory}/{name}", reason=why)
        self.disk.remove(f"{self.directory}/{name}")
        self.sizes.pop(name, None)

    # Segments

    def _open_segments(self) -> Segments:
        """A segment for every ``.log``, with both indexes; a first one if there is none."""
        bases = sorted(
            offset
            for name in self.sizes
            if name.endswith(names.LOG_SUFFIX) and (offset := names.offset_of(name)) is not None
        )
        for name in list(self.sizes):
            offset = names.offset_of(name)
            if offset is not None and name.endswith(names.SEGMENT_SUFFIXES) and offset not in bases:
                self._remove(name, "no log file beside it")
        if not bases:
            segment = Segment(self.disk, self.directory, self.log_start, self.rules, self.now_ms)
            segment.create()
            return Segments([segment])
        return Segments([self._open_segment(base) for base in bases])

    def _drop_before_start(self, segments: Segments) -> None:
        """Segments that end before the log's start were deleted: a power loss brings back any of their names.

        Recovery would take the gaps between them for torn ones, and drop all that follows.
        """
        bases = [segment.base_offset for segment in segments]
        count = sum(following <= self.log_start for following in bases[1:])
        if count:
            log.info("deleted segments are back", directory=self.directory, count=count)
            self._retire(segments.remove_first(count))

    def _open_segment(self, base_offset: int) -> Segment:
        size, index, time_index = (
            self.sizes.get(names.file_name(base_offset, suffix))
            for suffix in (names.LOG_SUFFIX, names.INDEX_SUFFIX, names.TIME_INDEX_SUFFIX)
        )
        assert size is not None
        try:
            segment = self._segment(base_offset, size, index, time_index)
        except CorruptIndex as error:
            log.warning("index ignored", directory=self.directory, reason=str(error))
            segment, index = self._segment(base_offset, size, None, None), None
        if size and (index is None or time_index is None):
            self.unindexed.append(segment)
        return segment

    def _segment(
        self, base_offset: int, size: int, index: int | None, time_index: int | None
    ) -> Segment:
        return Segment(
            self.disk,
            self.directory,
            base_offset,
            self.rules,
            self.now_ms,
            size_bytes=size,
            index_bytes=index,
            time_index_bytes=time_index,
        )

    # The end of the log

    def _load_end(
        self, segments: Segments, recovery_point: int, epochs: LeaderEpochs, clean: bool
    ) -> tuple[ProducerState, int]:
        """Where the log ends, and the producers' state there."""
        all_read = False
        if clean:
            end = self._clean_end(segments, recovery_point, epochs)
            self._remove_stray_snapshots(segments)
            producers = self._load_producers(segments, end)
        else:
            self.snapshots = UnprovenSnapshots(self.disk, self.directory, self._snapshots())
            producers, end, dropped = recover_segments(
                self.disk,
                self.directory,
                segments,
                recovery_point,
                self.log_start,
                epochs,
                self.snapshots,
            )
            read = segments.from_offset(recovery_point)
            self.changed += read
            all_read = len(read) == len(segments)
            self._retire(dropped)
        for segment in self.unindexed:
            if segment not in self.changed and segment not in self.dropped:
                self._scan(segment, recovery_point, epochs)
        if self.epochs_lost and end and not all_read:  # recovery notes them as it goes
            self._collect_epochs(segments, epochs)
        return producers, end

    def _clean_end(self, segments: Segments, recovery_point: int, epochs: LeaderEpochs) -> int:
        """After a clean stop: believe the files, and read only what tells where the log ends."""
        active = segments.active
        if active in self.unindexed:
            return self._scan(active, recovery_point, epochs)
        try:
            end = active.last_batch_end()
            _ = active.max_timestamp_ms
        except (CorruptIndex, CorruptBatch, UnsupportedMagic) as error:
            log.warning("active segment is checked", directory=self.directory, reason=str(error))
            return self._scan(active, recovery_point, epochs)
        return end

    def _scan(self, segment: Segment, recovery_point: int, epochs: LeaderEpochs) -> int:
        """Check one segment batch by batch and rebuild its indexes; returns where it ends."""
        scan = SegmentScan(segment, recovery_point, epochs, ProducerState())
        scan.run()
        self.changed.append(segment)
        return scan.next_offset

    def _load_producers(self, segments: Segments, end: int) -> ProducerState:
        """A clean stop left a snapshot at the end; one without any never had a producer to remember."""
        snapshots = self._snapshots()
        if not snapshots:
            return ProducerState(end)
        return rebuild_producers(
            self.disk, self.directory, segments, self.log_start, end, snapshots=snapshots
        )

    def _snapshots(self) -> list[int]:
        return [
            offset
            for name in self.sizes
            if name.endswith(names.SNAPSHOT_SUFFIX)
            and (offset := names.offset_of(name)) is not None
        ]

    def _remove_stray_snapshots(self, segments: Segments) -> None:
        for offset in stray_snapshots(
            self._snapshots(), [segment.base_offset for segment in segments]
        ):
            self._remove(names.file_name(offset, names.SNAPSHOT_SUFFIX), "belongs to no segment")

    def _start_again(
        self, segments: Segments, epochs: LeaderEpochs, producers: ProducerState
    ) -> None:
        """All that is left lies before the log's start: begin an empty log there."""
        log.warning("log begins again", directory=self.directory, log_start_offset=self.log_start)
        segment = Segment(self.disk, self.directory, self.log_start, self.rules, self.now_ms)
        self._retire(list(segments))
        segment.create()
        segments.replace_all(segment)
        epochs.clear()
        producers.clear(self.log_start)
        self.changed.append(segment)

    def _retire(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.retired += segment.retire()
            self.dropped.append(segment)

    def _finish(
        self, producers: ProducerState, end: int, clean: bool
    ) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        """Write what recovery found out; returns the segments and files that are not synced yet."""
        changed = tuple(segment for segment in self.changed if segment not in self.dropped)
        for segment in changed:
            if clean or segment.is_indexed_on_disk:
                segment.end_appends()
            segment.close()
        if clean:
            return changed, ()
        producers.end_offset = end
        if producers.producers or self._snapshots():  # else the clean stop takes the first one
            self.snapshots.take(producers)
        self.snapshots.end()
        kept = self.snapshots.proven
        if self.snapshots.older or self.retired:  # some of which may be gone by now
            kept = snapshot_offsets(self.disk, self.directory)
        return changed, tuple(snapshot_path(self.directory, offset) for offset in kept)

    # Small files

    def _topic_id(self) -> bytes:
        content = self._read(names.PARTITION_METADATA)
        if content is None:
            return ZERO_ID
        try:
            return decode_partition_metadata(content)
        except CorruptCheckpoint as error:
            log.warning(
                "partition.metadata is unusable", directory=self.directory, reason=str(error)
            )
            return ZERO_ID

    def _load_epochs(self) -> LeaderEpochs:
        content = self._read(names.LEADER_EPOCH_CHECKPOINT)
        if content is not None:
            try:
                return LeaderEpochs(decode_epochs(content))
            except CorruptCheckpoint as error:
                log.warning("leader epochs unusable", directory=self.directory, reason=str(error))
        self.epochs_lost = True
        return LeaderEpochs()

    def _collect_epochs(self, segments: Segments, epochs: LeaderEpochs) -> None:
        """The checkpoint is gone: the batches tell the same, for the price of all their headers."""
        epochs.clear()
        for segment in segments:
            for _, header in segment.headers():
                if header.leader_epoch > epochs.latest:
                    epochs.assign(header.leader_epoch, header.base_offset)

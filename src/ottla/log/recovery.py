"""Finding out what of a log is whole after an unclean stop, batch by batch.

The rules kept here (INVARIANTS 21-24, ``LogLoader``, ``LogSegment.recover``):

- Every segment from the recovery point's on is read whole: header, checksum, order of offsets. The first
  batch that does not hold ends the log: it is a torn tail, cut off with all that follows it. Where only zeros
  follow, that is room for batches to come (``room``), cut off as well, and nothing to tell of.
- The same below the recovery point is no torn tail but damage: those bytes were synced once. Nothing is
  cut; ``CorruptLog`` is raised, and the partition is left as it is for somebody to look at.
- Every batch before the cut stays. Indexes and producer state are made anew from the batches, so that
  recovering twice gives the same bytes.

Files come in large pieces and checksums run over them in place: a gigabyte takes about a second.
"""

from __future__ import annotations

from functools import partial
from struct import Struct

from ottla.errors import ErrorCode, KafkaError
from ottla.log.disk import Disk
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.names import SNAPSHOT_SUFFIX, offset_of
from ottla.log.producer_state import ProducerState
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.log.snapshots import UnprovenSnapshots, load_newest, snapshot_path
from ottla.logs import logger
from ottla.records.batch import (
    CRC_COVERS_FROM,
    HEADER_BYTES,
    BatchHeader,
    CorruptBatch,
    UnsupportedMagic,
    read_header,
)
from ottla.records.crc import crc32c

log = logger(__name__)

_CHUNK_BYTES = 1 << 20
_LEGACY = Struct(">qiI")  # offset, size, CRC-32 of what follows
_LEGACY_CRC_COVERS_FROM = 16


class CorruptLog(KafkaError):
    """Bytes that were synced once are damaged: the partition must not be served.

    KAFKA_STORAGE_ERROR. ``path`` and ``position`` say where the damage begins.
    """

    def __init__(self, path: str, position: int, reason: str) -> None:
        self.path = path
        self.position = position
        super().__init__(
            ErrorCode.KAFKA_STORAGE_ERROR, f"{path} is damaged at byte {position}: {reason}"
        )


class SegmentScan:
    """One pass over a segment's file that keeps what is whole.

    ``next_offset`` is where the log goes on, ``position`` the end of what is whole.
    """

    __slots__ = (
        "_epochs",
        "_limit_offset",
        "_producers",
        "_recovery_point",
        "_segment",
        "file_bytes",
        "latest_epoch",
        "next_offset",
        "position",
    )

    def __init__(
        self,
        segment: Segment,
        recovery_point: int,
        epochs: LeaderEpochs,
        producers: ProducerState,
        latest_epoch: int = -1,
        limit_offset: int | None = None,
    ) -> None:
        """``latest_epoch``: of the batch before, -1 if unknown. ``producers``: as of the segment's start.

        ``limit_offset``: where the next segment begins, if there is one.
        """
        self._segment = segment
        self._recovery_point = recovery_point
        self._epochs = epochs
        self._producers = producers
        self._limit_offset = limit_offset
        self.latest_epoch = latest_epoch
        self.next_offset = segment.base_offset
        self.position = 0
        self.file_bytes = segment.size_bytes

    def run(self, *, again: bool = False) -> int:
        """Rebuild the segment from what is whole; returns the bytes cut off.

        ``again``: the next start would do it all again, should this one not come to its end.

        Raises ``CorruptLog`` (the file is untouched then) and ``OSError``.
        """
        segment = self._segment
        segment.forget_batches(over=again)
        reason = self._scan()
        # The indexes of an active segment that has none on disk stay in memory, as they were: with very many partitions
        # the making of their files would take most of the start's time.
        if segment.is_indexed_on_disk or self._limit_offset is not None or not again:
            segment.end_appends()
        if reason is None:
            return 0
        if self.next_offset < self._recovery_point:
            raise CorruptLog(segment.log_file.path, self.position, reason)
        cut = self.file_bytes - self.position
        is_room = segment.log_file.is_room(self.position, self.file_bytes)
        segment.log_file.truncate(self.position)
        if is_room:
            return cut
        log.warning(
            "torn tail cut off",
            path=segment.log_file.path,
            position=self.position,
            bytes_cut=cut,
            next_offset=self.next_offset,
            reason=reason,
        )
        return cut

    def _scan(self) -> str | None:
        """Note batch after batch; None at the end of the file, or why the next one does not hold."""
        file = self._segment.log_file
        chunk_bytes = _CHUNK_BYTES
        while self.position < self.file_bytes:
            chunk = file.read_at(min(chunk_bytes, self.file_bytes - self.position), self.position)
            if not chunk:
                return "the file ends early"
            at_end = self.position + len(chunk) >= self.file_bytes
            try:
                missing = self._scan_chunk(memoryview(chunk), at_end)
            except UnsupportedMagic as error:
                self._refuse_legacy(error)
                return str(error)
            except CorruptBatch as error:
                return str(error)
            chunk_bytes = max(_CHUNK_BYTES, missing)
        return None

    def _scan_chunk(self, chunk: memoryview, at_end: bool) -> int:
        """Note the batches that lie in ``chunk``; returns the size that the next one needs.

        Raises ``CorruptBatch`` at the first one that does not hold.
        """
        at, end = 0, len(chunk)
        while at < end:
            if end - at < HEADER_BYTES and not at_end:
                return HEADER_BYTES
            header = read_header(chunk, at)
            size = header.size_bytes
            if at + size > end:
                if self.position + size > self.file_bytes:
                    raise CorruptBatch(
                        f"a batch of {size} bytes begins {self.file_bytes - self.position} before the end"
                    )
                return size
            if crc32c(chunk[at + CRC_COVERS_FROM : at + size]) != header.crc:
                raise CorruptBatch("wrong checksum")
            self._check_order(header)
            self._note(header, chunk[at : at + size])
            at += size
        return HEADER_BYTES

    def _check_order(self, header: BatchHeader) -> None:
        """Raise ``CorruptBatch`` where a batch, whole in itself, can't be the next one (KAFKA-3919).

        Offsets ascend, and stay before the next segment's. Leader epochs ascend too; but only behind the
        recovery point is one that does not a leftover of what was cut off there in an earlier life.
        """
        if header.base_offset < self.next_offset or header.last_offset_delta < 0:
            raise CorruptBatch(
                f"offset {header.base_offset} does not follow {self.next_offset - 1}"
            )
        if self._limit_offset is not None and header.last_offset >= self._limit_offset:
            raise CorruptBatch(f"the next segment begins at offset {self._limit_offset} already")
        if not self._segment.offset_index.can_hold(header.last_offset):
            raise CorruptBatch(f"offset {header.last_offset} is too far from the base offset")
        stale = 0 <= header.leader_epoch < self.latest_epoch
        if stale and header.base_offset >= self._recovery_point:
            raise CorruptBatch(f"leader epoch {header.leader_epoch} after {self.latest_epoch}")

    def _note(self, header: BatchHeader, batch: memoryview) -> None:
        size, last_offset = len(batch), header.last_offset
        epoch = header.leader_epoch
        self._segment.note_batch(size, header.base_offset, last_offset, header.max_timestamp_ms)
        if epoch > self._epochs.latest:
            self._epochs.assign(epoch, header.base_offset)
        if epoch > self.latest_epoch:
            self.latest_epoch = epoch
        if header.producer_id >= 0:
            self._producers.replay(header, lambda: batch)
        self.next_offset = self._producers.end_offset = last_offset + 1
        self.position += size

    def _refuse_legacy(self, error: UnsupportedMagic) -> None:
        """A whole message of format 0 or 1 is no torn tail: such a log is not for us to cut."""
        import zlib

        file = self._segment.log_file
        head = file.read_at(_LEGACY.size, self.position)
        _, size, checksum = _LEGACY.unpack(head)
        if _LEGACY_CRC_COVERS_FROM - 4 < size <= self.file_bytes - self.position:
            body = file.read_at(size - 4, self.position + _LEGACY_CRC_COVERS_FROM)
            if zlib.crc32(body) == checksum:
                raise CorruptLog(file.path, self.position, str(error)) from error


def recover_segments(
    disk: Disk,
    directory: str,
    segments: Segments,
    recovery_point: int,
    log_start_offset: int,
    epochs: LeaderEpochs,
    snapshots: UnprovenSnapshots,
) -> tuple[ProducerState, int, list[Segment]]:
    """Recover all from the recovery point's segment on, in place.

    ``snapshots``: those that are there; who calls ends them once all is done, or given up.

    Returns the producers' state, the log's end, and the segments behind a cut that lost records, which
    are out of ``segments`` now. Raises ``CorruptLog`` and ``OSError``.
    """
    unsafe = segments.from_offset(recovery_point)
    first = unsafe[0].base_offset
    older = snapshots.begin(first)
    producers = rebuild_producers(
        disk, directory, segments, log_start_offset, first, snapshots=older
    )
    epochs.truncate_from_end(first)  # the batches tell them again
    latest_epoch = -1
    end_offset = first
    for number, segment in enumerate(unsafe):
        producers.end_offset = segment.base_offset
        if segment.base_offset > log_start_offset:
            snapshots.take(producers)
        following = unsafe[number + 1] if number + 1 < len(unsafe) else None
        limit = following.base_offset if following is not None else None
        scan = SegmentScan(segment, recovery_point, epochs, producers, latest_epoch, limit)
        cut = scan.run(again=True)
        latest_epoch, end_offset = scan.latest_epoch, scan.next_offset
        if following is None or following.base_offset == end_offset:
            continue
        # What is missing before the log's start was deleted.
        missing_from = max(end_offset, log_start_offset)
        if cut or _is_torn_gap(following, missing_from, recovery_point):
            return producers, end_offset, _drop_behind(segments, segment.base_offset, directory)
    return producers, end_offset, []


def _is_torn_gap(segment: Segment, missing_from: int, recovery_point: int) -> bool:
    """Whether a file is missing before ``segment`` because its name was never synced.

    Below the recovery point, and where compaction may have taken all of a segment, a gap is a gap.
    """
    if missing_from < recovery_point or segment.rules.compact:
        log.warning(
            "log has a gap", path=segment.log_file.path, first=missing_from, end=segment.base_offset
        )
        return False
    return True


def _drop_behind(segments: Segments, offset: int, directory: str) -> list[Segment]:
    dropped = segments.remove_behind(offset)
    log.warning(
        "segments behind a torn tail dropped",
        directory=directory,
        segments=[one.base_offset for one in dropped],
        bytes_dropped=sum(one.size_bytes for one in dropped),
    )
    return dropped


def snapshot_offsets(disk: Disk, directory: str) -> list[int]:
    """The offsets of the snapshots in a partition's directory, in no order."""
    found = []
    for entry in disk.entries(directory):
        offset = offset_of(entry.name)
        if offset is not None and entry.name.endswith(SNAPSHOT_SUFFIX):
            found.append(offset)
    return found


def rebuild_producers(
    disk: Disk,
    directory: str,
    segments: Segments,
    log_start_offset: int,
    end_offset: int,
    *,
    snapshots: list[int] | None = None,
) -> ProducerState:
    """The producers' state as of ``end_offset``: the newest usable snapshot and the batches behind it.

    ``snapshots``: the offsets of the snapshots, where they are known. Those behind ``end_offset`` are
    removed. Raises ``CorruptBatch``, ``OSError``.
    """
    offsets = snapshots if snapshots is not None else snapshot_offsets(disk, directory)
    remove_snapshots_behind(disk, directory, end_offset, offsets)
    state, _ = load_newest(disk, directory, offsets, end_offset)
    if state is None:
        state = ProducerState(log_start_offset)
    replay_from = max(state.end_offset, log_start_offset)
    if replay_from < end_offset:
        for segment in segments.from_offset(replay_from):
            if segment.base_offset >= end_offset:
                break
            _replay_segment(segment, state, replay_from, end_offset)
    state.end_offset = end_offset
    return state


def remove_snapshots_behind(
    disk: Disk, directory: str, end_offset: int, offsets: list[int] | None = None
) -> None:
    """Remove the snapshots of what is not in the log any more. Raises ``OSError``."""
    for offset in offsets if offsets is not None else snapshot_offsets(disk, directory):
        if offset > end_offset:
            disk.remove(snapshot_path(directory, offset))


def replay_producers(
    disk: Disk, directory: str, segments: list[Segment], log_start_offset: int, offset: int
) -> ProducerState:
    """The producers' state of the batches that end before ``offset``; its ``end_offset`` is where they end.

    As ``rebuild_producers``, but that it changes nothing, and uses no index: it may run in a thread while the log is
    read, and appended to behind ``offset``. Raises ``CorruptBatch`` (or ``UnsupportedMagic``), ``OSError``.
    """
    state, _ = load_newest(disk, directory, snapshot_offsets(disk, directory), offset)
    if state is None:
        state = ProducerState(log_start_offset)
    replay_from = end = max(state.end_offset, log_start_offset)
    ends = [segment.base_offset for segment in segments[1:]] + [offset]
    for segment, segment_end in zip(segments, ends, strict=True):
        if segment_end <= replay_from or segment.base_offset >= offset:
            continue
        for position, header in segment.headers():
            if header.last_offset >= offset:
                break
            if header.base_offset < replay_from:
                continue
            if header.producer_id >= 0:
                state.replay(header, partial(segment.read_batch, position, header.size_bytes))
            end = header.next_offset
    state.end_offset = end
    return state


def _replay_segment(
    segment: Segment, state: ProducerState, from_offset: int, end_offset: int
) -> None:
    start = segment.find(from_offset)
    if start is None:
        return
    for position, header in segment.headers(start.position):
        if header.base_offset >= end_offset:
            return
        if header.producer_id >= 0 and header.base_offset >= from_offset:
            size = header.size_bytes
            state.replay(header, partial(segment.read_batch, position, size))

"""One segment: a ``.log`` file of batches, its two indexes, and what is known of them in memory.

The rules kept here:

- Bytes that are not whole are never visible: ``size_bytes`` moves only after the write, and what a
  failed write left is cut off again. Where even that fails, ``TornWrite`` says so.
- An index that cannot be is rebuilt from the batches and the look-up goes on.
- Positions are those of batch starts; a batch is found by the first one whose last offset is at or
  behind the wanted offset, so a compacted or cut log reads as Kafka's does.

A segment belongs to the log's thread, regions aside. Source: ``LogSegment``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from ottla.log.disk import Disk
from ottla.log.files import File
from ottla.log.names import (
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    file_name,
)
from ottla.log.offset_index import ENTRY_BYTES as OFFSET_ENTRY_BYTES
from ottla.log.offset_index import OffsetIndex
from ottla.log.regions import SegmentRegion
from ottla.log.rules import LogRules
from ottla.log.scanning import BatchPlace, find_batch, no_batch, scan_headers
from ottla.log.sparse_index import RELATIVE_OFFSET_MAX, CorruptIndex
from ottla.log.time_index import ENTRY_BYTES as TIME_ENTRY_BYTES
from ottla.log.time_index import TimeIndex
from ottla.logs import logger
from ottla.records.batch import (
    LOG_OVERHEAD_BYTES,
    BatchHeader,
    Bytes,
    CorruptBatch,
    UnsupportedMagic,
)

log = logger(__name__)

_RECENT_MAX = 128


class TornWrite(OSError):
    """A write failed, and what it left in the file could not be cut off: the file is not usable."""


class Segment:
    """The batches from ``base_offset`` on.

    ``size_bytes`` is the end of what is valid. ``offset_index`` and ``time_index`` are the indexes.
    """

    __slots__ = (
        "_before_gathered",
        "_bytes_since_index",
        "_disk",
        "_first_timestamp_ms",
        "_gathered",
        "_gathered_from",
        "_max_timestamp_ms",
        "_max_timestamp_offset",
        "_recent_offsets",
        "_recent_positions",
        "base_offset",
        "created_ms",
        "gathered_bytes",
        "jitter_ms",
        "log_file",
        "offset_index",
        "rules",
        "size_bytes",
        "time_index",
    )

    def __init__(
        self,
        disk: Disk,
        directory: str,
        base_offset: int,
        rules: LogRules,
        now_ms: int,
        *,
        size_bytes: int = 0,
        index_bytes: int | None = None,
        time_index_bytes: int | None = None,
    ) -> None:
        """The segment of the files in ``directory`` that have these sizes, None where there is none.

        Touches no file: ``create`` makes those of a new segment, but for the ``.timeindex``, which comes
        with the first ``end_appends``.

        Raises ``CorruptIndex`` if an index file's size cannot be.
        """
        stem = f"{directory}/"
        self._disk = disk
        self.rules = rules
        self.base_offset = base_offset
        self.size_bytes = size_bytes
        self.created_ms = now_ms
        self.jitter_ms = rules.jitter_ms(directory, base_offset) if rules.segment_jitter_ms else 0
        self.log_file = disk.file(stem + file_name(base_offset, LOG_SUFFIX))
        self.offset_index = OffsetIndex(
            disk.file(stem + file_name(base_offset, INDEX_SUFFIX)), base_offset, index_bytes
        )
        self.time_index = TimeIndex(
            disk.file(stem + file_name(base_offset, TIME_INDEX_SUFFIX)),
            base_offset,
            time_index_bytes,
        )
        self._first_timestamp_ms: int | None = None
        self._max_timestamp_ms: int | None = None
        self._max_timestamp_offset = base_offset
        self._bytes_since_index = 0
        self._gathered: list[Bytes] | None = None
        self._gathered_from = base_offset
        self._before_gathered = (-1, base_offset)
        self.gathered_bytes = 0
        """How many of ``size_bytes`` are not in the file yet: see ``append_gathered``."""
        self._recent_offsets: array[int] | None = None
        self._recent_positions: array[int] | None = None

    def __repr__(self) -> str:
        return f"Segment({self.log_file.path!r}, {self.size_bytes} bytes)"

    def create(self) -> None:
        """Make the ``.log`` file and an empty ``.index``. Raises ``OSError`` and leaves neither.

        Apache Kafka takes a missing ``.index`` for damage, and recovers that segment before all others.
        """
        try:
            self.log_file.create()
            self.offset_index.write_out()
        except OSError:
            self._disk.remove(self.log_file.path)
            self._disk.remove(self.offset_index.file.path)
            raise
        self.offset_index.file.close()

    # Appending

    def append(
        self, records: Bytes, base_offset: int, last_offset: int, max_timestamp_ms: int
    ) -> None:
        """Write one batch that already has its place stamped on it, and index it if it is time.

        Raises ``OSError`` (nothing is appended) or ``TornWrite`` (the file must not be used).
        """
        position = self.size_bytes
        try:
            self.log_file.write_at(records, position)
        except OSError as error:
            self._cut_back(error)
            raise
        self.note_batch(len(records), base_offset, last_offset, max_timestamp_ms)

    def append_gathered(
        self, records: Bytes, base_offset: int, last_offset: int, max_timestamp_ms: int
    ) -> None:
        """As ``append``, but the batch is only in memory until ``write_gathered``: no write can fail yet.

        Until then the file lacks what ``size_bytes`` and the indexes say: nobody may read it meanwhile.
        Raises ``OSError``, ``CorruptBatch`` (the largest timestamp cannot be found): nothing is gathered.
        """
        if self._gathered is None:
            before = self.max_timestamp_ms, self._max_timestamp_offset
            self.note_batch(len(records), base_offset, last_offset, max_timestamp_ms)
            self._gathered = [records]
            self._gathered_from = base_offset
            self._before_gathered = before
        else:
            self.note_batch(len(records), base_offset, last_offset, max_timestamp_ms)
            self._gathered.append(records)
        self.gathered_bytes += len(records)

    def write_gathered(self) -> None:
        """Write the gathered batches with one call. Raises ``OSError``: then ``drop_gathered``."""
        gathered = self._gathered
        if gathered is None:
            return
        data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        self.log_file.write_at(data, self.size_bytes - self.gathered_bytes)
        self._gathered = None
        self.gathered_bytes = 0

    def drop_gathered(self, now_ms: int) -> int:
        """Forget the gathered batches, and cut off what a failed write has left; the first one's offset.

        Raises ``OSError`` (the file must not be used), ``CorruptIndex``, ``CorruptBatch``.
        """
        position = self.size_bytes - self.gathered_bytes
        self._gathered = None
        self.gathered_bytes = 0
        self.size_bytes = position
        self._recent_offsets = self._recent_positions = None
        self._cut_to(self._gathered_from, position, now_ms, self._before_gathered)
        return self._gathered_from

    def append_run(self, records: Bytes, headers: list[BatchHeader]) -> None:
        """Write several batches with one call. Raises as ``append`` does, with none of them kept."""
        try:
            self.log_file.write_at(records, self.size_bytes)
        except OSError as error:
            self._cut_back(error)
            raise
        for header in headers:
            self.note_batch(
                LOG_OVERHEAD_BYTES + header.length,
                header.base_offset,
                header.base_offset + header.last_offset_delta,
                header.max_timestamp_ms,
            )

    def note_batch(
        self, size_bytes: int, base_offset: int, last_offset: int, max_timestamp_ms: int
    ) -> None:
        """Take account of a batch that lies at the end of what was known of the file."""
        position = self.size_bytes
        if position == 0:
            self._first_timestamp_ms = max_timestamp_ms
        largest_ms = self._max_timestamp_ms
        if largest_ms is None:
            largest_ms = self._load_max_timestamp()
        if max_timestamp_ms > largest_ms:
            self._max_timestamp_ms = largest_ms = max_timestamp_ms
            self._max_timestamp_offset = last_offset
        since_index = self._bytes_since_index
        if since_index > self.rules.index_interval_bytes:
            self.offset_index.append(last_offset, position)
            self.time_index.maybe_append(largest_ms, self._max_timestamp_offset)
            since_index = 0
        self._bytes_since_index = since_index + size_bytes
        self.size_bytes = position + size_bytes
        offsets, positions = self._recent_offsets, self._recent_positions
        if offsets is None or positions is None:
            self._recent_offsets = array("q", (base_offset,))
            self._recent_positions = array("q", (position,))
            return
        offsets.append(base_offset)
        positions.append(position)
        if len(offsets) >= _RECENT_MAX:
            del offsets[: _RECENT_MAX // 2], positions[: _RECENT_MAX // 2]

    def _cut_back(self, error: OSError) -> None:
        try:
            self.log_file.truncate(self.size_bytes)
        except OSError as failed:
            raise TornWrite(
                failed.errno,
                f"{self.log_file.path}: after {error}, could not be cut back: {failed}",
            ) from error

    def should_roll(
        self, size_bytes: int, max_timestamp_ms: int, last_offset: int, now_ms: int
    ) -> bool:
        """Whether a batch of this size, time and last offset belongs into another segment.

        By size, by age (from the first batch's timestamp; by the clock where it has none), because an
        index is full, or because the offset is too far from the base offset.
        """
        rules, size = self.rules, self.size_bytes
        if size > rules.segment_bytes - size_bytes:
            return True
        if last_offset - self.base_offset > RELATIVE_OFFSET_MAX:
            return True
        if size == 0:
            return False
        first = self._first_timestamp_ms
        if first is None:
            first = self._load_first_timestamp()
        waited_ms = max_timestamp_ms - first if first >= 0 else now_ms - self.created_ms
        if waited_ms > rules.segment_ms - self.jitter_ms:
            return True
        index_bytes = rules.segment_index_bytes  # ``is_full`` of both, without the calls
        return (
            self.offset_index.entries >= index_bytes // OFFSET_ENTRY_BYTES
            or self.time_index.entries >= index_bytes // TIME_ENTRY_BYTES - 1
        )

    def may_fill_indexes(self, size_bytes: int) -> bool:
        """Whether batches of so many bytes might leave no room in an index: a roll would come amid them."""
        rules = self.rules
        entries = size_bytes // (rules.index_interval_bytes + 1) + 1
        room = rules.segment_index_bytes - entries * TIME_ENTRY_BYTES
        return self.offset_index.is_full(room) or self.time_index.is_full(room)

    def end_appends(self) -> bool:
        """The segment is rolled or closed: write the indexes out, the largest timestamp last.

        Returns whether there was anything to do. Raises ``OSError``, and may be called again.
        """
        if self.size_bytes:
            self.time_index.maybe_append(self.max_timestamp_ms, self._max_timestamp_offset)
        return self.log_file.cut_room(self.size_bytes) | self.write_indexes()

    @property
    def files_there(self) -> list[File]:
        """Of its files those that were made."""
        indexes = (self.offset_index, self.time_index)
        return [self.log_file, *(index.file for index in indexes if index.has_file)]

    @property
    def is_indexed_on_disk(self) -> bool:
        """Whether its index files hold anything, if only of an earlier life; what is newer is in memory."""
        return self.time_index.has_file or self.offset_index.is_in_file

    def write_indexes(self) -> bool:
        """Write what is only in memory of the indexes; whether there was any. Raises ``OSError``."""
        offsets_written = self.offset_index.write_out()
        return self.time_index.write_out() or offsets_written

    # Finding

    def find(self, offset: int) -> BatchPlace | None:
        """The first batch whose last offset is at least ``offset``; None if there is none.

        Raises ``CorruptBatch`` where the file holds no batch although one must be there.
        """
        recent = self._recent_offsets
        if recent and self._recent_positions and offset >= recent[0]:
            position = self._recent_positions[bisect_right(recent, offset) - 1]
            return self._scan_for(offset, position)
        try:
            position = self.offset_index.lookup(offset)
            place = self._scan_for(offset, position)
            if position and self._is_misled(offset, position, place):
                raise CorruptIndex(f"{self.offset_index.file.path} leads past offset {offset}")
            return place
        except (CorruptIndex, CorruptBatch) as error:
            self.rebuild_indexes(str(error))
        return self._scan_for(offset, 0)

    def _is_misled(self, offset: int, position: int, place: BatchPlace | None) -> bool:
        """Whether an index entry cannot be that led from ``offset`` to ``position``, and on to ``place``.

        The batch (Kafka's followers: batches) that an entry tells of ends at or before ``offset``.
        """
        if position >= self.size_bytes:
            return True
        return place is not None and place.position == position and place.base_offset > offset

    def _scan_for(self, offset: int, position: int) -> BatchPlace | None:
        return find_batch(self.log_file, self.base_offset, self.size_bytes, offset, position)

    def headers(self, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
        """The position and header of each batch from the one at ``position`` on.

        Checksums are not verified. Raises ``CorruptBatch`` (or ``UnsupportedMagic``).
        """
        return scan_headers(self.log_file, self.base_offset, self.size_bytes, position)

    def read_batch(self, position: int, size_bytes: int) -> bytes:
        """The bytes of the batch at ``position``. Raises ``CorruptBatch`` if they are not there."""
        data = self.log_file.read_at(size_bytes, position)
        if len(data) < size_bytes:
            raise no_batch(self.log_file, position)
        return data

    def region(self, position: int, size_bytes: int) -> SegmentRegion:
        """These bytes of the file, pinned until the region is closed. Raises ``OSError``."""
        return SegmentRegion(self._disk, self.log_file, position, size_bytes)

    def last_batch_end(self) -> int:
        """The offset behind the last batch, found from the last index entry on.

        Sets right what an append needs to know (how long ago the last index entry was). The base
        offset if the segment is empty. Raises ``CorruptBatch``, ``CorruptIndex``.
        """
        next_offset = self.base_offset
        if self.size_bytes:
            indexed_offset, indexed = self.offset_index.last()
            if indexed >= self.size_bytes:
                raise CorruptIndex(f"{self.offset_index.file.path} points behind the log's end")
            for position, header in self.headers(indexed):
                next_offset = header.next_offset
                if position == indexed and header.base_offset > indexed_offset > self.base_offset:
                    raise CorruptIndex(f"{self.offset_index.file.path} points to another batch")
            self._bytes_since_index = self.size_bytes - indexed
        return next_offset

    # Time

    @property
    def max_timestamp_ms(self) -> int:
        """The largest timestamp of the segment's batches; -1 if none has one."""
        known = self._max_timestamp_ms
        return known if known is not None else self._load_max_timestamp()

    @property
    def max_timestamp_offset(self) -> int:
        """The last offset of the first batch with ``max_timestamp_ms``."""
        return self._max_timestamp_offset if self.max_timestamp_ms >= 0 else self.base_offset

    def largest_timestamp_ms(self) -> int:
        """For retention: the largest timestamp, or when the file was written if there is none."""
        known = self.max_timestamp_ms
        return known if known >= 0 else self._disk.modified_ms(self.log_file.path)

    def first_timestamp_ms(self) -> int:
        """The first batch's largest timestamp; -1 if it has none, or there is no batch."""
        known = self._first_timestamp_ms
        return known if known is not None else self._load_first_timestamp()

    def find_timestamp(self, timestamp_ms: int) -> Iterator[tuple[int, BatchHeader]]:
        """The batches with a record at or after ``timestamp_ms``, in order of offset.

        Raises ``CorruptBatch`` (or ``UnsupportedMagic``).
        """
        try:
            noted_ms, offset = self.time_index.lookup(timestamp_ms)
            position = self._noted(noted_ms, offset)
        except CorruptIndex as error:
            self.rebuild_indexes(str(error))
            try:
                position = self._noted(*self.time_index.lookup(timestamp_ms))
            except (
                CorruptIndex
            ) as still:  # an index made of the batches: so these contradict each other
                raise CorruptBatch(f"{self.log_file.path}: {still}") from still
        for found in self.headers(position):
            if found[1].max_timestamp_ms >= timestamp_ms:
                yield found

    def _noted(self, timestamp_ms: int, offset: int) -> int:
        """The position of the batch that an entry of the time index tells of; 0 for none.

        Raises ``CorruptIndex`` if there is no such batch.
        """
        if timestamp_ms < 0:
            return 0
        place = self.find(offset)
        if place is not None:
            header = next(self.headers(place.position))[1]
            if header.base_offset <= offset and header.max_timestamp_ms == timestamp_ms:
                return place.position
        raise CorruptIndex(
            f"{self.time_index.file.path} tells of no batch: {timestamp_ms}, {offset}"
        )

    def _load_max_timestamp(self) -> int:
        if not self.size_bytes:
            self._max_timestamp_ms = -1
            return -1
        try:
            if not self.time_index.entries:  # the roll or the close had written one
                raise CorruptIndex(f"{self.time_index.file.path} is empty")
            timestamp_ms, offset = self.time_index.last()
            self._noted(timestamp_ms, offset)
        except CorruptIndex as error:
            self.rebuild_indexes(str(error))
            return self.max_timestamp_ms
        self._max_timestamp_ms, self._max_timestamp_offset = timestamp_ms, offset
        return timestamp_ms

    def _load_first_timestamp(self) -> int:
        try:
            first = next((header.max_timestamp_ms for _, header in self.headers()), -1)
        except (CorruptBatch, UnsupportedMagic):
            first = -1  # whoever reads it will meet that; for a roll the clock will do
        self._first_timestamp_ms = first
        return first

    # Changing

    def forget_batches(self, *, over: bool = False) -> None:
        """Empty both indexes and what is known of the batches, before they are noted anew.

        ``over``: the indexes' files keep their bytes until new ones are written over them. Only for who
        does it all again should this process end before.
        """
        for index in (self.offset_index, self.time_index):
            if over:
                index.start_over()
            else:
                index.cut_to(0)
        self.size_bytes = 0
        self._first_timestamp_ms = None
        self._max_timestamp_ms = -1
        self._max_timestamp_offset = self.base_offset
        self._bytes_since_index = 0
        self._recent_offsets = self._recent_positions = None

    def rebuild_indexes(self, reason: str) -> None:
        """Make both indexes anew from the headers of the batches.

        Raises ``CorruptBatch`` if the batches themselves are damaged.
        """
        log.warning("index rebuilt", path=self.log_file.path, reason=reason)
        size_bytes = self.size_bytes
        headers = [header for _, header in self.headers()]
        if any(not self.offset_index.can_hold(header.last_offset) for header in headers):
            raise CorruptBatch(f"{self.log_file.path} has an offset that cannot be")
        self.forget_batches()
        for header in headers:
            self.note_batch(
                header.size_bytes, header.base_offset, header.last_offset, header.max_timestamp_ms
            )
        assert self.size_bytes == size_bytes
        self.end_appends()

    def truncate_to(self, offset: int, now_ms: int) -> int:
        """Drop the batches that end at or behind ``offset``; returns the bytes dropped.

        Raises ``OSError``; then the log directory must not be used further.
        """
        place = self.find(offset)
        if place is None:
            return 0
        dropped = self.size_bytes - place.position
        self._cut_to(offset, place.position, now_ms)
        return dropped

    def _cut_to(
        self, offset: int, position: int, now_ms: int, largest: tuple[int, int] | None = None
    ) -> None:
        """Cut the file at ``position``, where the first batch lies that ends at or behind ``offset``.

        ``largest``: the largest timestamp before it, and its offset, where they are known.
        """
        try:
            indexed = self._truncate_indexes(offset, position)
        except CorruptIndex as error:
            self.rebuild_indexes(str(error))
            indexed = self._truncate_indexes(offset, position)
        self.log_file.truncate(position)
        self.size_bytes = position
        self._recent_offsets = self._recent_positions = None
        self._bytes_since_index = self.size_bytes - indexed
        if not self.size_bytes:
            self.created_ms = now_ms
            self._first_timestamp_ms = None
        if largest is not None:
            self._max_timestamp_ms, self._max_timestamp_offset = largest
        else:
            self._read_max_timestamp()

    def _truncate_indexes(self, offset: int, position: int) -> int:
        """Cut both; returns the position of the last entry that stays, which is before ``position``."""
        self.offset_index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.time_index.last()
        indexed = self.offset_index.last()[1]
        if indexed and indexed >= position:
            raise CorruptIndex(f"{self.offset_index.file.path} points behind the cut")
        return indexed

    def _read_max_timestamp(self) -> None:
        """Find the largest timestamp from the last entry of the time index on."""
        largest_ms, offset = self.time_index.last()
        for _, header in self.headers(self.offset_index.lookup(offset)):
            if header.max_timestamp_ms > largest_ms:
                largest_ms, offset = header.max_timestamp_ms, header.last_offset
        self._max_timestamp_ms, self._max_timestamp_offset = largest_ms, offset

    def close(self) -> None:
        """Close the descriptors; they open again when needed."""
        for file in self.files:
            file.close()

    def retire(self, *, with_snapshot: bool = True) -> list[str]:
        """Rename the files (and the snapshot at the base offset) ``.deleted``; returns their paths.

        Regions that are being sent keep theirs. Raises ``OSError``; then it may be called again, and returns
        all paths.
        """
        directory = self.log_file.path.rpartition("/")[0]
        retired = []
        for file in self.files:
            try:
                if not file.path.endswith(DELETED_SUFFIX):
                    file.rename(file.path + DELETED_SUFFIX)
                retired.append(file.path)
            except FileNotFoundError:
                log.debug("segment has no such file", path=file.path)
        suffixes = (TRANSACTION_INDEX_SUFFIX, SNAPSHOT_SUFFIX)
        for suffix in suffixes if with_snapshot else suffixes[:1]:
            path = f"{directory}/{file_name(self.base_offset, suffix)}"
            try:
                self._disk.rename(path, path + DELETED_SUFFIX)
            except FileNotFoundError:
                if not self._disk.exists(path + DELETED_SUFFIX):
                    continue
            retired.append(path + DELETED_SUFFIX)
        for file in self.files:
            file.forget()
        return retired

    @property
    def files(self) -> tuple[File, File, File]:
        """The ``.log``, ``.index`` and ``.timeindex`` files."""
        return self.log_file, self.offset_index.file, self.time_index.file

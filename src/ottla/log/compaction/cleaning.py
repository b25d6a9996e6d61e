"""Making the cleaned segments of one log: read, decide by the newest offset of each key, write beside.

The rules kept here (``Cleaner``, KIP-280's classic part, KIP-534):

- The map is built over the dirty part, up to where it is full; what lies behind it is copied as it is.
- A record stays iff it is behind the map's end, or is its key's newest and no tombstone whose time is over.
  One without a key goes.
- The last batch of each active producer stays, if need be as a header. So does the last batch of each cleaned
  segment: its files tell where it ends, which is what a crash amid the swap is recovered by.
- Old segments are only read. New files are synced, and their names too, before anybody is told of them.
- A checksum is verified before a batch is believed; memory is the map and twice a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import ENOENT

from ottla.errors import KafkaError
from ottla.log import names
from ottla.log.compaction.job import (
    CORRUPT,
    DISK,
    GONE,
    UNCLEANABLE,
    CleanedGroup,
    CleaningCounts,
    CleaningDone,
    CleaningFailed,
    CleaningJob,
    SourceSegment,
    cleaned_path,
)
from ottla.log.compaction.offset_map import OffsetMap
from ottla.log.compaction.rewriting import DECOMPRESSED_BYTES_MAX, filter_batch
from ottla.log.compaction.sources import (
    SourceBatch,
    aborted_transactions,
    group_segments,
    read_source,
)
from ottla.log.compaction.transactions import CleanedTransactions, encode_aborted
from ottla.log.disk import Disk
from ottla.log.rules import LogRules
from ottla.log.segment import Segment
from ottla.log.sparse_index import RELATIVE_OFFSET_MAX
from ottla.records.batch import BatchHeader, CorruptBatch
from ottla.records.codec import RecordPlace, iter_places, plain_records
from ottla.settings.definitions import TopicConfig

LONG_MAX = 2**63 - 1


class Cleaning:
    """One job under way. ``run`` it once; ``counts`` tells what it has done so far."""

    def __init__(self, job: CleaningJob, disk: Disk, spend: Callable[[int], None]) -> None:
        """``spend(bytes)`` is called for what is read and written: it may wait, or raise to end the job."""
        self._job = job
        self._disk = disk
        self._spend = spend
        config = TopicConfig.from_overrides(None, job.settings, lenient=True)
        self._rules = LogRules(config)
        self._horizon_ms = min(job.now_ms + config.delete_retention_ms, LONG_MAX)
        self._map: OffsetMap
        self.counts = CleaningCounts()

    def run(self) -> Iterator[CleanedGroup | CleaningDone]:
        """The cleaned segments in order, each when it is ready; at last ``CleaningDone``.

        They have to be swapped in in this order, each one durably before the next: an older value must be
        gone for good before the tombstone that stands for it is. Raises ``CleaningFailed``.
        """
        try:
            yield from self._run()
        except OSError as error:
            kind = GONE if error.errno == ENOENT else DISK
            raise CleaningFailed(kind, str(error), error.errno or 0) from error
        except (KafkaError, ValueError) as error:
            raise CleaningFailed(UNCLEANABLE, str(error)) from error

    def _run(self) -> Iterator[CleanedGroup | CleaningDone]:
        job = self._job
        limits = job.limits
        dirty = max(job.end_offset - job.first_dirty_offset, 1)
        self._map = OffsetMap(limits.dedupe_bytes, limits.load_factor, dirty)
        try:
            self._build_map()
            clean_end = self._map.latest_offset + 1
            if clean_end <= job.first_dirty_offset:
                raise CleaningFailed(
                    UNCLEANABLE,
                    f"a batch has more keys than {limits.dedupe_bytes} bytes hold: "
                    "raise log.cleaner.dedupe.buffer.size",
                )
            below = [segment for segment in job.segments if segment.base_offset < clean_end]
            aborted = aborted_transactions(self._disk, job.directory, 0, clean_end)
            transactions = CleanedTransactions(aborted)
            for group in group_segments(below, self._rules, job.end_offset):
                if any(segment.size_bytes for segment in group):
                    yield self._clean_group(group, transactions)
            self.counts = self.counts._replace(map_utilization=self._map.utilization)
            yield CleaningDone(clean_end, self.counts)
        finally:
            self._map.close()

    # The newest offset of each key

    def _build_map(self) -> None:
        job, offsets = self._job, self._map
        start = job.first_dirty_offset
        dirty = [segment for segment in job.segments if segment.end_offset > start]
        transactions = CleanedTransactions(
            aborted_transactions(self._disk, job.directory, start, job.end_offset)
        )
        for segment in dirty:
            for source in self._read(segment):
                if source.header.last_offset < start:
                    continue
                if not self._map_batch(source, transactions):
                    return
                offsets.latest_offset = source.header.last_offset
            offsets.latest_offset = segment.end_offset - 1

    def _map_batch(self, source: SourceBatch, transactions: CleanedTransactions) -> bool:
        """Whether the map had room for all keys of the batch."""
        header, offsets, start = source.header, self._map, self._job.first_dirty_offset
        if header.is_control:
            transactions.may_discard(header, _marker_key(source))
            return True
        if transactions.is_aborted(header):
            return True
        for place in _places(source):
            if place.key is not None and place.offset >= start:
                if offsets.is_full:
                    return False
                offsets.put(place.key, place.offset)
        return True

    # Writing

    def _clean_group(
        self, group: list[SourceSegment], transactions: CleanedTransactions
    ) -> CleanedGroup:
        job, disk = self._job, self._disk
        base_offset = group[0].base_offset
        target = Segment(disk, job.directory, base_offset, self._rules, job.now_ms)
        suffixes = [names.LOG_SUFFIX, names.INDEX_SUFFIX, names.TIME_INDEX_SUFFIX]
        for file, suffix in zip(target.files, suffixes, strict=True):
            file.path = cleaned_path(job.directory, base_offset, suffix, job.token)
        target.create()
        try:
            changed = self._fill(target, group, transactions) or len(group) > 1
            target.end_appends()
        finally:
            target.close()
        if not changed:
            for file in target.files:
                disk.remove(file.path)
            transactions.retained.clear()
            return self._told(target, group, False, [])
        aborted, transactions.retained = transactions.retained, []
        if aborted:
            suffixes.append(names.TRANSACTION_INDEX_SUFFIX)
            path = cleaned_path(job.directory, base_offset, suffixes[-1], job.token)
            disk.write_file(path, encode_aborted(aborted))
        old = f"{job.directory}/{names.file_name(group[-1].base_offset, names.LOG_SUFFIX)}"
        disk.set_modified_ms(target.log_file.path, disk.modified_ms(old))
        for suffix in suffixes:
            disk.sync_file(cleaned_path(job.directory, base_offset, suffix, job.token))
        disk.sync_directory(job.directory)
        return self._told(target, group, True, suffixes)

    def _told(
        self, target: Segment, group: list[SourceSegment], changed: bool, suffixes: list[str]
    ) -> CleanedGroup:
        return CleanedGroup(
            token=self._job.token,
            base_offset=target.base_offset,
            replaced=[segment.base_offset for segment in group],
            changed=changed,
            size_bytes=target.size_bytes,
            index_bytes=target.offset_index.size_bytes,
            time_index_bytes=target.time_index.size_bytes,
            suffixes=suffixes,
        )

    def _fill(
        self, target: Segment, group: list[SourceSegment], transactions: CleanedTransactions
    ) -> bool:
        """Copy into ``target`` what stays of the group; whether anything is different then."""
        last = [segment for segment in group if segment.size_bytes][-1]
        changed = False
        pending = bytearray()
        headers: list[BatchHeader] = []
        for segment in group:
            for source in self._read(segment):
                is_last = segment is last and source.end == segment.size_bytes
                kept = self._filter(source, transactions, is_last)
                changed |= kept is not source
                if kept is None:
                    continue
                pending += kept.content
                headers.append(kept.header)
                if len(pending) >= self._job.limits.io_bytes:
                    self._write(target, pending, headers)
                    pending, headers = bytearray(), []
        if pending:
            self._write(target, pending, headers)
        return changed

    def _write(self, target: Segment, content: bytearray, headers: list[BatchHeader]) -> None:
        if target.size_bytes + len(content) > RELATIVE_OFFSET_MAX:
            raise CleaningFailed(UNCLEANABLE, f"{target.log_file.path} grows beyond 2 GiB")
        target.append_run(content, headers)
        written = self.counts.bytes_written + len(content)
        self.counts = self.counts._replace(bytes_written=written)
        self._spend(len(content))

    def _filter(
        self, source: SourceBatch, transactions: CleanedTransactions, is_last: bool
    ) -> SourceBatch | None:
        """What stays of a batch: itself, another one, or None."""
        header, now_ms = source.header, self._job.now_ms
        horizon = header.delete_horizon_ms
        if header.is_control:
            outlived = transactions.may_discard(header, _marker_key(source))
            discard = outlived and horizon is not None and horizon <= now_ms
        else:
            outlived = False
            discard = transactions.is_aborted(header)
        keep_empty = is_last or self._is_last_of_producer(header)
        if discard and not keep_empty:
            self._count(header.record_count, 0)
            return None
        tombstones_stay = horizon is None or now_ms < horizon

        def keep(place: RecordPlace) -> bool:
            if discard or header.is_control:
                return not discard
            if place.offset > self._map.latest_offset:
                return True
            if place.key is None:
                self.counts = self.counts._replace(keyless=self.counts.keyless + 1)
                return False
            is_newest = place.offset >= self._map.get(place.key)
            return is_newest and (place.has_value or tombstones_stay)

        if header.record_count == 0:
            return source if keep_empty else None
        filtered = filter_batch(
            source.content,
            header,
            keep,
            keep_empty=keep_empty,
            horizon_ms=self._horizon_ms,
            marks_empty_transaction=outlived,
        )
        self._count(filtered.records_read, filtered.records_kept)
        if filtered.batch is None:
            return None
        if filtered.batch is source.content:
            return source
        return SourceBatch(source.end, filtered.header, filtered.batch)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self._job.producers.get(header.producer_id)
        if last is None or header.producer_id < 0:
            return False
        last_offset, epoch = last
        if last_offset >= 0:
            return header.last_offset == last_offset
        return header.is_control and header.producer_epoch == epoch

    def _count(self, read: int, kept: int) -> None:
        counts = self.counts
        self.counts = counts._replace(
            records_read=counts.records_read + read, records_kept=counts.records_kept + kept
        )

    def _read(self, segment: SourceSegment) -> Iterator[SourceBatch]:
        """The segment's batches. What is wrong here is the file's fault, not that of who wrote the records."""
        job = self._job
        try:
            for source in read_source(
                self._disk, job.directory, segment, job.limits.io_bytes, self._spend
            ):
                read = self.counts.bytes_read + source.header.size_bytes
                self.counts = self.counts._replace(bytes_read=read)
                yield source
        except CorruptBatch as error:
            raise CleaningFailed(CORRUPT, str(error)) from error


def _places(source: SourceBatch) -> Iterator[RecordPlace]:
    data = plain_records(
        source.content, source.header, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX
    )
    return iter_places(data, source.header)


def _marker_key(source: SourceBatch) -> bytes | None:
    """The key of a control batch's first record; None where compaction has left none."""
    return next((place.key or b"" for place in _places(source)), None)

"""What a cleaning reads: which old segments go into one new one, and their batches, verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ottla.log import names
from ottla.log.compaction.job import SourceSegment
from ottla.log.compaction.transactions import AbortedTransaction, decode_aborted
from ottla.log.disk import Disk
from ottla.log.rules import LogRules
from ottla.log.sparse_index import RELATIVE_OFFSET_MAX
from ottla.records.batch import (
    HEADER_BYTES,
    BatchHeader,
    Bytes,
    CorruptBatch,
    read_header,
    verify_crc,
)

_READ_BYTES_MIN = 64 << 10
_TRANSACTION_INDEX_BYTES_MAX = 256 << 20


class SourceBatch(NamedTuple):
    """A batch of an old segment, or what is left of one; ``end``: where it ends in the old segment."""

    end: int
    header: BatchHeader
    content: Bytes


def group_segments(
    segments: Sequence[SourceSegment], rules: LogRules, end_offset: int
) -> list[list[SourceSegment]]:
    """Neighbours that fit into one segment together, by size, by index and by offset.

    ``end_offset`` is the first one that may not be cleaned. Source: ``Cleaner.groupSegmentsBySize``.
    """
    groups: list[list[SourceSegment]] = []
    size = index = time_index = 0
    for segment in segments:
        reaches = min(segment.end_offset, max(end_offset, segment.base_offset)) - 1
        fits = (
            bool(groups)
            and size + segment.size_bytes <= rules.segment_bytes
            and index + segment.index_bytes <= rules.segment_index_bytes
            and time_index + segment.time_index_bytes <= rules.segment_index_bytes
            and (
                not segment.size_bytes or reaches - groups[-1][0].base_offset <= RELATIVE_OFFSET_MAX
            )
        )
        if fits:
            groups[-1].append(segment)
        else:
            groups.append([segment])
            size = index = time_index = 0
        size += segment.size_bytes
        index += segment.index_bytes
        time_index += segment.time_index_bytes
    return groups


def read_source(
    disk: Disk,
    directory: str,
    segment: SourceSegment,
    io_bytes: int,
    spend: Callable[[int], None],
) -> Iterator[SourceBatch]:
    """The batches of a segment in order. Raises ``CorruptBatch`` (CORRUPT_MESSAGE), ``OSError``.

    ``spend`` is told of the bytes that were read.
    """
    path = f"{directory}/{names.file_name(segment.base_offset, names.LOG_SUFFIX)}"
    chunk_bytes = max(io_bytes, _READ_BYTES_MIN)
    file = disk.file(path)
    position, next_offset = 0, segment.base_offset
    try:
        while position < segment.size_bytes:
            wanted = min(chunk_bytes, segment.size_bytes - position)
            chunk = memoryview(file.read_at(wanted, position))
            spend(len(chunk))
            if len(chunk) < wanted:
                raise CorruptBatch(f"{path} ends at byte {position + len(chunk)}")
            at, missing = 0, HEADER_BYTES
            while len(chunk) - at >= HEADER_BYTES:
                header = read_header(chunk, at)
                size = header.size_bytes
                if position + at + size > segment.size_bytes:
                    raise CorruptBatch(f"{path} has no whole batch at byte {position + at}")
                if at + size > len(chunk):
                    missing = size
                    break
                _check(path, position + at, header, next_offset, segment.end_offset)
                verify_crc(chunk, header, at)
                next_offset = header.next_offset
                yield SourceBatch(position + at + size, header, chunk[at : at + size])
                at += size
            if not at and len(chunk) == segment.size_bytes - position:
                raise CorruptBatch(f"{path} has no whole batch at byte {position}")
            position += at
            chunk_bytes = max(io_bytes, _READ_BYTES_MIN, missing)
    finally:
        file.close()


def _check(path: str, position: int, header: BatchHeader, next_offset: int, end: int) -> None:
    if header.base_offset < next_offset or header.last_offset_delta < 0 or header.record_count < 0:
        raise CorruptBatch(f"{path} at byte {position}: offset {header.base_offset} out of order")
    if header.last_offset >= end:
        raise CorruptBatch(f"{path} at byte {position}: offset {header.last_offset} of the next")


def aborted_transactions(
    disk: Disk, directory: str, start_offset: int, end_offset: int
) -> list[AbortedTransaction]:
    """The aborted transactions with offsets in a range, as the log's ``.txnindex`` files tell."""
    found: dict[tuple[int, int], AbortedTransaction] = {}
    for entry in disk.entries(directory):
        is_index = entry.name.endswith(names.TRANSACTION_INDEX_SUFFIX)
        if not is_index or not entry.size_bytes or names.offset_of(entry.name) is None:
            continue
        content = disk.read_file(f"{directory}/{entry.name}", _TRANSACTION_INDEX_BYTES_MAX)
        for one in decode_aborted(content):
            if one.last_offset >= start_offset and one.first_offset < end_offset:
                found[one.producer_id, one.first_offset] = one
    return list(found.values())

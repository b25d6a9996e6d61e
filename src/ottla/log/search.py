"""Searching a log by time: ListOffsets for a timestamp and for the largest one.

Batches are told apart by their headers; only the one that has the record is decoded.
Source: ``UnifiedLog.fetchOffsetByTimestamp``, ``FileRecords.searchForTimestamp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ottla.errors import KafkaError
from ottla.log.segment import Segment
from ottla.log.segments import Segments
from ottla.records.batch import BatchHeader, CorruptBatch

DECOMPRESSED_BYTES_MAX = 256 << 20
"""The most that the one batch may unpack to. It was taken under max.message.bytes, compressed."""


class TimestampAndOffset(NamedTuple):
    """A record's time and place; ``leader_epoch`` is -1 where its batch tells none."""

    timestamp_ms: int
    offset: int
    leader_epoch: int


def find_timestamp(
    segments: Segments, timestamp_ms: int, start_offset: int
) -> TimestampAndOffset | None:
    """The first record from ``start_offset`` on with a timestamp of at least ``timestamp_ms``.

    Raises ``CorruptBatch`` and ``OSError``.
    """
    for segment in segments:
        if segment.largest_timestamp_ms() < timestamp_ms:
            continue
        for position, header in segment.find_timestamp(timestamp_ms):
            if header.last_offset >= start_offset:
                found = _in_batch(segment, position, header, timestamp_ms, start_offset)
                if found is not None:
                    return found
    return None


def find_max_timestamp(segments: Segments) -> TimestampAndOffset | None:
    """The first record with the largest timestamp of all; None if no record has one.

    Raises ``CorruptBatch`` and ``OSError``.
    """
    best: TimestampAndOffset | None = None
    for segment in sorted(segments, key=_max_timestamp_ms, reverse=True):
        largest_ms = segment.max_timestamp_ms
        if largest_ms < 0 or (best is not None and largest_ms < best.timestamp_ms):
            break
        found = _first_at(segment, largest_ms)
        if found is None:  # compaction has left the batch's header only: who has the next largest?
            largest_ms = max(
                (one.max_timestamp_ms for _, one in _with_records(segment)), default=-1
            )
            found = _first_at(segment, largest_ms) if largest_ms >= 0 else None
        if found is not None and (best is None or _comes_before(found, best)):
            best = found
    return best


def _first_at(segment: Segment, timestamp_ms: int) -> TimestampAndOffset | None:
    for position, header in segment.find_timestamp(timestamp_ms):
        found = _in_batch(segment, position, header, timestamp_ms, 0)
        if found is not None:
            return found
    return None


def _with_records(segment: Segment) -> Iterator[tuple[int, BatchHeader]]:
    return (found for found in segment.headers() if found[1].record_count)


def _comes_before(one: TimestampAndOffset, other: TimestampAndOffset) -> bool:
    """Whether it is later, or the first of the same time."""
    return (-one.timestamp_ms, one.offset) < (-other.timestamp_ms, other.offset)


def _max_timestamp_ms(segment: Segment) -> int:
    return segment.max_timestamp_ms


def _in_batch(
    segment: Segment, position: int, header: BatchHeader, timestamp_ms: int, start_offset: int
) -> TimestampAndOffset | None:
    from ottla.records.codec import offset_of_timestamp

    batch = segment.read_batch(position, header.size_bytes)
    try:
        found = offset_of_timestamp(
            batch,
            timestamp_ms,
            start_offset=start_offset,
            max_decompressed_bytes=DECOMPRESSED_BYTES_MAX,
        )
    except KafkaError as error:
        raise CorruptBatch(f"{segment.log_file.path} at byte {position}: {error}") from error
    if found is None:
        return None
    offset, found_ms = found
    return TimestampAndOffset(found_ms, offset, header.leader_epoch)

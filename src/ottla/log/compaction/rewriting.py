"""One batch, rewritten with some of its records.

The rules kept here (``MemoryRecords.filterTo``, KIP-534):

- Base offset, last offset delta, leader epoch, producer id, epoch and sequence stay; so does the codec. The
  records that stay are copied as they are, with the offsets that they had.
- A batch with a tombstone that stays (or a marker whose transaction is gone) is told, once, until when: its
  attributes get the delete horizon's bit, and its base timestamp is the horizon.
- A batch of which nothing stays, but its place in the log or its producer's sequence has to, is a header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ottla.records.batch import (
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    NO_TIMESTAMP_MS,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Bytes,
    CompressionType,
    InvalidRecord,
    pack_header,
    read_header,
)
from ottla.records.codec import RecordPlace, iter_places, plain_records, with_base_timestamp
from ottla.records.compression import compress

DECOMPRESSED_BYTES_MAX = 128 << 20
"""The most that one batch may unpack to. A compacted topic takes none of more than half of that."""

_EMPTY_ATTRIBUTES = TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT


class Filtered(NamedTuple):
    """What became of a batch: its bytes (None: nothing stays), and how many records it had and has."""

    batch: Bytes | None
    header: BatchHeader
    records_read: int
    records_kept: int


def filter_batch(
    batch: Bytes,
    header: BatchHeader,
    keep: Callable[[RecordPlace], bool],
    *,
    keep_empty: bool,
    horizon_ms: int,
    marks_empty_transaction: bool = False,
) -> Filtered:
    """The batch with the records that ``keep`` wants.

    ``horizon_ms`` is for a batch that needs a delete horizon and has none; ``marks_empty_transaction``
    says that it needs one, tombstones or not. Raises ``KafkaError`` for a batch that can't be read.
    """
    data = plain_records(batch, header, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX)
    runs: list[tuple[int, int]] = []
    kept, tombstones, largest_ms, run_end = 0, False, NO_TIMESTAMP_MS, -1
    for place in iter_places(data, header):
        if not keep(place):
            continue
        kept += 1
        tombstones |= not place.has_value
        largest_ms = max(largest_ms, place.timestamp_ms)
        if place.start == run_end:
            runs[-1] = (runs[-1][0], place.end)
        else:
            runs.append((place.start, place.end))
        run_end = place.end
    count = header.record_count
    if not kept:
        if not keep_empty:
            return Filtered(None, header, count, 0)
        empty = emptied(header)
        return Filtered(empty, read_header(empty), count, 0)
    needs_horizon = (tombstones or marks_empty_transaction) and header.delete_horizon_ms is None
    if kept == count and not needs_horizon:
        return Filtered(batch, header, count, kept)
    if kept != count:
        data = b"".join([data[start:end] for start, end in runs])
    rewritten = _rebuilt(header, data, kept, largest_ms, horizon_ms if needs_horizon else None)
    return Filtered(rewritten, read_header(rewritten), count, kept)


def _rebuilt(
    header: BatchHeader, data: bytes, count: int, largest_ms: int, horizon_ms: int | None
) -> bytearray:
    """A batch of the plain records ``data``; ``horizon_ms`` is its new delete horizon, None for none."""
    attributes, base_timestamp_ms = header.attributes, header.base_timestamp_ms
    if horizon_ms is not None:
        data = with_base_timestamp(data, header, horizon_ms)
        attributes |= DELETE_HORIZON_BIT
        base_timestamp_ms = horizon_ms
    if header.attributes & TIMESTAMP_TYPE_BIT:
        largest_ms = header.max_timestamp_ms
    if not NO_TIMESTAMP_MS <= largest_ms < 1 << 63:
        raise InvalidRecord(f"a record's timestamp is {largest_ms}")
    rebuilt = bytearray(HEADER_BYTES)
    rebuilt += (
        data if header.compression is CompressionType.NONE else compress(header.compression, data)
    )
    pack_header(
        rebuilt,
        header._replace(
            length=len(rebuilt) - LOG_OVERHEAD_BYTES,
            attributes=attributes,
            base_timestamp_ms=base_timestamp_ms,
            max_timestamp_ms=largest_ms,
            record_count=count,
        ),
    )
    return rebuilt


def emptied(header: BatchHeader) -> bytearray:
    """The header alone: what keeps a batch's place in the log and its producer's last sequence."""
    empty = bytearray(HEADER_BYTES)
    pack_header(
        empty,
        header._replace(
            length=HEADER_BYTES - LOG_OVERHEAD_BYTES,
            attributes=header.attributes & _EMPTY_ATTRIBUTES,
            base_timestamp_ms=NO_TIMESTAMP_MS,
            record_count=0,
        ),
    )
    return empty

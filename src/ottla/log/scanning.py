"""Walking over the batches of a segment's file by their headers, a page at a time.

Checksums are not verified here. Where the file holds no batch although one must be there,
``CorruptBatch`` is raised; a batch that lies there is within the file and the segment's offsets.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from ottla.log.files import File
from ottla.records.batch import (
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    BatchHeader,
    CorruptBatch,
    read_header,
)

_READ_BYTES = 4096
_SHORTEST_LENGTH = HEADER_BYTES - LOG_OVERHEAD_BYTES
_OFFSETS = Struct(">qi11xi")  # base offset, length, ..., last offset delta


class BatchPlace(NamedTuple):
    """Where a batch lies in its segment."""

    position: int
    size_bytes: int
    base_offset: int
    last_offset: int


def find_batch(
    file: File, base_offset: int, end: int, offset: int, position: int
) -> BatchPlace | None:
    """The first batch from the one at ``position`` on whose last offset is at least ``offset``.

    None if there is none before ``end``; ``base_offset`` is the segment's. Raises ``CorruptBatch``.
    """
    unpack = _OFFSETS.unpack_from
    while position < end:
        chunk = file.read_at(min(_READ_BYTES, end - position), position)
        last_start = min(len(chunk), end - position) - HEADER_BYTES
        at = 0
        while at <= last_start:
            first_offset, length, delta = unpack(chunk, at)
            if length < _SHORTEST_LENGTH or delta < 0 or first_offset < base_offset:
                raise no_batch(file, position + at)
            size = LOG_OVERHEAD_BYTES + length
            if first_offset + delta >= offset:
                if position + at + size > end:
                    raise no_batch(file, position + at)
                return BatchPlace(position + at, size, first_offset, first_offset + delta)
            at += size
        if at == 0:
            raise no_batch(file, position)
        position += at
    return None


def scan_headers(
    file: File, base_offset: int, end: int, position: int
) -> Iterator[tuple[int, BatchHeader]]:
    """The position and header of each batch from the one at ``position`` up to ``end``.

    Raises ``CorruptBatch`` or ``UnsupportedMagic``.
    """
    while position < end:
        chunk = file.read_at(min(_READ_BYTES, end - position), position)
        last_start = min(len(chunk), end - position) - HEADER_BYTES
        at = 0
        while at <= last_start:
            header = read_header(chunk, at)
            if (
                position + at + header.size_bytes > end
                or header.base_offset < base_offset
                or header.last_offset_delta < 0
            ):
                raise no_batch(file, position + at)
            yield position + at, header
            at += header.size_bytes
        if at == 0:
            raise no_batch(file, position)
        position += at


def no_batch(file: File, position: int) -> CorruptBatch:
    """What to raise where a batch should be and is not."""
    return CorruptBatch(f"{file.path} holds no batch at byte {position}")

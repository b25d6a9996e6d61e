"""The records inside a batch: encoded for producers, decoded for consumers, walked for the broker.

What is done for every record is in ``record_loops``, compiled where there was a compiler (``chosen_loops``
says which copy runs). Rules for bytes that come from outside, in both copies:

- every length is compared with its record and every record with the batch; nothing is allocated by
  a count that the bytes can't hold;
- nothing but a ``KafkaError`` escapes: ``InvalidRecord`` where Kafka says INVALID_RECORD
  (``DefaultRecord.readFrom``), ``CorruptBatch`` where the batch is not whole or not decompressible;
- as in Kafka, any negative length is null, a header's key that is no UTF-8 is read with
  replacement characters, and a record's attributes are ignored.

Checksums are the caller's to verify (``batch.verify_crc``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ottla.records.batch import (
    HEADER_BYTES,
    TIMESTAMP_TYPE_BIT,
    BatchHeader,
    Bytes,
    CompressionType,
    CorruptBatch,
    InvalidRecord,
    read_header,
)
from ottla.records.chosen_loops import loops
from ottla.records.compression import MAX_DECOMPRESSED_BYTES, decompress

Header: TypeAlias = tuple[str, bytes | None]
"""A record header: its key and its value."""

NewRecord: TypeAlias = tuple[int, bytes | None, bytes | None, Sequence[Header]]
"""A record to be written: timestamp in milliseconds, key, value, headers."""

# Length, attributes, timestamp, offset, key's length, value's length, number of headers.
_SHORTEST_RECORD_BYTES = 7
CHUNK_RECORDS = 20_000
CHUNK_BYTES = 4 << 20
"""What is decoded at once at most: a record of 7 bytes takes some 200 as an object."""
RECORD_HEADERS_MAX = loops.RECORD_HEADERS_MAX


class Record(NamedTuple):
    """A record as it was read; ``timestamp_ms`` is -1 where the producer gave none."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]


class RecordPlace(NamedTuple):
    """Where a record lies in the plain (decompressed) records of its batch, length and all."""

    start: int
    end: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    has_value: bool


def encode_chunks(
    records: Iterable[NewRecord], base_timestamp_ms: int, chunks: list[bytes]
) -> list[bytes]:
    """Append the records' bytes to ``chunks``, to be joined (with a header) by the caller."""
    return loops.encode_chunks(records, base_timestamp_ms, chunks)


def encode_records(records: Iterable[NewRecord], base_timestamp_ms: int) -> bytes:
    """The records' bytes, uncompressed, with offset deltas 0, 1, 2...

    Keys and values have to be ``bytes`` or None. ``struct.error``, ``TypeError`` or ``ValueError``
    are the caller's bugs; ``BatchBuilder.append`` checks what it is given.
    """
    return b"".join(encode_chunks(records, base_timestamp_ms, []))


def decode_batch(
    buf: Bytes,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
    header: BatchHeader | None = None,
) -> list[Record]:
    """The records of the batch at ``position``; ``header`` spares reading it again.

    A control batch is decoded like any other. Raises ``KafkaError`` alone, whatever the bytes are.
    """
    if header is None:
        header = read_header(buf, position)
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    try:
        return loops.decode(data, header.record_count, *_bases(header), Record, None, 0)
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None


def decode_in_chunks(
    buf: Bytes,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
    header: BatchHeader | None = None,
    kind: type[Any] = Record,
    topic: str | None = None,
    partition: int = 0,
) -> Iterator[tuple[list[Any], bool]]:
    """As ``decode_batch``, some records at a time, each time with whether they are the last.

    A small batch may unpack to millions of records: their bytes are bounded, but as objects they take thirty
    times as much. With ``topic`` a record is made as a ``kind``, a tuple with ``topic`` and ``partition``
    before a ``Record``'s fields. Raises ``KafkaError`` alone, perhaps after some records that are whole.
    """
    if header is None:
        header = read_header(buf, position)
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    decoder = BatchDecoder(data, header, kind, topic, partition)
    while not decoder.exhausted:
        yield decoder.take(CHUNK_RECORDS), decoder.exhausted


class BatchDecoder:
    """The records of one batch, as many at a time as are asked for."""

    __slots__ = ("_bases", "_count", "_data", "_index", "_kind", "_p", "exhausted")

    def __init__(
        self,
        data: bytes,
        header: BatchHeader,
        kind: type[Any] = Record,
        topic: str | None = None,
        partition: int = 0,
    ) -> None:
        """``data`` are the ``plain_records`` behind ``header``; ``kind`` is as in ``decode_in_chunks``."""
        self._data = data
        self._count = header.record_count
        self._bases = _bases(header)
        self._kind = (kind, topic, partition)
        self._index = self._p = 0
        self.exhausted = False
        """Whether all have been taken; even of a batch without records something has to be, once."""

    def take(self, records_max: int) -> list[Any]:
        """The next ones: up to ``records_max``, and fewer of large ones. Raises ``KafkaError`` alone."""
        index, data = self._index, self._data
        wanted = min(records_max, CHUNK_RECORDS, self._count - index)
        try:
            records, p = loops.decode_some(
                data, self._p, index, wanted, CHUNK_BYTES, *self._bases, *self._kind
            )
        except IndexError:
            raise InvalidRecord("the batch ends within a record") from None
        self._p = p
        self._index = index = index + len(records)
        if index == self._count:
            if p != len(data):
                raise InvalidRecord(f"{len(data) - p} bytes follow the last record")
            self.exhausted = True
        return records


def offset_of_timestamp(
    buf: Bytes,
    timestamp_ms: int,
    *,
    start_offset: int = 0,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
) -> tuple[int, int] | None:
    """Offset and timestamp of the batch's first record at or after ``timestamp_ms``, or None.

    Records below ``start_offset`` don't count: a log's start may lie within a batch (DeleteRecords).
    With the header's ``max_timestamp_ms`` it finds the first record that has the largest timestamp
    (KIP-734). Raises ``KafkaError`` alone.
    """
    header = read_header(buf, position)
    _, base_timestamp_ms, create_time, fixed_ms = _bases(header)
    if not create_time and fixed_ms < timestamp_ms:
        return None
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    for offset, delta, _, _ in loops.walk(data, header.record_count, header.base_offset):
        found_ms = base_timestamp_ms + delta if create_time else fixed_ms
        if found_ms >= timestamp_ms and offset >= start_offset:
            return offset, found_ms
    return None


def iter_keys(
    buf: Bytes,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
) -> Iterator[tuple[int, bytes | None]]:
    """Offset and key of each record, without the rest. Raises ``KafkaError`` alone."""
    header = read_header(buf, position)
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    for offset, _, start, end in loops.walk(data, header.record_count, header.base_offset):
        yield offset, None if start < 0 else data[start:end]


def require_keys(
    buf: Bytes,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
) -> None:
    """Raise ``InvalidRecord`` if a record has no key, as a compacted topic demands.

    Raises ``KafkaError`` alone. Source: ``LogValidator.validateKey``.
    """
    header = read_header(buf, position)
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    keys = loops.walk(data, header.record_count, header.base_offset)
    for index, (_, _, start, _) in enumerate(keys):
        if start < 0:
            raise InvalidRecord(
                f"a compacted topic cannot accept a record without key (record {index})"
            )


def plain_records(
    buf: Bytes,
    header: BatchHeader,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
) -> bytes:
    """The bytes of the records behind the header of the batch at ``position``, decompressed.

    Raises ``KafkaError`` alone.
    """
    return _plain_records(buf, position, header, max_decompressed_bytes)


def iter_places(data: bytes, header: BatchHeader) -> Iterator[RecordPlace]:
    """Where each record of ``data``, the plain records behind ``header``, lies; its key, but no value.

    Record headers are not looked at. Raises ``InvalidRecord``.
    """
    return loops.places(data, header.record_count, *_bases(header), RecordPlace)


def with_base_timestamp(data: bytes, header: BatchHeader, base_timestamp_ms: int) -> bytes:
    """The plain records ``data``, whose timestamps count from ``header``, counting from another base.

    Raises ``InvalidRecord``.
    """
    return loops.shifted(data, header.base_timestamp_ms - base_timestamp_ms)


def _plain_records(
    buf: Bytes, position: int, header: BatchHeader, max_decompressed_bytes: int
) -> bytes:
    """The bytes behind the header, decompressed; checked to be able to hold that many records."""
    end = position + header.size_bytes
    if end > len(buf):
        raise CorruptBatch(f"batch of {header.size_bytes} bytes in {len(buf) - position}")
    if header.record_count < 0:
        raise InvalidRecord(f"a batch of {header.record_count} records")
    compression = header.compression
    stored = memoryview(buf)[position + HEADER_BYTES : end]
    if compression is CompressionType.NONE:
        data = bytes(stored)
    elif header.record_count == 0:  # Kafka's compaction leaves headers behind, with nothing in them
        return b""
    else:
        data = decompress(compression, stored, max_bytes=max_decompressed_bytes)
    if header.record_count * _SHORTEST_RECORD_BYTES > len(data):
        raise InvalidRecord(f"{header.record_count} records in {len(data)} bytes")
    return data


def _bases(header: BatchHeader) -> tuple[int, int, bool, int]:
    """Base offset, base timestamp, whether records have their own timestamps, the first's."""
    if header.attributes & TIMESTAMP_TYPE_BIT:
        return header.base_offset, header.base_timestamp_ms, False, header.max_timestamp_ms
    return header.base_offset, header.base_timestamp_ms, True, header.base_timestamp_ms

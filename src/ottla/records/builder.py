"""Record batches made of records: what a producer sends and what a coordinator appends.

``BatchBuilder`` collects records until it is full and encodes them in one go, which is several times
as fast as encoding each when it arrives. Its size is exact where nothing is compressed, and scaled by
the ratio that the caller expects where it is.

As in Kafka's ``MemoryRecordsBuilder``: the first record's timestamp is the base timestamp, offsets
count from the base offset without a gap, a first record always fits, and a batch that a producer
sends has base offset 0 and no leader epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ottla.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    MAGIC,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP_MS,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    CompressionType,
    TimestampType,
    pack_header,
)
from ottla.records.codec import Header, NewRecord, encode_chunks
from ottla.records.compression import compress

_EMPTY_HEADER = bytes(HEADER_BYTES)
_TIMESTAMP_END_MS = 2**63
# A compressed size is a guess with a little room (Kafka's COMPRESSION_RATE_ESTIMATION_FACTOR).
_ESTIMATION_FACTOR = 1.05
# However well the last batch shrank, one of 256 times its size must not be collected on its word.
_RATIO_MIN = 1 / 256


class BatchBuilder:
    """One batch in the making. Not for use by several threads."""

    __slots__ = (
        "_base_timestamp_ms",
        "_compression",
        "_expected_ratio",
        "_full_bytes",
        "_records",
        "records_bytes",
    )

    def __init__(
        self,
        *,
        compression: CompressionType = CompressionType.NONE,
        max_bytes: int,
        expected_ratio: float = 1.0,
    ) -> None:
        """``max_bytes`` is the size from which on the batch is full, header included.

        ``expected_ratio`` is compressed over uncompressed size as earlier batches had it. It has no
        meaning without compression.
        """
        self._compression = compression
        self._expected_ratio = (
            1.0
            if compression is CompressionType.NONE
            else min(max(expected_ratio, _RATIO_MIN) * _ESTIMATION_FACTOR, 1.0)
        )
        self._full_bytes = int((max_bytes - HEADER_BYTES) / self._expected_ratio)
        self._records: list[NewRecord] = []
        self._base_timestamp_ms = NO_TIMESTAMP_MS
        self.records_bytes = 0
        """The records' size in bytes without the header, uncompressed; exact."""

    def __len__(self) -> int:
        """The number of records."""
        return len(self._records)

    @property
    def size_bytes(self) -> int:
        """The batch's size: exact without compression, an estimate with it."""
        return HEADER_BYTES + int(self.records_bytes * self._expected_ratio)

    def append(
        self,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
    ) -> int | None:
        """Add a record; its offset in the batch, or None (and nothing added) if the batch is full.

        ``timestamp_ms`` is in milliseconds since 1970, or -1 for none. Other bytes-likes are copied
        into ``bytes``. Raises ``TypeError`` and ``ValueError`` for what no batch can hold, so that
        one bad record doesn't fail those beside it.
        """
        records = self._records
        delta = len(records)
        size = 6 if delta < 64 else 7 if delta < 8192 else 5 + _varint_bytes(delta)
        if key is not None:
            if key.__class__ is not bytes:
                key = _checked(key)
            length = len(key)
            size += length if length < 64 else length + _varint_bytes(length) - 1
        if value is not None:
            if value.__class__ is not bytes:
                value = _checked(value)
            length = len(value)
            size += length if length < 64 else length + _varint_bytes(length) - 1
        if not delta or timestamp_ms != self._base_timestamp_ms:
            if not NO_TIMESTAMP_MS <= timestamp_ms < _TIMESTAMP_END_MS:
                raise ValueError(f"timestamp {timestamp_ms} is negative or too large")
            if delta:
                size += _varint_bytes(timestamp_ms - self._base_timestamp_ms) - 1
        if headers:
            headers = [_checked_header(header) for header in headers]
            size += _headers_bytes(headers)
        total = (
            self.records_bytes
            + size
            + (1 if size < 64 else 2 if size < 8192 else _varint_bytes(size))
        )
        if not delta:
            self._base_timestamp_ms = timestamp_ms
        elif total > self._full_bytes:
            return None
        self.records_bytes = total
        records.append((timestamp_ms, key, value, headers))
        return delta

    def build(
        self,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        transactional: bool = False,
    ) -> bytearray:
        """The batch with its checksum. May be called again, with another producer's fields.

        Raises ``ValueError`` when there are no records.
        """
        return build_batch(
            self._records,
            compression=self._compression,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            transactional=transactional,
        )


def build_batch(
    records: Iterable[NewRecord],
    *,
    timestamps_ms: Sequence[int] | None = None,
    compression: CompressionType = CompressionType.NONE,
    timestamp_type: TimestampType = TimestampType.CREATE_TIME,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """A batch of ``(timestamp_ms, key, value, headers)`` with its checksum.

    Under ``LOG_APPEND_TIME`` the largest timestamp is every record's. With ``timestamps_ms``, which are
    the records' own, ``records`` are walked once and may be an iterator. Raises ``ValueError`` when
    there are no records; ``struct.error`` and ``TypeError`` are the caller's bugs.
    """
    if timestamps_ms is None:
        records = list(records)
        timestamps_ms = [record[0] for record in records]
    if not timestamps_ms:
        raise ValueError("a batch needs a record")
    base_timestamp_ms = timestamps_ms[0]
    if compression is CompressionType.NONE:
        batch = bytearray().join(encode_chunks(records, base_timestamp_ms, [_EMPTY_HEADER]))
    else:
        plain = b"".join(encode_chunks(records, base_timestamp_ms, []))
        batch = bytearray().join((_EMPTY_HEADER, compress(compression, plain)))
    attributes = (
        compression & COMPRESSION_MASK
        | (TIMESTAMP_TYPE_BIT if timestamp_type is TimestampType.LOG_APPEND_TIME else 0)
        | (TRANSACTIONAL_BIT if transactional else 0)
        | (CONTROL_BIT if control else 0)
    )
    header = BatchHeader(
        base_offset=base_offset,
        length=len(batch) - LOG_OVERHEAD_BYTES,
        leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=attributes,
        last_offset_delta=len(timestamps_ms) - 1,
        base_timestamp_ms=base_timestamp_ms,
        max_timestamp_ms=max(timestamps_ms),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(timestamps_ms),
    )
    pack_header(batch, header)
    return batch


def _varint_bytes(number: int) -> int:
    """How many bytes a zigzagged number takes."""
    return ((number if number >= 0 else ~number).bit_length() + 7) // 7


def _headers_bytes(headers: Sequence[Header]) -> int:
    """What the headers take beyond the one byte of a count of 0."""
    size = _varint_bytes(len(headers)) - 1
    for name, value in headers:
        length = len(name.encode())
        size += _varint_bytes(length) + length
        size += 1 if value is None else _varint_bytes(len(value)) + len(value)
    return size


def _checked(part: object) -> bytes:
    if isinstance(part, bytes | bytearray | memoryview):
        return bytes(part)
    raise TypeError(f"a key or value has to be bytes or None, not {type(part).__name__}")


def _checked_header(header: Header) -> Header:
    name, value = header
    if not isinstance(name, str):
        raise TypeError(f"a header's key has to be a str, not {type(name).__name__}")
    return name, value if value is None else _checked(value)

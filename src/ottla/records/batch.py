"""The header of a record batch, read and changed where it lies.

A broker treats a batch as opaque bytes behind these 61: it reads the header, checks the checksum,
stamps base offset and leader epoch in place (the checksum covers neither), and stores and sends
the same bytes. The rules kept here:

- any bytes may come in; nothing but a ``KafkaError`` comes out;
- a length is compared with the buffer before it is used, and nothing is copied or allocated by it;
- only magic 2 is understood. Magic 0 and 1 are told apart from garbage, since a client that sends
  them must learn why it is refused.

Layout and attribute bits: Kafka's ``DefaultRecordBatch``; the ways to be corrupt:
``ByteBufferLogInputStream``.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import NamedTuple, TypeAlias

from ottla.errors import ErrorCode, KafkaError
from ottla.records.crc import crc32c

Bytes: TypeAlias = bytes | bytearray | memoryview
"""What a batch may lie in; a memoryview must be contiguous and of single bytes (format ``B``)."""

HEADER_BYTES = 61
"""From the base offset to the record count."""
LOG_OVERHEAD_BYTES = 12
"""Base offset and length: what the length field doesn't count."""
MAGIC = 2
CRC_POSITION = 17
CRC_COVERS_FROM = 21
"""The checksum covers from the attributes to the end of the batch."""

COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40

NO_TIMESTAMP_MS = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_LEADER_EPOCH = -1
SEQUENCE_MODULUS = 2**31

_HEADER = Struct(">qiibIhiqqqhii")
_OFFSET_AND_LENGTH = Struct(">qi")
_MAGIC_POSITION = 16
_LEADER_EPOCH_POSITION = 12
_ATTRIBUTES_POSITION = 21
_MAX_TIMESTAMP_POSITION = 35
_SHORTEST_LENGTH = HEADER_BYTES - LOG_OVERHEAD_BYTES
# Below magic 2 a message's overhead is 14 bytes (LegacyRecord.RECORD_OVERHEAD_V0).
_SHORTEST_LEGACY_LENGTH = 14

unpack_header = _HEADER.unpack_from
"""The fields of ``BatchHeader`` at a position, unchecked, for who makes none of most batches; 61 bytes must be there."""
pack_place = Struct(">qii").pack_into
"""Writes base offset, length and leader epoch at a position: ``stamp``, for who has the length at hand."""
_pack_offset = Struct(">q").pack_into
_pack_int32 = Struct(">i").pack_into
_pack_uint32 = Struct(">I").pack_into
_pack_int16 = Struct(">h").pack_into


class CorruptBatch(KafkaError):
    """The bytes are no record batch, or not the ones that were checksummed (CORRUPT_MESSAGE)."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)


class InvalidRecord(KafkaError):
    """The batch is whole, but what it holds breaks a rule (INVALID_RECORD)."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_RECORD, message)


class UnsupportedMagic(KafkaError):
    """A message set of magic 0 or 1 (UNSUPPORTED_FOR_MESSAGE_FORMAT)."""

    def __init__(self, magic: int) -> None:
        super().__init__(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"message format version {magic} is not supported, only version {MAGIC} is",
        )


class UnsupportedCompression(KafkaError):
    """The attributes name a codec that doesn't exist (UNSUPPORTED_COMPRESSION_TYPE)."""

    def __init__(self, codec: int) -> None:
        super().__init__(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown compression type id {codec}"
        )


class CompressionType(IntEnum):
    """How the records behind the header are compressed: bits 0-2 of the attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class TimestampType(IntEnum):
    """Who set the timestamps: bit 3 of the attributes."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


_COMPRESSION_TYPES = tuple(CompressionType)


class BatchHeader(NamedTuple):
    """The 13 fields of a batch's header, in their order on the wire.

    ``length`` is the field, which counts from the leader epoch on; ``size_bytes`` is the whole.
    Timestamps are milliseconds since 1970, ``NO_TIMESTAMP_MS`` where there is none.
    """

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The batch's size with everything."""
        return LOG_OVERHEAD_BYTES + self.length

    @property
    def last_offset(self) -> int:
        """The offset of the last record that the batch was written with, inclusive."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset behind the batch, exclusive."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """The last record's sequence, which wraps from 2^31 - 1 to 0; -1 without a producer."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) % SEQUENCE_MODULUS

    @property
    def compression(self) -> CompressionType:
        """The codec. Raises ``UnsupportedCompression`` for the ids 5-7, which name none."""
        codec = self.attributes & COMPRESSION_MASK
        if codec >= len(_COMPRESSION_TYPES):
            raise UnsupportedCompression(codec)
        return _COMPRESSION_TYPES[codec]

    @property
    def timestamp_type(self) -> TimestampType:
        """Whose clock the timestamps are from."""
        if self.attributes & TIMESTAMP_TYPE_BIT:
            return TimestampType.LOG_APPEND_TIME
        return TimestampType.CREATE_TIME

    @property
    def is_transactional(self) -> bool:
        """Whether the batch is part of a transaction (a marker that ends one is, too)."""
        return self.attributes & TRANSACTIONAL_BIT != 0

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a control record, which no consumer is shown."""
        return self.attributes & CONTROL_BIT != 0

    @property
    def has_producer_id(self) -> bool:
        """Whether an idempotent or transactional producer wrote the batch."""
        return self.producer_id > NO_PRODUCER_ID

    @property
    def delete_horizon_ms(self) -> int | None:
        """From when on the log cleaner may drop the batch's tombstones (KIP-534), if it is set."""
        return self.base_timestamp_ms if self.attributes & DELETE_HORIZON_BIT else None


_new_header = tuple.__new__


def read_header(buf: Bytes, position: int = 0) -> BatchHeader:
    """The header of the batch that starts at ``position``.

    Only the header has to lie in ``buf``: a log reads 61 bytes of a file to learn how many follow.
    ``verify_crc`` and ``iter_batches`` compare ``size_bytes`` with the buffer.

    Raises ``CorruptBatch`` if the buffer ends within the header, the length is less than a header
    or the magic byte is none; ``UnsupportedMagic`` for magic 0 and 1.
    """
    if len(buf) - position < HEADER_BYTES:
        raise _short_header_error(buf, position)
    header = _new_header(BatchHeader, unpack_header(buf, position))
    if header[3] != MAGIC or header[1] < _SHORTEST_LENGTH:
        raise _nonsense_error(header[1], header[3])
    return header


def batch_size_bytes(buf: Bytes, position: int = 0) -> int:
    """The size that the batch at ``position`` claims; only its first 12 bytes are looked at.

    Raises ``CorruptBatch`` where these 12 are not there or the size is less than a header's.
    """
    if len(buf) - position < LOG_OVERHEAD_BYTES:
        raise CorruptBatch(f"{len(buf) - position} bytes are too few for a batch's length")
    length: int = _OFFSET_AND_LENGTH.unpack_from(buf, position)[1]
    if length < _SHORTEST_LENGTH:
        raise CorruptBatch(f"batch length {length} is less than a header's")
    return LOG_OVERHEAD_BYTES + length


def verify_crc(buf: Bytes, header: BatchHeader, position: int = 0) -> None:
    """Check that the batch lies in ``buf`` as a whole and that its checksum is right.

    Raises ``CorruptBatch``.
    """
    end = position + LOG_OVERHEAD_BYTES + header.length
    if end > len(buf):
        raise CorruptBatch(f"batch of {header.size_bytes} bytes in {len(buf) - position}")
    view = buf if type(buf) is memoryview else memoryview(buf)
    computed = crc32c(view[position + CRC_COVERS_FROM : end])
    if computed != header.crc:
        raise CorruptBatch(f"stored checksum {header.crc:#010x}, computed {computed:#010x}")


def stamp(
    buf: bytearray | memoryview, base_offset: int, leader_epoch: int, position: int = 0
) -> None:
    """Give the batch at ``position`` its place in the log, in place; the checksum covers neither."""
    _pack_offset(buf, position, base_offset)
    _pack_int32(buf, position + _LEADER_EPOCH_POSITION, leader_epoch)


def stamp_log_append_time(
    buf: bytearray | memoryview, timestamp_ms: int, position: int = 0
) -> None:
    """Make ``timestamp_ms`` the timestamp of every record of the batch, with a new checksum.

    The records keep their own deltas; readers ignore them under LogAppendTime, as Kafka's do.
    Raises ``CorruptBatch`` if the batch is not in ``buf`` as a whole.
    """
    header = read_header(buf, position)
    end = position + header.size_bytes
    if end > len(buf):
        raise CorruptBatch(f"batch of {header.size_bytes} bytes in {len(buf) - position}")
    _pack_int16(buf, position + _ATTRIBUTES_POSITION, header.attributes | TIMESTAMP_TYPE_BIT)
    _pack_offset(buf, position + _MAX_TIMESTAMP_POSITION, timestamp_ms)
    checksum = crc32c(memoryview(buf)[position + CRC_COVERS_FROM : end])
    _pack_uint32(buf, position + CRC_POSITION, checksum)


def iter_batches(buf: Bytes) -> Iterator[tuple[int, BatchHeader]]:
    """Each batch that lies in ``buf`` as a whole: its position and its header.

    Ends silently at a partial last batch: a Fetch answer is cut at a number of bytes, and a log may
    have a torn tail. Raises ``CorruptBatch`` and ``UnsupportedMagic`` where the bytes can't be
    (the start of) a batch. Checksums are not verified.
    """
    end = len(buf)
    position = 0
    while end - position >= HEADER_BYTES:
        header = read_header(buf, position)
        following = position + LOG_OVERHEAD_BYTES + header.length
        if following > end:
            return
        yield position, header
        position = following
    if end - position > _MAGIC_POSITION:
        _refuse_tail(buf, position)


def pack_header(buf: bytearray | memoryview, header: BatchHeader, position: int = 0) -> None:
    """Write ``header`` at ``position`` and compute the checksum over the batch that lies there.

    ``header.crc`` is ignored. ``struct.error`` where a field is out of its range: the caller's bug.
    """
    _HEADER.pack_into(buf, position, *header)
    end = position + header.size_bytes
    checksum = crc32c(memoryview(buf)[position + CRC_COVERS_FROM : end])
    _pack_uint32(buf, position + CRC_POSITION, checksum)


def _short_header_error(buf: Bytes, position: int) -> KafkaError:
    """Why fewer than 61 bytes are no header: a whole message of magic 0 can be shorter."""
    available = len(buf) - position
    if available > _MAGIC_POSITION:
        length = _OFFSET_AND_LENGTH.unpack_from(buf, position)[1]
        magic = buf[position + _MAGIC_POSITION]
        if magic < MAGIC and length >= _SHORTEST_LEGACY_LENGTH:
            return UnsupportedMagic(magic)
    return CorruptBatch(f"{max(available, 0)} bytes are too few for a batch header")


def _nonsense_error(length: int, magic: int) -> KafkaError:
    if 0 <= magic < MAGIC and length >= _SHORTEST_LEGACY_LENGTH:
        return UnsupportedMagic(magic)
    if magic != MAGIC:
        return CorruptBatch(f"invalid magic {magic}")
    return CorruptBatch(f"batch length {length} is less than a header's")


def _refuse_tail(buf: Bytes, position: int) -> None:
    """Raise if 17 to 60 bytes at the end are more than a batch cut short."""
    length = _OFFSET_AND_LENGTH.unpack_from(buf, position)[1]
    magic = buf[position + _MAGIC_POSITION]
    if magic != MAGIC or length < _SHORTEST_LENGTH:
        raise _nonsense_error(length, magic)

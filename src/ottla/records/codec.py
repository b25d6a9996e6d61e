"""The records inside a batch: encoded for producers, decoded for consumers, walked for the broker.

This is the client's per-record path, in pure Python, and the reference for a compiled one. So the
hot loops spell out their variable-length integers: a number of one or two bytes (nearly all of
them) is read inline, longer ones in ``_long_varint``; small ones are written from a table. A number
as read is still zigzagged: even for n >= 0, odd for n < 0.

Rules for bytes that come from outside:

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
from typing import NamedTuple, TypeAlias

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
from ottla.records.compression import MAX_DECOMPRESSED_BYTES, decompress
from ottla.wire.primitives import encode_varint

Header: TypeAlias = tuple[str, bytes | None]
"""A record header: its key and its value."""

NewRecord: TypeAlias = tuple[int, bytes | None, bytes | None, Sequence[Header]]
"""A record to be written: timestamp in milliseconds, key, value, headers."""

# Length, attributes, timestamp, offset, key's length, value's length, number of headers.
_SHORTEST_RECORD_BYTES = 7
_SMALL_VARINTS = 4096
CHUNK_RECORDS = 20_000
CHUNK_BYTES = 4 << 20
"""What ``decode_in_chunks`` decodes at once: a record of 7 bytes takes some 200 as an object."""
RECORD_HEADERS_MAX = 1_000_000
"""A header of 2 bytes takes some 70 as an object; Kafka has no such bound."""
_NULL = b"\x01"
_NO_HEADERS = b"\x00"


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


_small = tuple(
    [bytes((number << 1,)) for number in range(64)]
    + [bytes((number << 1 & 127 | 128, number >> 6)) for number in range(64, _SMALL_VARINTS)]
)
_null_key_and_small = tuple([_NULL + encoded for encoded in _small])


def encode_records(records: Iterable[NewRecord], base_timestamp_ms: int) -> bytes:
    """The records' bytes, uncompressed, with offset deltas 0, 1, 2...

    Keys and values have to be ``bytes`` or None. ``struct.error``, ``TypeError`` or ``ValueError``
    are the caller's bugs; ``BatchBuilder.append`` checks what it is given.
    """
    return b"".join(encode_chunks(records, base_timestamp_ms, []))


def encode_chunks(
    records: Iterable[NewRecord], base_timestamp_ms: int, chunks: list[bytes]
) -> list[bytes]:
    """Append the records' bytes to ``chunks``, to be joined (with a header) by the caller."""
    small = _small
    null_key = _null_key_and_small
    # Attributes (none are in use) and the timestamp's delta, and the width of all but offset,
    # lengths, key and value.
    stamp = b"\x00\x00"
    fixed = 3
    last_timestamp_ms = base_timestamp_ms
    delta = -1
    for timestamp_ms, key, value, headers in records:
        delta += 1
        if timestamp_ms != last_timestamp_ms:
            stamp = b"\x00" + encode_varint(timestamp_ms - base_timestamp_ms)
            fixed = len(stamp) + 1
            last_timestamp_ms = timestamp_ms
        offset = small[delta] if delta < _SMALL_VARINTS else encode_varint(delta)
        if value is not None and not headers:
            size = len(value)
            if key is None:
                if size < 4000:
                    length = null_key[size]
                    body = fixed + len(offset) + len(length) + size
                    chunks += (small[body], stamp, offset, length, value, _NO_HEADERS)
                    continue
            elif size + len(key) < 4000:
                key_length = small[len(key)]
                length = small[size]
                body = fixed + len(offset) + len(key_length) + len(key) + len(length) + size
                chunks += (small[body], stamp, offset, key_length, key, length, value, _NO_HEADERS)
                continue
        _encode_any(chunks, stamp, offset, key, value, headers)
    return chunks


def _encode_any(
    chunks: list[bytes],
    stamp: bytes,
    offset: bytes,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header],
) -> None:
    """One record of any shape."""
    body = [stamp, offset]
    for part in (key, value):
        body += (_NULL,) if part is None else (_length(part), part)
    body.append(_length(headers))
    for name, part in headers:
        encoded = name.encode()
        body += (_length(encoded), encoded)
        body += (_NULL,) if part is None else (_length(part), part)
    chunks.append(encode_varint(sum(map(len, body))))
    chunks += body


def _length(part: bytes | Sequence[Header]) -> bytes:
    length = len(part)
    return _small[length] if length < _SMALL_VARINTS else encode_varint(length)


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
        return _decode(data, header)
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None


def decode_in_chunks(
    buf: Bytes,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
    position: int = 0,
    header: BatchHeader | None = None,
) -> Iterator[tuple[list[Record], bool]]:
    """As ``decode_batch``, some records at a time, each time with whether they are the last.

    A small batch may unpack to millions of records: their bytes are bounded, but as objects they take thirty
    times as much. Raises ``KafkaError`` alone, perhaps after some records that are whole.
    """
    if header is None:
        header = read_header(buf, position)
    data = _plain_records(buf, position, header, max_decompressed_bytes)
    left, size, p = header.record_count, len(data), 0
    try:
        while left > CHUNK_RECORDS or size - p > CHUNK_BYTES:
            start, count = p, 0
            while count < min(left, CHUNK_RECORDS) and p - start < CHUNK_BYTES:
                n, p = _varint(data, p)
                if n & 1 or p + (n >> 1) > size:
                    raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
                p += n >> 1
                count += 1
            left -= count
            yield (
                _decode(data[start:p], header._replace(record_count=count)),
                left == 0 and p == size,
            )
            if not left:
                break
        if left or p < size or not size:
            yield _decode(data[p:] if p else data, header._replace(record_count=left)), True
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None


def _decode(data: bytes, header: BatchHeader) -> list[Record]:
    """Every record of ``data``, to its last byte; IndexError at a premature end."""
    records: list[Record] = []
    append, new, kind, size = records.append, tuple.__new__, Record, len(data)
    base_offset, base_timestamp_ms, create_time, timestamp_ms = _bases(header)
    last_delta = p = 0
    for expected_delta in range(0, header.record_count * 2, 2):
        n, p = data[p], p + 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        end = p + (n >> 1)
        if n & 1 or end > size:
            raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
        n, p = data[p + 1], p + 2  # past the attributes
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        if n != last_delta and create_time:
            last_delta = n
            timestamp_ms = base_timestamp_ms + _signed(n)
        n, p = data[p], p + 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        offset = base_offset + (n >> 1 if n == expected_delta else _offset_delta(n))
        n, p = data[p], p + 1
        key = value = None
        if n != 1:
            if n > 127:
                n, p = _long_varint(data, p)
            if not n & 1:
                start, p = p, p + (n >> 1)
                key = data[start:p]
        n, p = data[p], p + 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        if not n & 1:
            start, p = p, p + (n >> 1)
            value = data[start:p]
        headers: list[Header] = []
        p = p + 1 if data[p] == 0 else _read_headers(data, p, end, headers)
        if p != end:
            raise InvalidRecord(f"a record's fields end {p - end} bytes behind it")
        append(new(kind, (offset, timestamp_ms, key, value, headers)))
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")
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
    for offset, delta, _, _ in _walk(
        _plain_records(buf, position, header, max_decompressed_bytes), header
    ):
        found_ms = base_timestamp_ms + _signed(delta) if create_time else fixed_ms
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
    for offset, _, start, end in _walk(data, header):
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
    for index, (_, _, start, _) in enumerate(_walk(data, header)):
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
    base_offset, base_timestamp_ms, create_time, timestamp_ms = _bases(header)
    size, p, new = len(data), 0, tuple.__new__
    try:
        for _ in range(header.record_count):
            start = p
            n, p = _varint(data, p)
            end = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            n, p = _varint(data, p + 1)  # past the attributes
            if create_time:
                timestamp_ms = base_timestamp_ms + _signed(n)
            n, p = _varint(data, p)
            offset = base_offset + _offset_delta(n)
            n, p = _varint(data, p)
            key = None
            if not n & 1:
                key_start, p = p, p + (n >> 1)
                key = data[key_start:p]
            n, p = _varint(data, p)
            if not n & 1:
                p += n >> 1
            if p >= end:
                raise InvalidRecord(f"a value ends {p - end} bytes behind its record")
            yield new(RecordPlace, (start, end, offset, timestamp_ms, key, not n & 1))
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")


def with_base_timestamp(data: bytes, header: BatchHeader, base_timestamp_ms: int) -> bytes:
    """The plain records ``data``, whose timestamps count from ``header``, counting from another base.

    Raises ``InvalidRecord``.
    """
    shift = header.base_timestamp_ms - base_timestamp_ms
    chunks: list[bytes] = []
    size, p = len(data), 0
    try:
        while p < size:
            n, p = _varint(data, p)
            end = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            attributes = data[p : p + 1]
            n, p = _varint(data, p + 1)
            moved = _signed(n) + shift
            if not -(1 << 63) <= moved < 1 << 63:
                raise InvalidRecord(f"a timestamp {moved} from the batch's")
            delta = encode_varint(moved)
            chunks += (encode_varint(1 + len(delta) + end - p), attributes, delta, data[p:end])
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    return b"".join(chunks)


def _walk(data: bytes, header: BatchHeader) -> Iterator[tuple[int, int, int, int]]:
    """Of each record: offset, timestamp delta (zigzagged), start and end of the key (-1: null).

    Values and headers are jumped over. Raises ``InvalidRecord``.
    """
    base_offset, size, p = header.base_offset, len(data), 0
    try:
        for _ in range(header.record_count):
            n, p = data[p], p + 1
            if n > 127:
                n, p = _long_varint(data, p)
            end = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            timestamp_delta, p = data[p + 1], p + 2  # past the attributes
            if timestamp_delta > 127:
                timestamp_delta, p = _long_varint(data, p)
            n, p = data[p], p + 1
            if n > 127:
                n, p = _long_varint(data, p)
            offset = base_offset + _offset_delta(n)
            n, p = data[p], p + 1
            if n > 127:
                n, p = _long_varint(data, p)
            key_end = p if n & 1 else p + (n >> 1)
            if key_end >= end:
                raise InvalidRecord(f"a key ends {key_end - end} bytes behind its record")
            yield offset, timestamp_delta, -1 if n & 1 else p, key_end
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")


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


def _read_headers(data: bytes, p: int, end: int, headers: list[Header]) -> int:
    """Read a record's headers into ``headers``; the position behind them."""
    n, p = _varint(data, p)
    count = _signed(n)
    if not 0 <= count <= min((end - p) // 2, RECORD_HEADERS_MAX):
        raise InvalidRecord(f"{count} record headers in {end - p} bytes")
    for _ in range(count):
        n, p = _varint(data, p)
        if n & 1 or p + (n >> 1) > end:
            raise InvalidRecord(f"a header key of {_signed(n)} bytes in {end - p}")
        start, p = p, p + (n >> 1)
        name = data[start:p].decode("utf-8", "replace")
        n, p = _varint(data, p)
        value = None
        if not n & 1:
            start, p = p, p + (n >> 1)
            if p > end:
                raise InvalidRecord(f"a header value of {n >> 1} bytes in {end - start}")
            value = data[start:p]
        headers.append((name, value))
    return p


def _varint(data: bytes, p: int) -> tuple[int, int]:
    """The number at ``p``, still zigzagged, and the position behind it; IndexError at the end."""
    n = data[p]
    return (n, p + 1) if n < 128 else _long_varint(data, p + 1)


def _long_varint(data: bytes, p: int) -> tuple[int, int]:
    """As ``_varint``, from the second byte of a number on: ``data[p - 1]`` has the first."""
    byte = data[p]
    n = data[p - 1] - 128 + (byte << 7)
    if byte < 128:
        return n, p + 1
    n -= 16384
    p += 1
    for shift in range(14, 70, 7):
        byte = data[p]
        p += 1
        n |= (byte & 127) << shift
        if byte < 128:
            if n >> 64:
                break
            return n, p
    raise InvalidRecord("a variable-length number of more than 64 bits")


def _signed(n: int) -> int:
    return (n >> 1) ^ -(n & 1)


def _offset_delta(n: int) -> int:
    if n >> 32:
        raise InvalidRecord(f"offset delta {_signed(n)} exceeds 32 bits")
    return _signed(n)

"""The loops over the records of a batch: one source, run as it is or compiled.

Where pip found a C compiler, mypyc compiled this very text to ``record_loops_compiled``; ``chosen_loops`` says
which of the two runs. Both do the same with any bytes: one set of tests holds both. So, beyond the rules that
``codec`` names:

- what is an ``i64`` here is an ``int`` when interpreted: no arithmetic on one may leave 64 bits. Lengths and
  positions stay below 2^63 (see ``_long_varint``); offsets and timestamps are ``int``;
- a length is compared with the end of its record before anything is sliced by it, and an index is one that
  is checked: IndexError at a premature end, which ``codec`` translates;
- types and constants that are compiled in are of this module: those of others may change without it.

The hot loops spell out their variable-length integers: a number of one or two bytes (nearly all of them) is
read inline, longer ones in ``_long_varint``; small ones are written from a table. A number as read is still
zigzagged: even for n >= 0, odd for n < 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ottla.records.batch import InvalidRecord
from ottla.wire.primitives import encode_varint

if TYPE_CHECKING:
    from mypy_extensions import i64

    _Header = tuple[str, bytes | None]
    _NewRecord = tuple[int, bytes | None, bytes | None, Sequence[_Header]]

RECORD_HEADERS_MAX: Final = 1_000_000
"""A header of 2 bytes takes some 70 as an object; Kafka has no such bound."""

_SMALL_VARINTS: Final = 4096
_NULL: Final = b"\x01"
_NO_HEADERS: Final = b"\x00"
_LONGEST: Final = 1 << 60
"""No length that fits in memory: what a longer number is read as."""

_small: Final[list[bytes]] = [bytes((number << 1,)) for number in range(64)] + [
    bytes((number << 1 & 127 | 128, number >> 6)) for number in range(64, _SMALL_VARINTS)
]
_null_key_and_small: Final[list[bytes]] = [_NULL + encoded for encoded in _small]


def encode_chunks(
    records: Iterable[_NewRecord], base_timestamp_ms: int, chunks: list[bytes]
) -> list[bytes]:
    """Append the records' bytes to ``chunks``, to be joined (with a header) by the caller."""
    small = _small
    null_key = _null_key_and_small
    # Attributes (none are in use) and the timestamp's delta, and the width of all but offset,
    # lengths, key and value.
    stamp = b"\x00\x00"
    fixed: i64 = 3
    last_timestamp_ms = base_timestamp_ms
    delta: i64 = -1
    for timestamp_ms, key, value, headers in records:
        delta += 1
        if timestamp_ms != last_timestamp_ms:
            stamp = b"\x00" + encode_varint(timestamp_ms - base_timestamp_ms)
            fixed = len(stamp) + 1
            last_timestamp_ms = timestamp_ms
        offset = small[delta] if delta < _SMALL_VARINTS else encode_varint(delta)
        if value is not None and not headers:
            size: i64 = len(value)
            if key is None:
                if size < 4000:
                    length = null_key[size]
                    body: i64 = fixed + len(offset) + len(length) + size
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
    headers: Sequence[_Header],
) -> None:
    """One record of any shape."""
    place = len(chunks)
    chunks.append(stamp)  # the length's place
    chunks.append(stamp)
    chunks.append(offset)
    size: i64 = len(stamp) + len(offset)
    size += _append_part(chunks, key)
    size += _append_part(chunks, value)
    count = _length(len(headers))
    chunks.append(count)
    size += len(count)
    for name, part in headers:
        size += _append_part(chunks, name.encode())
        size += _append_part(chunks, part)
    chunks[place] = _length(size)


def _append_part(chunks: list[bytes], part: bytes | None) -> i64:
    """A length and what has it, or the mark of null; how many bytes that is."""
    if part is None:
        chunks.append(_NULL)
        return 1
    size: i64 = len(part)
    length = _length(size)
    chunks.append(length)
    chunks.append(part)
    return size + len(length)


def _length(length: i64) -> bytes:
    return _small[length] if length < _SMALL_VARINTS else encode_varint(length)


def decode(
    data: bytes,
    count: i64,
    base_offset: int,
    base_timestamp_ms: int,
    create_time: bool,
    timestamp_ms: int,
    kind: Any,
    topic: str | None,
    partition: Any,
) -> list[Any]:
    """Every record of ``data``, to its last byte; IndexError at a premature end. As ``decode_some``."""
    size: i64 = len(data)
    records, p = decode_some(
        data,
        0,
        0,
        count,
        size + 1,
        base_offset,
        base_timestamp_ms,
        create_time,
        timestamp_ms,
        kind,
        topic,
        partition,
    )
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")
    return records


def decode_some(
    data: bytes,
    p: i64,
    index: i64,
    count: i64,
    bytes_max: i64,
    base_offset: int,
    base_timestamp_ms: int,
    create_time: bool,
    timestamp_ms: int,
    kind: Any,
    topic: str | None,
    partition: Any,
) -> tuple[list[Any], i64]:
    """``count`` records from the place ``p`` on, which is that of record ``index``, and the place behind them.

    Fewer once they are ``bytes_max`` bytes or more. IndexError at a premature end.

    Without a ``topic`` each is of ``kind``, a class of tuples of offset, timestamp in ms, key, value and a list
    of headers. With one ``kind`` is called with topic, partition, the same, and a tuple of headers.
    ``timestamp_ms`` is the first record's, and every one's unless ``create_time``.
    """
    records: list[Any] = []
    new = tuple.__new__
    stamp: Any = timestamp_ms  # an object once, not for each record
    size: i64 = len(data)
    start: i64 = p
    last_delta: i64 = 0
    expected_delta: i64 = (index << 1) - 2
    for _ in range(count):
        if p - start >= bytes_max:
            break
        expected_delta += 2
        n: i64 = data[p]
        p += 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        end: i64 = p + (n >> 1)
        if n & 1 or end > size:
            raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
        n = data[p + 1]  # past the attributes
        p += 2
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
        if n > 16383:
            moved, p = _long_signed(data, p - 1)
            last_delta = -1
            if create_time:
                shift: int = moved
                stamp = base_timestamp_ms + shift
        elif n != last_delta and create_time:
            last_delta = n
            shift = _signed(n)
            stamp = base_timestamp_ms + shift
        n = data[p]
        p += 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        delta: int = n >> 1 if n == expected_delta else _offset_delta(n)
        n = data[p]
        p += 1
        key: bytes | None = None
        if n != 1:
            if n > 127:
                n, p = _long_varint(data, p)
            if not n & 1:
                begin: i64 = p
                p += n >> 1
                key = data[begin:p]
        n = data[p]
        p += 1
        if n > 127:
            n += (data[p] << 7) - 128
            p += 1
            if n > 16383:
                n, p = _long_varint(data, p - 1)
        value: bytes | None = None
        if not n & 1:
            begin = p
            p += n >> 1
            value = data[begin:p]
        headers: tuple[_Header, ...] = ()
        if data[p] == 0:
            p += 1
        else:
            headers, p = _read_headers(data, p, end)
        if p != end:
            raise InvalidRecord(f"a record's fields end {p - end} bytes behind it")
        offset = base_offset + delta
        if topic is None:
            records.append(new(kind, (offset, stamp, key, value, list(headers))))
        else:
            records.append(kind(topic, partition, offset, stamp, key, value, headers))
    return records, p


def _read_headers(data: bytes, p: i64, end: i64) -> tuple[tuple[_Header, ...], i64]:
    """A record's headers, and the position behind them."""
    headers: list[_Header] = []
    n, p = _varint(data, p)
    count: i64 = _signed(n)
    if not 0 <= count <= min((end - p) // 2, RECORD_HEADERS_MAX):
        raise InvalidRecord(f"{count} record headers in {end - p} bytes")
    for _ in range(count):
        n, p = _varint(data, p)
        if n & 1 or p + (n >> 1) > end:
            raise InvalidRecord(f"a header key of {_signed(n)} bytes in {end - p}")
        start: i64 = p
        p += n >> 1
        name = data[start:p].decode("utf-8", "replace")
        n, p = _varint(data, p)
        value: bytes | None = None
        if not n & 1:
            start = p
            p += n >> 1
            if p > end:
                raise InvalidRecord(f"a header value of {n >> 1} bytes in {end - start}")
            value = data[start:p]
        headers.append((name, value))
    return tuple(headers), p


def walk(data: bytes, count: i64, base_offset: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each record: offset, timestamp delta, start and end of the key (-1: null).

    Values and headers are jumped over. Raises ``InvalidRecord``.
    """
    size: i64 = len(data)
    p: i64 = 0
    try:
        for _ in range(count):
            n, p = _varint(data, p)
            end: i64 = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            moved, p = _signed_varint(data, p + 1)  # past the attributes
            n, p = _varint(data, p)
            delta: int = _offset_delta(n)
            n, p = _varint(data, p)
            key_end: i64 = p if n & 1 else p + (n >> 1)
            if key_end >= end:
                raise InvalidRecord(f"a key ends {key_end - end} bytes behind its record")
            yield base_offset + delta, moved, -1 if n & 1 else p, key_end
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")


def places(
    data: bytes,
    count: i64,
    base_offset: int,
    base_timestamp_ms: int,
    create_time: bool,
    timestamp_ms: int,
    kind: Any,
) -> Iterator[Any]:
    """Of each record, as a ``kind``: start, end, offset, timestamp in ms, key, whether it has a value.

    Record headers are not looked at. Raises ``InvalidRecord``.
    """
    new = tuple.__new__
    size: i64 = len(data)
    p: i64 = 0
    try:
        for _ in range(count):
            start: i64 = p
            n, p = _varint(data, p)
            end: i64 = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            moved, p = _signed_varint(data, p + 1)  # past the attributes
            if create_time:
                shift: int = moved
                timestamp_ms = base_timestamp_ms + shift
            n, p = _varint(data, p)
            delta: int = _offset_delta(n)
            n, p = _varint(data, p)
            key: bytes | None = None
            if not n & 1:
                key_start: i64 = p
                p += n >> 1
                key = data[key_start:p]
            n, p = _varint(data, p)
            has_value = not n & 1
            if has_value:
                p += n >> 1
            if p >= end:
                raise InvalidRecord(f"a value ends {p - end} bytes behind its record")
            yield new(kind, (start, end, base_offset + delta, timestamp_ms, key, has_value))
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    if p != size:
        raise InvalidRecord(f"{size - p} bytes follow the last record")


def shifted(data: bytes, shift: int) -> bytes:
    """The records with each timestamp's delta ``shift`` ms greater. Raises ``InvalidRecord``."""
    chunks: list[bytes] = []
    size: i64 = len(data)
    p: i64 = 0
    try:
        while p < size:
            n, p = _varint(data, p)
            end: i64 = p + (n >> 1)
            if n & 1 or end > size:
                raise InvalidRecord(f"a record of {_signed(n)} bytes in {size - p}")
            attributes = data[p : p + 1]
            delta, p = _signed_varint(data, p + 1)
            moved: int = delta
            moved += shift
            if not -(1 << 63) <= moved < 1 << 63:
                raise InvalidRecord(f"a timestamp {moved} from the batch's")
            if p > end:
                raise InvalidRecord(f"a timestamp ends {p - end} bytes behind its record")
            encoded = encode_varint(moved)
            length: int = 1 + len(encoded) + end - p
            chunks += (encode_varint(length), attributes, encoded, data[p:end])
            p = end
    except IndexError:
        raise InvalidRecord("the batch ends within a record") from None
    return b"".join(chunks)


def _varint(data: bytes, p: i64) -> tuple[i64, i64]:
    """The number at ``p``, still zigzagged, and the position behind it; IndexError at the end."""
    n: i64 = data[p]
    if n < 128:
        return n, p + 1
    return _long_varint(data, p + 1)


def _long_varint(data: bytes, p: i64) -> tuple[i64, i64]:
    """As ``_varint``, from the second byte of a number on: ``data[p - 1]`` has the first.

    For lengths and deltas of 32 bits: a number past ``_LONGEST`` comes back as that, even or odd as it was.
    """
    moved, p = _long_signed(data, p)
    if moved >= _LONGEST:
        return _LONGEST, p
    if moved < -_LONGEST:
        return _LONGEST + 1, p
    return (moved << 1) ^ (moved >> 63), p


def _signed_varint(data: bytes, p: i64) -> tuple[i64, i64]:
    """The signed number at ``p`` and the position behind it."""
    n: i64 = data[p]
    if n < 128:
        return _signed(n), p + 1
    return _long_signed(data, p + 1)


def _long_signed(data: bytes, p: i64) -> tuple[i64, i64]:
    """As ``_signed_varint``, from the second byte on. Its 64 bits are read as a half and a sign."""
    byte: i64 = data[p - 1]
    negative: i64 = byte & 1
    half: i64 = (byte & 127) >> 1
    shift: i64 = 6
    while shift < 69:
        byte = data[p]
        p += 1
        if shift == 62 and byte > 1:
            break
        half |= (byte & 127) << shift
        if byte < 128:
            return half ^ -negative, p
        shift += 7
    raise InvalidRecord("a variable-length number of more than 64 bits")


def _signed(n: i64) -> i64:
    return (n >> 1) ^ -(n & 1)


def _offset_delta(n: i64) -> i64:
    if n >> 32:
        raise InvalidRecord(f"offset delta {_signed(n)} exceeds 32 bits")
    return _signed(n)

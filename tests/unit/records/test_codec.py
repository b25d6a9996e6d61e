"""Records of every shape survive, and a batch that lies about itself is refused by Kafka's code."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from ottla.errors import ErrorCode
from ottla.records.batch import (
    CompressionType,
    CorruptBatch,
    InvalidRecord,
    TimestampType,
    UnsupportedCompression,
    pack_header,
    read_header,
    stamp_log_append_time,
)
from ottla.records.builder import build_batch
from ottla.records.codec import (
    NewRecord,
    Record,
    decode_batch,
    encode_records,
    iter_keys,
    offset_of_timestamp,
    require_keys,
)
from ottla.records.compression import DecompressedTooLarge, compress

SHAPES: dict[str, NewRecord] = {
    "value alone": (5, None, b"value", ()),
    "key and value": (5, b"key", b"value", ()),
    "tombstone": (5, b"key", None, ()),
    "nothing at all": (5, None, None, ()),
    "empty key and value": (5, b"", b"", ()),
    "headers": (5, b"key", b"value", [("a", b"1"), ("a", b"2"), ("", b""), ("ü", None)]),
    "headers without value": (5, None, None, [("trace", b"x" * 300)]),
    "value at the table's end": (5, None, b"v" * 3999, ()),
    "value past the table": (5, None, b"v" * 4000, ()),
    "large value": (5, b"k" * 64, b"v" * 70_000, ()),
    "large key": (5, b"k" * 5000, b"v", ()),
    "key of two length bytes": (5, b"k" * 100, b"v" * 3000, ()),
    "no timestamp": (-1, None, b"value", ()),
    "timestamp before the base": (0, None, b"value", ()),
    "timestamp a year later": (31_536_000_000, b"k", b"value", ()),
    "largest timestamp": (2**63 - 1, None, b"value", ()),
}


def batch_around(
    data: bytes,
    count: int = 1,
    *,
    compression: CompressionType = CompressionType.NONE,
) -> bytearray:
    """A batch with a valid header and these bytes as its records."""
    template = read_header(build_batch([(5, None, b"", ())], compression=compression))
    stored = compress(compression, data)
    header = template._replace(
        length=49 + len(stored), record_count=count, last_offset_delta=max(count - 1, 0)
    )
    buf = bytearray(header.size_bytes)
    buf[61:] = stored
    pack_header(buf, header)
    return buf


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", CompressionType)
def test_a_record_of_any_shape_comes_back(name: str, kind: CompressionType) -> None:
    timestamp_ms, key, value, headers = SHAPES[name]
    batch = build_batch([(5, None, b"first", ()), SHAPES[name]], compression=kind, base_offset=40)
    assert decode_batch(batch) == [
        Record(40, 5, None, b"first", []),
        Record(41, timestamp_ms, key, value, list(headers)),
    ]


@pytest.mark.parametrize("count", [1, 64, 65, 4097, 9000])
def test_offsets_count_up_through_every_width(count: int) -> None:
    records: list[NewRecord] = [(index // 3, None, b"%d" % index, ()) for index in range(count)]
    batch = build_batch(records, base_offset=10**12)
    decoded = decode_batch(batch)
    assert [record.offset for record in decoded] == list(range(10**12, 10**12 + count))
    assert [record.timestamp_ms for record in decoded] == [index // 3 for index in range(count)]
    assert [record.value for record in decoded] == [record[2] for record in records]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_batch_is_decoded_where_it_lies(wrap: type) -> None:
    first, second = build_batch([(5, None, b"a", ())]), build_batch([(6, b"k", b"b", ())])
    buf = wrap(first + second + b"tail")
    assert decode_batch(buf, position=len(first)) == [Record(0, 6, b"k", b"b", [])]
    header = read_header(buf, len(first))
    decoded = decode_batch(buf, position=len(first), header=header)
    assert type(decoded[0].value) is bytes
    assert type(decoded[0].key) is bytes


def test_each_record_has_a_header_list_of_its_own() -> None:
    first, second = decode_batch(build_batch([(5, None, b"a", ()), (5, None, b"b", ())]))
    first.headers.append(("mine", None))
    assert second.headers == []


def test_log_append_time_is_every_records_timestamp() -> None:
    batch = build_batch(
        [(5, None, b"a", ()), (9, None, b"b", ()), (7, None, b"c", ())],
        timestamp_type=TimestampType.LOG_APPEND_TIME,
    )
    assert [record.timestamp_ms for record in decode_batch(batch)] == [9, 9, 9]


def test_a_batch_emptied_by_compaction_holds_nothing() -> None:
    for kind in CompressionType:
        batch = build_batch([(5, None, b"a", ())], compression=kind)
        header = read_header(batch)._replace(length=49, record_count=0)
        emptied = bytearray(61)
        pack_header(emptied, header)
        assert decode_batch(emptied) == []
        assert list(iter_keys(emptied)) == []
        assert offset_of_timestamp(emptied, 0) is None


def test_offset_deltas_that_compaction_left_are_kept() -> None:
    data = b"".join(
        encode_records([(5, b"k", b"v", ())], 5)[:3] + bytes((delta * 2,)) + b"\x02k\x02v\x00"
        for delta in (0, 3, 60)
    )
    assert [record.offset for record in decode_batch(batch_around(data, 3))] == [0, 3, 60]
    assert [offset for offset, _ in iter_keys(batch_around(data, 3))] == [0, 3, 60]


def test_negative_lengths_are_null_as_in_kafka() -> None:
    data = b"\x0c\x00\x00\x00\x03\x05\x00"
    assert decode_batch(batch_around(data)) == [Record(0, 5, None, None, [])]


def test_a_header_key_that_is_no_utf8_is_read_with_replacements() -> None:
    data = b"\x16\x00\x00\x00\x01\x01\x02\x04\xff\x41\x02x"
    assert decode_batch(batch_around(data))[0].headers == [("\ufffdA", b"x")]


BROKEN: dict[str, tuple[bytes, int]] = {
    "record longer than the batch": (b"\x7e\x00\x00\x00\x01\x01\x00", 1),
    "record of negative length": (b"\x01\x00\x00\x00\x01\x01\x00", 1),
    "record longer than its fields": (b"\x0e\x00\x00\x00\x01\x01\x00\x00", 1),
    "record shorter than its fields": (b"\x0a\x00\x00\x00\x01\x01\x00", 1),
    "key past the record": (b"\x0c\x00\x00\x00\x40\x01\x00", 1),
    "value past the record": (b"\x0c\x00\x00\x00\x01\x40\x00", 1),
    "value of 2^62 bytes": (b"\x1c\x00\x00\x00\x01" + b"\xff" * 9 + b"\x01\x00", 1),
    "key of 2^31 bytes": (b"\x14\x00\x00\x00\xfe\xff\xff\xff\x0f\x01\x00", 1),
    "number that doesn't end": (b"\x80" * 20, 1),
    "number above 64 bits": (b"\x20\x00" + b"\xff" * 9 + b"\x7f\x00\x01\x01\x00", 1),
    "offset delta above 32 bits": (b"\x16\x00\x00\x80\x80\x80\x80\x80\x01\x01\x01\x00", 1),
    "more headers than bytes": (b"\x0c\x00\x00\x00\x01\x01\x7e", 1),
    "a negative number of headers": (b"\x0c\x00\x00\x00\x01\x01\x01", 1),
    "a null header key": (b"\x10\x00\x00\x00\x01\x01\x02\x01\x00", 1),
    "a header key past the record": (b"\x10\x00\x00\x00\x01\x01\x02\x7e\x00", 1),
    "a header value past the record": (b"\x12\x00\x00\x00\x01\x01\x02\x02a\x7e", 1),
    "bytes behind the last record": (b"\x0c\x00\x00\x00\x01\x01\x00\x0c", 1),
    "fewer records than declared": (b"\x0c\x00\x00\x00\x01\x01\x00", 2),
    "more records than bytes": (b"\x0c\x00\x00\x00\x01\x01\x00", 2**31 - 1),
    "a negative number of records": (b"", -1),
    "a record in no bytes": (b"", 1),
}
# What a walk over the keys jumps over without looking.
BEHIND_THE_KEY = {
    "record longer than its fields",
    "record shorter than its fields",
    "value past the record",
    "value of 2^62 bytes",
    "more headers than bytes",
    "a negative number of headers",
    "a null header key",
    "a header key past the record",
    "a header value past the record",
}


@pytest.mark.parametrize("kind", [CompressionType.NONE, CompressionType.ZSTD])
@pytest.mark.parametrize("name", BROKEN)
def test_a_batch_that_lies_is_an_invalid_record(name: str, kind: CompressionType) -> None:
    data, count = BROKEN[name]
    with pytest.raises(InvalidRecord) as caught:
        decode_batch(batch_around(data, count, compression=kind))
    assert caught.value.code is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("name", sorted(set(BROKEN) - BEHIND_THE_KEY))
def test_a_walk_over_the_keys_finds_what_is_wrong_up_to_them(name: str) -> None:
    data, count = BROKEN[name]
    with pytest.raises(InvalidRecord):
        list(iter_keys(batch_around(data, count)))


DECODERS: list[Callable[[bytearray], object]] = [
    decode_batch,
    lambda batch: list(iter_keys(batch)),
    require_keys,
    lambda batch: offset_of_timestamp(batch, 0),
]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_batch_that_is_not_whole_is_corrupt(decoder: Callable[[bytearray], object]) -> None:
    batch = build_batch([(5, b"k", b"a", ())])
    for size in (0, 60, 61, len(batch) - 1):
        with pytest.raises(CorruptBatch):
            decoder(batch[:size])


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_unknown_codec_is_unsupported(decoder: Callable[[bytearray], object]) -> None:
    batch = build_batch([(5, b"k", b"a", ())])
    struct.pack_into(">h", batch, 21, 6)
    with pytest.raises(UnsupportedCompression):
        decoder(batch)


def test_decompression_keeps_the_callers_bound() -> None:
    batch = build_batch([(5, b"k", bytes(50_000), ())], compression=CompressionType.ZSTD)
    with pytest.raises(DecompressedTooLarge):
        decode_batch(batch, max_decompressed_bytes=50_000)
    with pytest.raises(DecompressedTooLarge):
        require_keys(batch, max_decompressed_bytes=50_000)
    assert len(decode_batch(batch, max_decompressed_bytes=51_000)) == 1


@pytest.mark.parametrize("kind", CompressionType)
def test_the_first_record_at_or_after_a_timestamp_is_found(kind: CompressionType) -> None:
    stamps = [100, 100, 250, 130, 300, 300]
    batch = build_batch(
        [(stamp_ms, None, b"x", ()) for stamp_ms in stamps], compression=kind, base_offset=7
    )
    assert offset_of_timestamp(batch, -1) == (7, 100)
    assert offset_of_timestamp(batch, 100) == (7, 100)
    assert offset_of_timestamp(batch, 101) == (9, 250)
    assert offset_of_timestamp(batch, 251) == (11, 300)
    assert offset_of_timestamp(batch, read_header(batch).max_timestamp_ms) == (11, 300)
    assert offset_of_timestamp(batch, 301) is None


def test_records_below_the_logs_start_are_not_found() -> None:
    batch = build_batch([(100, None, b"x", ()), (300, None, b"y", ())], base_offset=7)
    assert offset_of_timestamp(batch, 50, start_offset=8) == (8, 300)
    assert offset_of_timestamp(batch, 50, start_offset=9) is None
    stamp_log_append_time(batch, 5000)
    assert offset_of_timestamp(batch, 50, start_offset=8) == (8, 5000)


def test_a_timestamp_before_the_base_is_found() -> None:
    batch = build_batch([(100, None, b"x", ()), (40, None, b"y", ())])
    assert offset_of_timestamp(batch, 30) == (0, 100)
    assert offset_of_timestamp(batch, 100) == (0, 100)


def test_under_log_append_time_the_first_record_stands_for_all() -> None:
    batch = build_batch([(100, None, b"x", ()), (200, None, b"y", ())], base_offset=7)
    stamp_log_append_time(batch, 5000)
    assert offset_of_timestamp(batch, 150) == (7, 5000)
    assert offset_of_timestamp(batch, 5000) == (7, 5000)
    assert offset_of_timestamp(batch, 5001) is None


@pytest.mark.parametrize("kind", CompressionType)
def test_keys_are_walked_with_their_offsets(kind: CompressionType) -> None:
    keys = [b"a", None, b"", b"k" * 200]
    batch = build_batch(
        [(5, key, b"value", [("h", b"x")]) for key in keys], compression=kind, base_offset=3
    )
    assert list(iter_keys(batch)) == list(zip(range(3, 7), keys, strict=True))


def test_a_compacted_topics_batch_needs_a_key_in_every_record() -> None:
    require_keys(build_batch([(5, b"a", b"v", ()), (5, b"", None, ())]))
    with pytest.raises(InvalidRecord, match="record 1"):
        require_keys(build_batch([(5, b"a", b"v", ()), (5, None, b"v", ())]))

"""The header is read, checked and stamped where it lies; what is no batch is refused by its code."""

from __future__ import annotations

import struct

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.records.batch import (
    HEADER_BYTES,
    BatchHeader,
    CompressionType,
    CorruptBatch,
    TimestampType,
    UnsupportedCompression,
    UnsupportedMagic,
    batch_size_bytes,
    iter_batches,
    pack_header,
    read_header,
    stamp,
    stamp_log_append_time,
    verify_crc,
)
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch

HEADER = BatchHeader(
    base_offset=1234567890123,
    length=HEADER_BYTES - 12 + 5,
    leader_epoch=7,
    magic=2,
    crc=0,
    attributes=0,
    last_offset_delta=9,
    base_timestamp_ms=1_700_000_000_000,
    max_timestamp_ms=1_700_000_000_500,
    producer_id=4242,
    producer_epoch=3,
    base_sequence=17,
    record_count=10,
)


def packed(header: BatchHeader = HEADER, position: int = 0) -> bytearray:
    buf = bytearray(position + header.size_bytes)
    pack_header(buf, header, position)
    return buf


def batch_of(count: int, **fields: object) -> bytearray:
    records = [(1000 + index, None, b"value %d" % index, ()) for index in range(count)]
    return build_batch(records, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("position", [0, 13])
def test_a_packed_header_is_read_back_field_by_field(wrap: type, position: int) -> None:
    buf = wrap(packed(position=position))
    header = read_header(buf, position)
    assert header._replace(crc=0) == HEADER
    verify_crc(buf, header, position)


def test_fields_lie_where_kafka_puts_them() -> None:
    buf = packed()
    assert struct.unpack_from(">qiib", buf) == (1234567890123, 54, 7, 2)
    assert struct.unpack_from(">hiqq", buf, 21) == (0, 9, 1_700_000_000_000, 1_700_000_000_500)
    assert struct.unpack_from(">qhii", buf, 43) == (4242, 3, 17, 10)


def test_derived_sizes_and_offsets_follow_from_the_fields() -> None:
    assert HEADER.size_bytes == HEADER_BYTES + 5
    assert HEADER.last_offset == 1234567890132
    assert HEADER.next_offset == 1234567890133
    assert HEADER.has_producer_id
    assert not HEADER._replace(producer_id=-1).has_producer_id


@pytest.mark.parametrize(
    ("base", "delta", "last"),
    [(17, 9, 26), (-1, 9, -1), (2**31 - 1, 0, 2**31 - 1), (2**31 - 1, 1, 0), (2**31 - 3, 9, 6)],
)
def test_last_sequence_wraps_to_zero_after_the_largest_int(
    base: int, delta: int, last: int
) -> None:
    header = HEADER._replace(base_sequence=base, last_offset_delta=delta)
    assert header.last_sequence == last


@pytest.mark.parametrize("kind", CompressionType)
def test_attributes_name_the_codec(kind: CompressionType) -> None:
    assert HEADER._replace(attributes=0x78 | kind).compression is kind


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_unsupported(codec: int) -> None:
    with pytest.raises(UnsupportedCompression) as caught:
        _ = HEADER._replace(attributes=codec).compression
    assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_attributes_hold_one_flag_a_bit() -> None:
    assert HEADER.timestamp_type is TimestampType.CREATE_TIME
    assert HEADER._replace(attributes=8).timestamp_type is TimestampType.LOG_APPEND_TIME
    assert HEADER._replace(attributes=16).is_transactional
    assert HEADER._replace(attributes=32).is_control
    assert not HEADER._replace(attributes=~48).is_transactional
    assert not HEADER._replace(attributes=~48).is_control
    assert HEADER.delete_horizon_ms is None
    assert HEADER._replace(attributes=64).delete_horizon_ms == HEADER.base_timestamp_ms


def test_stamping_leaves_the_checksum_right_and_all_else_alone() -> None:
    buf = batch_of(3)
    before = read_header(buf)
    stamp(memoryview(buf), 2**40, 12)
    after = read_header(buf)
    assert after == before._replace(base_offset=2**40, leader_epoch=12)
    verify_crc(buf, after)
    assert [record.offset for record in decode_batch(buf)] == [2**40, 2**40 + 1, 2**40 + 2]


def test_stamping_a_batch_behind_another_touches_only_it() -> None:
    first = batch_of(2)
    buf = first + batch_of(1)
    stamp(buf, 77, 5, len(first))
    assert buf[: len(first)] == first
    assert read_header(buf, len(first)).base_offset == 77


def test_log_append_time_replaces_every_timestamp_under_a_new_checksum() -> None:
    first = batch_of(2)
    buf = first + batch_of(3)
    stamp_log_append_time(memoryview(buf), 5_000_000, len(first))
    header = read_header(buf, len(first))
    verify_crc(buf, header, len(first))
    assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert header.max_timestamp_ms == 5_000_000
    assert header.base_timestamp_ms == 1000
    stamped = decode_batch(buf, position=len(first))
    assert [record.timestamp_ms for record in stamped] == [5_000_000] * 3
    assert buf[: len(first)] == first


def test_log_append_time_needs_the_whole_batch() -> None:
    with pytest.raises(CorruptBatch):
        stamp_log_append_time(batch_of(2)[:-1], 5)


def test_any_flipped_bit_behind_the_checksum_is_noticed() -> None:
    buf = batch_of(2)
    for index in range(17, len(buf)):
        damaged = bytearray(buf)
        damaged[index] ^= 0x10
        with pytest.raises(CorruptBatch) as caught:
            verify_crc(damaged, read_header(damaged))
        assert caught.value.code is ErrorCode.CORRUPT_MESSAGE


def test_a_checksum_of_a_batch_that_is_not_there_as_a_whole_is_refused() -> None:
    buf = batch_of(2)
    header = read_header(buf)
    with pytest.raises(CorruptBatch):
        verify_crc(buf[:-1], header)
    with pytest.raises(CorruptBatch):
        verify_crc(buf, header, 1)


@pytest.mark.parametrize("size", [0, 11, 16, 17, 60])
def test_a_buffer_that_ends_within_the_header_is_corrupt(size: int) -> None:
    with pytest.raises(CorruptBatch):
        read_header(packed()[:size])


@pytest.mark.parametrize("length", [48, 0, -1, -(2**31)])
def test_a_length_below_a_headers_is_corrupt(length: int) -> None:
    buf = packed()
    struct.pack_into(">i", buf, 8, length)
    with pytest.raises(CorruptBatch):
        read_header(buf)
    with pytest.raises(CorruptBatch):
        batch_size_bytes(buf)
    with pytest.raises(CorruptBatch):
        list(iter_batches(buf))


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("size", [30, 70])
def test_an_old_message_is_told_from_garbage_even_where_it_is_shorter(
    magic: int, size: int
) -> None:
    buf = bytearray(size)
    struct.pack_into(">qiIb", buf, 0, 0, size - 12, 0, magic)
    with pytest.raises(UnsupportedMagic) as caught:
        read_header(buf)
    assert caught.value.code is ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
    with pytest.raises(UnsupportedMagic):
        list(iter_batches(buf))


@pytest.mark.parametrize("magic", [3, 127, 255])
def test_a_magic_that_never_was_is_corrupt(magic: int) -> None:
    buf = packed()
    buf[16] = magic
    with pytest.raises(CorruptBatch):
        read_header(buf)
    with pytest.raises(CorruptBatch):
        list(iter_batches(buf[:40]))


def test_size_is_known_from_the_first_twelve_bytes() -> None:
    assert batch_size_bytes(b"xx" + packed()[:12], 2) == HEADER_BYTES + 5
    with pytest.raises(CorruptBatch):
        batch_size_bytes(packed()[:11])


@pytest.mark.parametrize("cut", [1, 11, 40, 61, 62])
def test_iteration_stops_silently_at_a_batch_cut_short(cut: int) -> None:
    first, second = batch_of(3), batch_of(1)
    buf = bytes(first + second + second[:cut])
    found = list(iter_batches(buf))
    assert [position for position, _ in found] == [0, len(first)]
    assert [header.record_count for _, header in found] == [3, 1]


def test_iteration_over_nothing_finds_nothing() -> None:
    assert list(iter_batches(b"")) == []


def test_every_refusal_is_a_kafka_error() -> None:
    for error in (CorruptBatch("why"), UnsupportedMagic(1), UnsupportedCompression(5)):
        assert isinstance(error, KafkaError)

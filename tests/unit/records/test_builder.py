"""A builder knows its batch's size, refuses what no batch can hold, and can be built again."""

from __future__ import annotations

import pytest

from ottla.records.batch import (
    CompressionType,
    TimestampType,
    read_header,
    verify_crc,
)
from ottla.records.builder import BatchBuilder, build_batch
from ottla.records.codec import Record, decode_batch


def test_a_built_batch_has_everything_a_broker_checks() -> None:
    builder = BatchBuilder(compression=CompressionType.LZ4, max_bytes=16_384)
    assert builder.append(1000, b"k", b"a") == 0
    assert builder.append(900, None, b"b", [("h", None)]) == 1
    assert builder.append(1100, None, None) == 2
    batch = builder.build(
        producer_id=77, producer_epoch=4, base_sequence=2**31 - 1, transactional=True
    )
    header = read_header(batch)
    verify_crc(batch, header)
    assert header.size_bytes == len(batch)
    assert (header.base_offset, header.leader_epoch, header.magic) == (0, -1, 2)
    assert (header.last_offset_delta, header.record_count) == (2, 3)
    assert (header.base_timestamp_ms, header.max_timestamp_ms) == (1000, 1100)
    assert (header.producer_id, header.producer_epoch) == (77, 4)
    assert (header.base_sequence, header.last_sequence) == (2**31 - 1, 1)
    assert header.compression is CompressionType.LZ4
    assert header.timestamp_type is TimestampType.CREATE_TIME
    assert header.is_transactional
    assert not header.is_control
    assert decode_batch(batch) == [
        Record(0, 1000, b"k", b"a", []),
        Record(1, 900, None, b"b", [("h", None)]),
        Record(2, 1100, None, None, []),
    ]


def test_a_batch_without_a_producer_says_so() -> None:
    header = read_header(build_batch([(5, None, b"x", ())]))
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
    assert not header.is_transactional


def test_control_and_append_time_are_bits_of_the_attributes() -> None:
    batch = build_batch(
        [(5, b"\0\0\0\1", b"\0\0\0\0\0\0", ())],
        timestamp_type=TimestampType.LOG_APPEND_TIME,
        transactional=True,
        control=True,
        base_offset=12,
        leader_epoch=3,
    )
    header = read_header(batch)
    assert header.attributes == 0x38
    assert (header.base_offset, header.leader_epoch) == (12, 3)


@pytest.mark.parametrize("value_bytes", [0, 1, 50, 57, 64, 100, 4000, 8190, 8192, 70_000])
@pytest.mark.parametrize("key", [None, b"", b"k" * 63, b"k" * 64, b"k" * 9000])
def test_the_running_size_is_exact_without_compression(value_bytes: int, key: bytes | None) -> None:
    builder = BatchBuilder(max_bytes=1 << 30)
    for index in range(70):
        stamp_ms = 1000 + index * index - 40 * index
        builder.append(stamp_ms, key, bytes(value_bytes), [("header", b"x")] * (index % 70))
        builder.append(stamp_ms, key, None)
        assert index % 20 or builder.size_bytes == len(builder.build())
    assert builder.size_bytes == len(builder.build())
    assert len(builder) == 140


def test_the_running_size_is_exact_past_8192_records() -> None:
    builder = BatchBuilder(max_bytes=1 << 30)
    for index in range(8195):
        builder.append(5 + index * 1000, None, b"v")
    assert builder.size_bytes == len(builder.build())


def test_a_full_builder_takes_no_more_and_never_passes_its_size() -> None:
    builder = BatchBuilder(max_bytes=1000)
    while builder.append(1000, None, b"v" * 90) is not None:
        pass
    assert 890 < len(builder.build()) <= 1000
    assert builder.append(1000, None, b"v" * 90) is None
    assert len(builder) == len(decode_batch(builder.build()))
    assert builder.append(1000, None, b"") is not None, "a smaller one may still fit"


def test_the_first_record_always_fits() -> None:
    builder = BatchBuilder(max_bytes=0)
    assert builder.append(1000, None, bytes(5000)) == 0
    assert builder.append(1000, None, b"") is None


def test_an_expected_ratio_lets_more_into_a_compressed_batch() -> None:
    def filled(compression: CompressionType, ratio: float) -> BatchBuilder:
        builder = BatchBuilder(compression=compression, max_bytes=4096, expected_ratio=ratio)
        while builder.append(1000, None, b"v" * 90) is not None:
            pass
        return builder

    plain = len(filled(CompressionType.NONE, 0.25))
    assert len(filled(CompressionType.ZSTD, 1.0)) == plain
    assert 3 * plain < len(filled(CompressionType.ZSTD, 0.25)) < 4 * plain
    assert filled(CompressionType.ZSTD, 0.0).records_bytes < 4096 * 257
    assert filled(CompressionType.ZSTD, 0.25).size_bytes <= 4096


def test_building_again_gives_the_same_records_to_another_producer() -> None:
    builder = BatchBuilder(max_bytes=1000)
    builder.append(1000, b"k", b"v")
    first = builder.build(producer_id=1, producer_epoch=0, base_sequence=5)
    second = builder.build(producer_id=1, producer_epoch=1, base_sequence=0)
    assert decode_batch(first) == decode_batch(second)
    assert read_header(second).producer_epoch == 1
    assert builder.build(producer_id=1, producer_epoch=0, base_sequence=5) == first


def test_mutable_keys_and_values_are_copied_when_they_are_appended() -> None:
    builder = BatchBuilder(max_bytes=1000)
    key, value, header = bytearray(b"key"), bytearray(b"value"), bytearray(b"header")
    builder.append(1000, key, memoryview(value), [("h", header)])  # type: ignore[arg-type]
    key[:], value[:], header[:] = b"KEY", b"VALUE", b"HEADER"
    (record,) = decode_batch(builder.build())
    assert record == Record(0, 1000, b"key", b"value", [("h", b"header")])


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ((1000, "text", b"v", ()), TypeError),
        ((1000, b"k", "text", ()), TypeError),
        ((1000, b"k", 5, ()), TypeError),
        ((1000, b"k", b"v", [(b"not text", b"v")]), TypeError),
        ((1000, b"k", b"v", [("h", "text")]), TypeError),
        ((1000, b"k", b"v", [("\ud800", b"")]), ValueError),
        ((-2, b"k", b"v", ()), ValueError),
        ((2**63, b"k", b"v", ()), ValueError),
    ],
)
def test_what_no_batch_can_hold_is_refused_and_leaves_the_others_alone(
    record: tuple[object, ...], error: type[Exception]
) -> None:
    builder = BatchBuilder(max_bytes=1000)
    builder.append(1000, None, b"good")
    with pytest.raises(error):
        builder.append(*record)  # type: ignore[arg-type]
    assert [found.value for found in decode_batch(builder.build())] == [b"good"]
    assert builder.size_bytes == len(builder.build())


def test_a_batch_of_no_records_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="needs a record"):
        BatchBuilder(max_bytes=1000).build()

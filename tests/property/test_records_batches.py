"""Record batches under any records and any bytes.

Any records come back from a batch of any codec, as we and as aiokafka read it. Any bytes in place of
a batch give a ``KafkaError`` or records, within the bound on memory, and never another exception.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.errors import KafkaError
from ottla.records.batch import (
    HEADER_BYTES,
    CompressionType,
    iter_batches,
    pack_header,
    read_header,
    stamp_log_append_time,
    verify_crc,
)
from ottla.records.builder import BatchBuilder, build_batch
from ottla.records.codec import (
    NewRecord,
    decode_batch,
    iter_keys,
    offset_of_timestamp,
    require_keys,
)
from ottla.records.compression import compress, decompress, recompress

pytestmark = pytest.mark.usefixtures("each_codec")

BOUND_BYTES = 256 * 1024
# A record takes 7 bytes at least and becomes some 300 bytes of objects.
OBJECTS_PER_BYTE = 64

codecs = st.sampled_from(list(CompressionType))
contents = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.builds(lambda size: b"x" * size, st.sampled_from([63, 64, 3999, 4000, 8191, 8192, 40_000])),
)
timestamps = st.one_of(st.integers(-1, 200), st.integers(-1, 2**63 - 1), st.just(1_700_000_000_000))
header_lists = st.lists(
    st.tuples(st.text(max_size=8), st.one_of(st.none(), st.binary(max_size=70))), max_size=3
)
records_lists: st.SearchStrategy[list[NewRecord]] = st.lists(
    st.tuples(timestamps, contents, contents, header_lists), min_size=1, max_size=70
)


@given(records_lists, codecs, st.integers(0, 2**62), st.booleans())
@settings(deadline=None, max_examples=150)
def test_any_records_come_back_from_a_batch(
    records: list[NewRecord], kind: CompressionType, base_offset: int, transactional: bool
) -> None:
    batch = build_batch(
        records, compression=kind, base_offset=base_offset, transactional=transactional
    )
    header = read_header(batch)
    verify_crc(batch, header)
    assert header.max_timestamp_ms == max(record[0] for record in records)
    decoded = decode_batch(batch)
    assert [(r.timestamp_ms, r.key, r.value, r.headers) for r in decoded] == [
        (timestamp_ms, key, value, headers) for timestamp_ms, key, value, headers in records
    ]
    assert [r.offset for r in decoded] == list(range(base_offset, header.next_offset))
    assert list(iter_keys(batch)) == [(r.offset, r.key) for r in decoded]


@given(records_lists, codecs, timestamps, st.booleans())
@settings(deadline=None, max_examples=80)
def test_look_up_by_timestamp_agrees_with_a_scan(
    records: list[NewRecord], kind: CompressionType, timestamp_ms: int, append_time: bool
) -> None:
    batch = build_batch(records, compression=kind, base_offset=10)
    if append_time:
        stamp_log_append_time(batch, 1000)
    scanned = [(r.offset, r.timestamp_ms) for r in decode_batch(batch)]
    later = [found for found in scanned if found[1] >= timestamp_ms]
    assert offset_of_timestamp(batch, timestamp_ms) == (later[0] if later else None)


@given(records_lists, st.integers(0, 20_000))
@settings(deadline=None, max_examples=80)
def test_a_builders_size_is_exact_and_bounded(records: list[NewRecord], max_bytes: int) -> None:
    builder = BatchBuilder(max_bytes=max_bytes)
    taken = [record for record in records if builder.append(*record) is not None]
    batch = builder.build()
    assert builder.size_bytes == len(batch)
    assert len(batch) <= max_bytes or len(taken) == 1
    assert batch == build_batch(taken)


@given(records_lists, codecs, codecs)
@settings(deadline=None, max_examples=60)
def test_recompression_keeps_the_records(
    records: list[NewRecord], source: CompressionType, target: CompressionType
) -> None:
    batch = build_batch(records, compression=source)
    rewritten = recompress(batch, target)
    verify_crc(rewritten, read_header(rewritten))
    assert decode_batch(rewritten) == decode_batch(batch)


@given(st.binary(max_size=2000), st.integers(1, 200), codecs)
@settings(deadline=None)
def test_any_data_comes_back_from_a_codec(data: bytes, times: int, kind: CompressionType) -> None:
    whole = data * times
    assert decompress(kind, compress(kind, whole), max_bytes=len(whole)) == whole


@st.composite
def mutated_batches(draw: st.DrawFn) -> bytearray:
    """A valid batch with some bytes changed, cut out, put in or cut off; sometimes re-checksummed."""
    batch = build_batch(draw(records_lists), compression=draw(codecs))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, min(len(batch), 300)))
        match draw(st.sampled_from(["set", "set", "insert", "delete", "cut"])):
            case "set":
                batch[position : position + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                batch[position:position] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del batch[position : position + draw(st.integers(1, 8))]
            case "cut":
                del batch[max(position, HEADER_BYTES) :]
    if len(batch) >= HEADER_BYTES and draw(st.booleans()):
        batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
        batch[16] = 2
        pack_header(batch, read_header(batch))
    return batch


READERS: list[Callable[[bytearray], object]] = [
    lambda buf: decode_batch(buf, max_decompressed_bytes=BOUND_BYTES),
    lambda buf: list(iter_keys(buf, max_decompressed_bytes=BOUND_BYTES)),
    lambda buf: require_keys(buf, max_decompressed_bytes=BOUND_BYTES),
    lambda buf: offset_of_timestamp(buf, 100, max_decompressed_bytes=BOUND_BYTES),
    lambda buf: recompress(buf, CompressionType.LZ4, max_decompressed_bytes=BOUND_BYTES),
    lambda buf: [verify_crc(buf, header, position) for position, header in iter_batches(buf)],
    lambda buf: stamp_log_append_time(bytearray(buf), 1000),
]


def check_every_reader(buf: bytearray) -> None:
    tracemalloc.start()
    try:
        for reader in READERS:
            with suppress(KafkaError):
                reader(buf)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < OBJECTS_PER_BYTE * (BOUND_BYTES + len(buf))


@given(mutated_batches())
@settings(deadline=None, max_examples=300)
def test_a_mutated_batch_is_an_error_or_records_and_nothing_else(batch: bytearray) -> None:
    check_every_reader(batch)


@given(st.binary(max_size=400), codecs)
@settings(deadline=None, max_examples=150)
def test_any_bytes_behind_a_valid_header_are_an_error_or_records(
    data: bytes, kind: CompressionType
) -> None:
    template = read_header(build_batch([(5, None, b"", ())] * 3, compression=kind))
    buf = bytearray(HEADER_BYTES) + data
    pack_header(buf, template._replace(length=49 + len(data)))
    check_every_reader(buf)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=100)
def test_any_bytes_at_all_are_an_error_or_records(data: bytes) -> None:
    check_every_reader(bytearray(data))


@given(st.binary(max_size=200), codecs, st.integers(0, 1000))
@settings(deadline=None)
def test_any_bytes_decompress_within_their_bound_or_not_at_all(
    data: bytes, kind: CompressionType, max_bytes: int
) -> None:
    with suppress(KafkaError):
        assert len(decompress(kind, data, max_bytes=max_bytes)) <= max_bytes

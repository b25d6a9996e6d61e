"""Every codec's framing is what other clients read, and no frame makes a reader exceed its bound."""

from __future__ import annotations

import gzip
import struct
import zlib

import cramjam
import pytest

from ottla.errors import ErrorCode
from ottla.records.batch import (
    HEADER_BYTES,
    CompressionType,
    CorruptBatch,
    UnsupportedCompression,
    read_header,
    stamp,
    verify_crc,
)
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.records.compression import (
    XERIAL_BLOCK_BYTES,
    DecompressedTooLarge,
    compress,
    decompress,
    recompress,
)

CODECS = [kind for kind in CompressionType if kind is not CompressionType.NONE]
SAMPLES = [b"", b"x", b"abc" * 5, bytes(range(256)) * 400, b"\x82SNAPPY\x00", bytes(300_000)]


@pytest.mark.parametrize("kind", CompressionType)
@pytest.mark.parametrize("data", SAMPLES, ids=len)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_what_was_compressed_comes_back_under_its_exact_bound(
    kind: CompressionType, data: bytes, wrap: type
) -> None:
    packed = compress(kind, wrap(data))
    assert decompress(kind, wrap(packed), max_bytes=len(data)) == data
    assert decompress(kind, packed, max_bytes=1 << 30) == data


@pytest.mark.parametrize("kind", CompressionType)
@pytest.mark.parametrize("data", [sample for sample in SAMPLES if sample], ids=len)
def test_one_byte_over_the_bound_is_too_large(kind: CompressionType, data: bytes) -> None:
    with pytest.raises(DecompressedTooLarge) as caught:
        decompress(kind, compress(kind, data), max_bytes=len(data) - 1)
    assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
    assert not caught.value.retriable


@pytest.mark.parametrize("kind", CODECS)
def test_a_stream_cut_short_is_corrupt(kind: CompressionType) -> None:
    packed = compress(kind, bytes(range(256)) * 400)
    for size in (0, 1, 3, 10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(CorruptBatch):
            decompress(kind, packed[:size], max_bytes=1 << 20)


@pytest.mark.parametrize("kind", CODECS)
def test_garbage_is_corrupt(kind: CompressionType) -> None:
    with pytest.raises(CorruptBatch) as caught:
        decompress(kind, b"\xff" * 100, max_bytes=1 << 20)
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE


def test_snappy_is_written_in_xerial_blocks_of_32_kib() -> None:
    data = bytes(range(256)) * 300
    packed = compress(CompressionType.SNAPPY, data)
    assert packed[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    position, plain = 16, []
    while position < len(packed):
        (length,) = struct.unpack_from(">i", packed, position)
        block = packed[position + 4 : position + 4 + length]
        plain.append(bytes(cramjam.snappy.decompress_raw(block)))
        position += 4 + length
    assert b"".join(plain) == data
    assert [len(block) for block in plain[:-1]] == [XERIAL_BLOCK_BYTES] * (len(plain) - 1)


def test_raw_snappy_is_read_as_librdkafka_writes_it() -> None:
    data = b"some record " * 1000
    raw = bytes(cramjam.snappy.compress_raw(data))
    assert decompress(CompressionType.SNAPPY, raw, max_bytes=len(data)) == data


def test_xerial_versions_in_the_other_byte_order_are_read() -> None:
    data = b"some record " * 1000
    packed = bytearray(compress(CompressionType.SNAPPY, data))
    packed[8:16] = struct.pack("<ii", 1, 1)
    assert decompress(CompressionType.SNAPPY, packed, max_bytes=len(data)) == data


def test_xerial_streams_behind_each_other_are_read_as_one() -> None:
    packed = compress(CompressionType.SNAPPY, b"one ") + compress(CompressionType.SNAPPY, b"two")
    assert decompress(CompressionType.SNAPPY, packed, max_bytes=100) == b"one two"


def test_a_snappy_length_that_its_bytes_cannot_hold_is_refused_before_allocating() -> None:
    declares_4_gib = b"\xff\xff\xff\xff\x0f" + b"\x00" * 20
    with pytest.raises(CorruptBatch):
        decompress(CompressionType.SNAPPY, declares_4_gib, max_bytes=1 << 40)


@pytest.mark.parametrize("length", [-1, 0, 5, 2**31 - 1])
def test_a_xerial_block_beyond_the_stream_is_corrupt(length: int) -> None:
    packed = compress(CompressionType.SNAPPY, b"")
    with pytest.raises(CorruptBatch):
        decompress(
            CompressionType.SNAPPY, packed + struct.pack(">i", length) + b"abc", max_bytes=99
        )


def test_lz4_blocks_are_independent_and_carry_no_content_checksum() -> None:
    packed = compress(CompressionType.LZ4, bytes(300_000))
    flags = packed[4]
    assert packed[:4] == b"\x04\x22\x4d\x18"
    assert flags >> 6 == 1, "frame version"
    assert flags & 0x20, "independent blocks: Java's reader refuses linked ones"
    assert not flags & 0x04, "content checksum"


def test_linked_lz4_blocks_with_a_declared_size_are_read() -> None:
    data = bytes(range(256)) * 1000
    packed = bytes(cramjam.lz4.compress(data))
    assert decompress(CompressionType.LZ4, packed, max_bytes=len(data)) == data


def test_lz4_declaring_more_than_the_bound_is_too_large_whatever_follows() -> None:
    frame = b"\x04\x22\x4d\x18\x68\x40" + struct.pack("<Q", 2**40) + b"\x00" * 10
    with pytest.raises(DecompressedTooLarge):
        decompress(CompressionType.LZ4, frame, max_bytes=1 << 20)


def test_zstd_frames_without_a_declared_size_are_read() -> None:
    data = bytes(range(256)) * 5000
    compressor = cramjam.zstd.Compressor(3)
    compressor.compress(data)
    assert decompress(CompressionType.ZSTD, bytes(compressor.finish()), max_bytes=len(data)) == data


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_791, 65_792, 100_000])
def test_every_width_of_zstds_declared_size_is_understood(size: int) -> None:
    packed = compress(CompressionType.ZSTD, bytes(size))
    assert decompress(CompressionType.ZSTD, packed, max_bytes=size) == bytes(size)
    with pytest.raises(DecompressedTooLarge):
        decompress(CompressionType.ZSTD, packed, max_bytes=size - 1)


def test_zstd_declaring_256_mib_is_too_large_before_anything_is_decompressed() -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes((0xE0,)) + struct.pack("<Q", 256 << 20)
    with pytest.raises(DecompressedTooLarge):
        decompress(CompressionType.ZSTD, frame, max_bytes=1 << 20)


@pytest.mark.parametrize("kind", [CompressionType.LZ4, CompressionType.ZSTD])
def test_frames_behind_each_other_are_bounded_together(kind: CompressionType) -> None:
    packed = compress(kind, bytes(100_000)) * 5
    assert decompress(kind, packed, max_bytes=500_000) == bytes(500_000)
    with pytest.raises(DecompressedTooLarge):
        decompress(kind, packed, max_bytes=499_999)


def test_gzip_members_behind_each_other_are_read_up_to_a_number() -> None:
    packed = gzip.compress(b"ab") * 3
    assert decompress(CompressionType.GZIP, packed, max_bytes=6) == b"ababab"
    with pytest.raises(DecompressedTooLarge):
        decompress(CompressionType.GZIP, packed, max_bytes=5)
    with pytest.raises(CorruptBatch):
        decompress(CompressionType.GZIP, gzip.compress(b"") * 100, max_bytes=5)


def test_gzip_is_one_member_that_any_reader_opens() -> None:
    assert gzip.decompress(compress(CompressionType.GZIP, b"abc" * 100)) == b"abc" * 100


@pytest.mark.parametrize("kind", CODECS)
def test_a_bomb_costs_no_more_than_its_bound(kind: CompressionType) -> None:
    if kind is CompressionType.GZIP:
        bomb = zlib.compress(bytes(64 << 20), 9, 31)
    else:
        bomb = compress(kind, bytes(64 << 20))
    with pytest.raises(DecompressedTooLarge):
        decompress(kind, bomb, max_bytes=1 << 20)


@pytest.mark.parametrize("source", CompressionType)
@pytest.mark.parametrize("target", CompressionType)
def test_recompressing_changes_the_codec_and_nothing_else(
    source: CompressionType, target: CompressionType
) -> None:
    records = [(1000 + index, b"key", b"value" * 50, [("h", b"x")]) for index in range(100)]
    batch = build_batch(
        records,
        compression=source,
        producer_id=9,
        producer_epoch=1,
        base_sequence=44,
        transactional=True,
    )
    stamp(batch, 5000, 3)
    before = read_header(batch)
    rewritten = recompress(memoryview(batch), target)
    after = read_header(rewritten)
    verify_crc(rewritten, after)
    assert after.size_bytes == len(rewritten)
    assert after.compression is target
    assert after._replace(length=0, crc=0, attributes=0) == before._replace(
        length=0, crc=0, attributes=0
    )
    assert after.attributes & ~7 == before.attributes & ~7
    assert decode_batch(rewritten) == decode_batch(batch)


def test_recompressing_keeps_the_bound_and_needs_a_whole_batch_of_a_known_codec() -> None:
    records = [(0, None, bytes(10_000), ())]
    batch = build_batch(records, compression=CompressionType.ZSTD)
    with pytest.raises(DecompressedTooLarge):
        recompress(batch, CompressionType.NONE, max_decompressed_bytes=9_999)
    with pytest.raises(CorruptBatch):
        recompress(batch[:-1], CompressionType.NONE)
    with pytest.raises(CorruptBatch):
        recompress(batch[: HEADER_BYTES - 1], CompressionType.NONE)
    batch[22] |= 7
    with pytest.raises(UnsupportedCompression):
        recompress(batch, CompressionType.NONE)

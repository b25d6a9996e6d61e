"""The four codecs of record batches, in the framings that every Kafka client reads.

What is written, and why:

- gzip: one member, level 6, as Java does.
- snappy: xerial framing (16 bytes of header, then blocks of 32 KiB, each behind its length). It is
  what Kafka itself writes. Both framings are common (librdkafka writes raw snappy) and Java's
  ``SnappyInputStream``, librdkafka, kafka-python and aiokafka read both, so both are read here;
  but Java must buffer raw snappy as a whole, and xerial's blocks let a reader bound its memory.
- lz4: frames of independent blocks of 64 KiB without content checksum, by the fast compressor, as
  Java does. Java's ``Lz4BlockInputStream`` refuses linked blocks, and the batch has a checksum of
  its own.
- zstd: one frame, level 3, as Java does.

What is read is bounded by ``max_bytes``: what a frame declares is compared with it before anything
is allocated, and what a frame doesn't declare is decompressed into a buffer that grows up to it, so
that a small bomb costs the bound and not what it pretends to hold.

``cramjam`` and ``zlib`` are imported when they are first used: a broker that passes batches through
never needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from struct import Struct
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.records.batch import (
    COMPRESSION_MASK,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    Bytes,
    CompressionType,
    CorruptBatch,
    pack_header,
    read_header,
)

if TYPE_CHECKING:
    from types import ModuleType

MAX_DECOMPRESSED_BYTES = 128 * 1024 * 1024
"""The bound where the caller has none of his own: well above any sane ``max.message.bytes``."""

GZIP_LEVEL = 6
LZ4_LEVEL = 1
ZSTD_LEVEL = 3
XERIAL_BLOCK_BYTES = 32 * 1024

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK_LENGTH = Struct(">i")
# The densest snappy element makes 64 bytes of 3 (format_description.txt, "copy with 2-byte offset").
_SNAPPY_EXPANSION_MAX = 22
_GZIP_WINDOW_BITS = 31  # zlib's way to say "with gzip's header and trailer"
# Each member costs a copy of what follows it; a real batch has one.
_GZIP_MEMBERS_MAX = 64
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_LZ4_CONTENT_SIZE_FLAG = 0x08
_FIRST_OUTPUT_BYTES = 64 * 1024
_OUTPUT_GROWTH = 8
_PLAUSIBLE_RATIO = 256


class DecompressedTooLarge(KafkaError):
    """The records would be larger than the bound (MESSAGE_TOO_LARGE).

    Not a retriable code, and one on which producers split a batch and send its halves.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            ErrorCode.MESSAGE_TOO_LARGE, f"the batch decompresses to more than {max_bytes} bytes"
        )


def compress(kind: CompressionType, data: Bytes) -> bytes:
    """``data`` under the codec ``kind``; a copy of it for ``NONE``."""
    return _COMPRESSORS[kind](data)


def decompress(kind: CompressionType, data: Bytes, *, max_bytes: int) -> bytes:
    """What ``data`` holds under the codec ``kind``: at most ``max_bytes``.

    Raises ``DecompressedTooLarge`` beyond the bound and ``CorruptBatch`` for bytes that the codec
    can't read to their end.
    """
    return _DECOMPRESSORS[kind](data, max_bytes)


def recompress(
    batch: Bytes,
    kind: CompressionType,
    *,
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
) -> bytearray:
    """The first batch in ``batch`` with its records under another codec and a new checksum.

    Offsets, timestamps, producer fields and leader epoch stay. The checksum of the old batch is the
    caller's to verify. Raises like ``read_header``, ``BatchHeader.compression`` and ``decompress``.
    """
    header = read_header(batch)
    size_bytes = header.size_bytes
    if size_bytes > len(batch):
        raise CorruptBatch(f"batch of {size_bytes} bytes in {len(batch)}")
    records: Bytes = memoryview(batch)[HEADER_BYTES:size_bytes]
    if header.compression is not kind:
        plain = decompress(header.compression, records, max_bytes=max_decompressed_bytes)
        records = compress(kind, plain)
    attributes = header.attributes & ~COMPRESSION_MASK | kind
    length = HEADER_BYTES - LOG_OVERHEAD_BYTES + len(records)
    rewritten = bytearray(HEADER_BYTES)
    rewritten += records
    pack_header(rewritten, header._replace(length=length, attributes=attributes))
    return rewritten


def _compress_none(data: Bytes) -> bytes:
    return bytes(data)


def _compress_gzip(data: Bytes) -> bytes:
    from zlib import compress as deflate

    return deflate(data, GZIP_LEVEL, _GZIP_WINDOW_BITS)


def _compress_snappy(data: Bytes) -> bytes:
    from cramjam import snappy

    view = memoryview(data)
    chunks = [_XERIAL_HEADER]
    for start in range(0, len(view), XERIAL_BLOCK_BYTES):
        block = bytes(snappy.compress_raw(view[start : start + XERIAL_BLOCK_BYTES]))
        chunks += (_XERIAL_BLOCK_LENGTH.pack(len(block)), block)
    return b"".join(chunks)


def _compress_lz4(data: Bytes) -> bytes:
    from cramjam import lz4

    compressor = lz4.Compressor(LZ4_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(bytes(data))  # it takes nothing else; no copy where it is bytes already
    return bytes(compressor.finish())


def _compress_zstd(data: Bytes) -> bytes:
    from cramjam import zstd

    return bytes(zstd.compress(data, level=ZSTD_LEVEL))


def _decompress_none(data: Bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise DecompressedTooLarge(max_bytes)
    return bytes(data)


def _decompress_gzip(data: Bytes, max_bytes: int) -> bytes:
    import zlib

    left = max_bytes
    chunks = []
    remaining: Bytes = data
    for _ in range(_GZIP_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            # One byte over the bound, so that exactly the bound is told from too much.
            chunk = member.decompress(remaining, left + 1)
        except zlib.error as error:
            raise CorruptBatch(f"gzip: {error}") from None
        left -= len(chunk)
        if left < 0:
            raise DecompressedTooLarge(max_bytes)
        if not member.eof:
            raise CorruptBatch("gzip: the stream ends early")
        chunks.append(chunk)
        remaining = member.unused_data
        if not remaining:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    raise CorruptBatch(f"gzip: more than {_GZIP_MEMBERS_MAX} members")


def _decompress_snappy(data: Bytes, max_bytes: int) -> bytes:
    from cramjam import DecompressionError, snappy

    view = memoryview(data)
    if not view:
        raise CorruptBatch("snappy: no bytes, where even nothing takes one")
    blocks = _xerial_blocks(view) if view[:8] == _XERIAL_MAGIC else [view]
    try:
        sizes = [snappy.decompress_raw_len(block) for block in blocks]
        total = sum(sizes)
        if total > len(view) * _SNAPPY_EXPANSION_MAX:
            raise CorruptBatch(f"snappy: {len(view)} bytes can't hold the {total} they declare")
        if total > max_bytes:
            raise DecompressedTooLarge(max_bytes)
        output = bytearray(total)
        target = memoryview(output)
        position = 0
        for block, size in zip(blocks, sizes, strict=True):
            snappy.decompress_raw_into(block, target[position : position + size])
            position += size
    except DecompressionError as error:
        raise CorruptBatch(f"snappy: {error}") from None
    return bytes(output)


def _xerial_blocks(view: memoryview) -> list[memoryview]:
    """The raw snappy blocks of a xerial stream.

    The header's version fields are not looked at: some producers write them in the other byte
    order. A header in the middle starts a further stream, as Java's reader allows.
    """
    blocks = []
    position = len(_XERIAL_HEADER)
    end = len(view)
    while position < end:
        if view[position : position + len(_XERIAL_MAGIC)] == _XERIAL_MAGIC:
            position += len(_XERIAL_HEADER)
            continue
        start = position + _XERIAL_BLOCK_LENGTH.size
        length = int.from_bytes(view[position:start], "big", signed=True)
        if not 0 < length <= end - start:
            raise CorruptBatch(f"snappy: block of {length} bytes in {end - start}")
        position = start + length
        blocks.append(view[start:position])
    if position > end:
        raise CorruptBatch("snappy: the stream ends within its header")
    return blocks


def _decompress_lz4(data: Bytes, max_bytes: int) -> bytes:
    from cramjam import lz4

    declared = None
    if len(data) >= 14 and data[:4] == _LZ4_MAGIC and data[4] & _LZ4_CONTENT_SIZE_FLAG:
        declared = int.from_bytes(data[6:14], "little")
    return _decompress_into(lz4, data, max_bytes, declared)


def _decompress_zstd(data: Bytes, max_bytes: int) -> bytes:
    from cramjam import zstd

    return _decompress_into(zstd, data, max_bytes, _zstd_content_size(data))


def _zstd_content_size(data: Bytes) -> int | None:
    """What the first frame says it holds (RFC 8878, 3.1.1.1); None where it doesn't say."""
    if len(data) < 5 or data[:4] != _ZSTD_MAGIC:
        return None
    descriptor = data[4]
    single_segment = descriptor >> 5 & 1
    field_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not field_bytes or len(data) < start + field_bytes:
        return None
    size = int.from_bytes(data[start : start + field_bytes], "little")
    return size + 256 if field_bytes == 2 else size


def _decompress_into(codec: ModuleType, data: Bytes, max_bytes: int, declared: int | None) -> bytes:
    """Decompress into a buffer of the declared or a guessed size, and larger ones up to the bound.

    The codec can't write past its buffer, so memory stays within the bound (and the codec's own
    window). A declared size that the data makes implausible is only grown into.
    """
    if declared is not None and declared > max_bytes:
        raise DecompressedTooLarge(max_bytes)
    plausible = max(_FIRST_OUTPUT_BYTES, _PLAUSIBLE_RATIO * len(data))
    guess = _OUTPUT_GROWTH * len(data) + _FIRST_OUTPUT_BYTES if declared is None else declared
    size = min(guess, plausible, max_bytes)
    from cramjam import DecompressionError

    while True:
        # Bytes that are written to before anybody sees them: a copy of 48 MiB keeps all threads waiting for 20 ms.
        output = BytesIO(bytes(size))
        try:
            with output.getbuffer() as view:
                written = codec.decompress_into(data, view)
        except DecompressionError as error:
            if str(error) != _too_small_message(codec):
                raise CorruptBatch(f"{codec.__name__.rpartition('.')[2]}: {error}") from None
            if size >= max_bytes:
                raise DecompressedTooLarge(max_bytes) from None
            size = min(max(size, _FIRST_OUTPUT_BYTES) * _OUTPUT_GROWTH, max_bytes)
        else:
            output.truncate(written)
            return output.getvalue()


_too_small_messages: dict[str, str] = {}


def _too_small_message(codec: ModuleType) -> str:
    """What the codec says when its output doesn't fit, asked once by making it happen.

    The package has one exception for everything, and its words may change between versions.
    """
    message = _too_small_messages.get(codec.__name__)
    if message is None:
        from cramjam import DecompressionError

        try:
            codec.decompress_into(bytes(codec.compress(b"four")), bytearray(1))
        except DecompressionError as error:
            message = str(error)
        else:
            message = ""
        _too_small_messages[codec.__name__] = message
    return message


_COMPRESSORS: dict[CompressionType, Callable[[Bytes], bytes]] = {
    CompressionType.NONE: _compress_none,
    CompressionType.GZIP: _compress_gzip,
    CompressionType.SNAPPY: _compress_snappy,
    CompressionType.LZ4: _compress_lz4,
    CompressionType.ZSTD: _compress_zstd,
}
_DECOMPRESSORS: dict[CompressionType, Callable[[Bytes, int], bytes]] = {
    CompressionType.NONE: _decompress_none,
    CompressionType.GZIP: _decompress_gzip,
    CompressionType.SNAPPY: _decompress_snappy,
    CompressionType.LZ4: _decompress_lz4,
    CompressionType.ZSTD: _decompress_zstd,
}

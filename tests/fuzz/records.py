"""Record batches: headers, all codecs (bounded), every reader of what lies inside, and the builder.

An input's first byte says which; for a batch, the rest are a batch or several. Each input is for both copies of
the record loops: what atheris sees of the interpreted one leads it through the compiled one, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ottla.errors import KafkaError
from ottla.records import codec, compression
from ottla.records.batch import CompressionType, iter_batches, read_header, verify_crc
from ottla.records.builder import build_batch
from ottla.records.chosen_loops import find_compiled
from tests.support.record_codec import COPIES, copy_of_loops

LOOPS = [
    copy_of_loops(name) for name in COPIES if name == "interpreted" or find_compiled().compiled
]
DECOMPRESSED_BYTES_MAX = 1 << 20
BATCH, PLAIN, CODEC, BUILD = range(4)
KINDS = list(CompressionType)
NOW_MS = 1_700_000_000_000


def seeds() -> Iterator[bytes]:
    """Batches under every codec, plain records, compressed bytes, and material for the builder."""
    records = [
        (NOW_MS + n, b"key-%d" % n, b"value" * n, [("header", b"x"), ("null", None)])
        for n in range(5)
    ]
    records.append((NOW_MS, None, None, []))
    for kind in KINDS:
        batch = build_batch(
            records, compression=kind, producer_id=7, producer_epoch=1, base_sequence=3
        )
        yield bytes((BATCH,)) + batch
        yield bytes((BATCH,)) + batch + batch[:70]
        yield bytes((CODEC, kind)) + batch[61:]
        yield bytes((CODEC, kind)) + compression.compress(kind, bytes(3000))
    yield bytes((BATCH,)) + build_batch([(NOW_MS, b"\0\0\0\1", b"\0\0\0\0\0\0", [])], control=True)
    plain = build_batch(records)
    yield bytes((PLAIN, 6, 0)) + plain[61:]
    yield bytes((PLAIN, 6, 8)) + plain[61:]
    yield bytes((BUILD, 2)) + bytes(range(100))


def one(data: bytes) -> None:
    """Read ``data`` in every way there is, with each copy of the record loops."""
    if len(data) < 3:
        return
    before = codec.loops
    try:
        for codec.loops in LOOPS:
            _read(data)
    finally:
        codec.loops = before


def _read(data: bytes) -> None:
    kind = data[0] % 4
    if kind == BATCH:
        _batches(data[1:])
    elif kind == PLAIN:
        _plain(data[3:], data[1], data[2])
    elif kind == CODEC:
        try:
            plain = compression.decompress(
                KINDS[data[1] % len(KINDS)], data[2:], max_bytes=DECOMPRESSED_BYTES_MAX
            )
            assert len(plain) <= DECOMPRESSED_BYTES_MAX
        except KafkaError:
            pass
    else:
        _build(data[1:])


def _batches(data: bytes) -> None:
    readers = (
        lambda at, header: verify_crc(data, header, at),
        lambda at, header: codec.decode_batch(
            data, position=at, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX
        ),
        lambda at, header: list(
            codec.iter_keys(data, position=at, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX)
        ),
        lambda at, header: codec.require_keys(
            data, position=at, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX
        ),
        lambda at, header: codec.offset_of_timestamp(
            data,
            header.max_timestamp_ms,
            position=at,
            max_decompressed_bytes=DECOMPRESSED_BYTES_MAX,
        ),
        lambda at, header: compression.recompress(
            memoryview(data)[at:],
            KINDS[at % len(KINDS)],
            max_decompressed_bytes=DECOMPRESSED_BYTES_MAX,
        ),
    )
    try:
        found = list(iter_batches(data))
    except KafkaError:
        found = []
        try:
            found = [(0, read_header(data))]
        except KafkaError:
            return
    for at, header in found[:20]:
        for read in readers:
            try:
                read(at, header)
            except KafkaError:
                continue


def _plain(data: bytes, count: int, attributes: int) -> None:
    """The bytes behind a header that fits them."""
    whole = build_batch([(NOW_MS, b"k", b"v", [])])
    header = read_header(whole)._replace(
        record_count=count,
        attributes=attributes & 0x78,
        length=49 + len(data),
        last_offset_delta=max(count - 1, 0),
    )
    batch = bytes(whole[:61]) + data
    try:
        decoded = codec.decode_batch(batch, header=header)
    except KafkaError:
        decoded = None
    try:
        places = list(codec.iter_places(data, header))
    except KafkaError:
        places = None
    if decoded is not None:
        assert places is not None
        assert [place.offset for place in places] == [record.offset for record in decoded]
        assert [place.key for place in places] == [record.key for record in decoded]
    with contextlib.suppress(KafkaError):
        codec.with_base_timestamp(data, header, NOW_MS - count)


def _build(data: bytes) -> None:
    """Records that the input describes, there and back under every codec."""
    kind = KINDS[data[0] % len(KINDS)]
    records = []
    at = 1
    while at + 4 <= len(data) and len(records) < 200:
        key_bytes, value_bytes, headers, shift = data[at : at + 4]
        at += 4
        key = None if key_bytes == 255 else data[at : at + key_bytes]
        value = None if value_bytes == 255 else data[at : at + value_bytes * 3]
        names = [(f"h{n}é", None if n % 3 == 0 else bytes(n)) for n in range(headers % 4)]
        records.append((NOW_MS + shift * shift * 997, key, value, names))
        at += max(0 if key is None else len(key), 1)
    if not records:
        return
    batch = bytes(build_batch(records, compression=kind))
    header = read_header(batch)
    verify_crc(batch, header)
    found = codec.decode_batch(batch)
    assert [(r.timestamp_ms, r.key, r.value, r.headers) for r in found] == records

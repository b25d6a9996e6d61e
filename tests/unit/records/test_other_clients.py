"""The same batches as aiokafka's and kafka-python's builders write, and each reads the other's."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.records.batch import CompressionType, iter_batches, read_header, verify_crc
from ottla.records.builder import build_batch
from ottla.records.codec import NewRecord, decode_batch

aiokafka_records: Any = pytest.importorskip("aiokafka.record.default_records")
aiokafka_memory: Any = pytest.importorskip("aiokafka.record.memory_records")
kafka_records: Any = pytest.importorskip("kafka.record.default_records")
kafka_memory: Any = pytest.importorskip("kafka.record.memory_records")

pytestmark = pytest.mark.interop

# kafka-python needs further packages for the other codecs; aiokafka has them all through cramjam.
KAFKA_PYTHON_CODECS = [CompressionType.NONE, CompressionType.GZIP]
# Level and library are the same here, so the bytes are too; for gzip and lz4 aiokafka takes level 9.
SAME_BYTES = [CompressionType.NONE, CompressionType.SNAPPY, CompressionType.ZSTD]

RECORDS: list[NewRecord] = [
    (1_700_000_000_000, b"key", b"value " * 20, ()),
    (1_700_000_000_007, None, b"no key " * 20, ()),
    (1_700_000_000_003, b"tombstone", None, ()),
    (1_700_000_009_999, None, None, [("a", b"1"), ("a", None), ("ümlaut", b"")]),
    (1_699_999_000_000, b"", b"", ()),
    (1_700_000_500_000, b"k" * 70, b"large " * 20_000, [("trace", b"t" * 90)]),
    *[(1_700_000_600_000 + index, b"%d" % index, b"v" * (index % 150), ()) for index in range(200)],
]
PRODUCER = {"producer_id": 4711, "producer_epoch": 12, "base_sequence": 99}


def built_by(module: Any, kind: CompressionType, *, transactional: bool) -> bytes:
    """The records as the other client's builder writes them."""
    builder = module.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(kind),
        is_transactional=int(transactional),
        batch_size=1 << 30,
        **PRODUCER,
    )
    for offset, (timestamp_ms, key, value, headers) in enumerate(RECORDS):
        builder.append(offset, timestamp_ms, key, value, list(headers))
    return bytes(builder.build())


def fields(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


EXPECTED = [
    (offset, timestamp_ms, key, value, list(headers))
    for offset, (timestamp_ms, key, value, headers) in enumerate(RECORDS)
]


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("kind", SAME_BYTES)
def test_batches_are_aiokafkas_to_the_byte(kind: CompressionType, transactional: bool) -> None:
    theirs = built_by(aiokafka_records, kind, transactional=transactional)
    leader_epoch = read_header(theirs).leader_epoch
    ours = build_batch(
        RECORDS,
        compression=kind,
        transactional=transactional,
        leader_epoch=leader_epoch,
        **PRODUCER,
    )
    assert bytes(ours) == theirs


@pytest.mark.parametrize("transactional", [False, True])
def test_batches_are_kafka_pythons_to_the_byte(transactional: bool) -> None:
    theirs = built_by(kafka_records, CompressionType.NONE, transactional=transactional)
    leader_epoch = read_header(theirs).leader_epoch
    ours = build_batch(RECORDS, transactional=transactional, leader_epoch=leader_epoch, **PRODUCER)
    assert bytes(ours) == theirs


@pytest.mark.parametrize("kind", CompressionType)
def test_aiokafkas_batches_are_read(kind: CompressionType) -> None:
    theirs = built_by(aiokafka_records, kind, transactional=False)
    header = read_header(theirs)
    verify_crc(theirs, header)
    assert header.compression is kind
    assert [tuple(record) for record in decode_batch(theirs)] == EXPECTED


@pytest.mark.parametrize("kind", KAFKA_PYTHON_CODECS)
def test_kafka_pythons_batches_are_read(kind: CompressionType) -> None:
    theirs = built_by(kafka_records, kind, transactional=False)
    header = read_header(theirs)
    verify_crc(theirs, header)
    assert header.compression is kind
    assert [tuple(record) for record in decode_batch(theirs)] == EXPECTED


@pytest.mark.parametrize("kind", CompressionType)
def test_aiokafka_reads_ours(kind: CompressionType) -> None:
    stored = bytes(build_batch(RECORDS, compression=kind, **PRODUCER)) * 2
    records = aiokafka_memory.MemoryRecords(stored)
    for _ in range(2):
        batch = records.next_batch()
        assert batch.validate_crc()
        assert batch.producer_id == 4711
        assert [fields(record) for record in batch] == EXPECTED


@pytest.mark.parametrize("kind", KAFKA_PYTHON_CODECS)
def test_kafka_python_reads_ours(kind: CompressionType) -> None:
    stored = bytes(build_batch(RECORDS, compression=kind, **PRODUCER)) * 2
    records = kafka_memory.MemoryRecords(stored)
    for _ in range(2):
        batch = records.next_batch()
        assert batch.validate_crc()
        assert batch.last_sequence == read_header(stored).last_sequence
        assert [fields(record) for record in batch] == EXPECTED


def test_batches_of_several_clients_lie_behind_each_other() -> None:
    parts = [
        built_by(aiokafka_records, CompressionType.LZ4, transactional=False),
        built_by(kafka_records, CompressionType.GZIP, transactional=False),
        bytes(build_batch(RECORDS)),
    ]
    found = list(iter_batches(b"".join(parts) + parts[0][:100]))
    assert [header.size_bytes for _, header in found] == [len(part) for part in parts]

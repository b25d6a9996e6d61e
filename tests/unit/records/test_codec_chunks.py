"""A batch of very many records is decoded a part at a time, and to the same records."""

from __future__ import annotations

import pytest

from ottla.client.consumer.fetched import FetchedPartition, Reading
from ottla.client.consumer.positions import PartitionState
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError
from ottla.records import codec
from ottla.records.batch import CompressionType, pack_header, read_header
from ottla.records.builder import build_batch
from ottla.records.codec import BatchDecoder, decode_batch, decode_in_chunks, plain_records

NOW_MS = 1_700_000_000_000


def built(count: int, kind: CompressionType = CompressionType.NONE) -> bytearray:
    return bytearray(
        build_batch(
            [(NOW_MS + n * n, b"k%d" % n, b"v", [("h", b"x")]) for n in range(count)],
            compression=kind,
        )
    )


@pytest.mark.parametrize("kind", CompressionType)
@pytest.mark.parametrize("count", [1, 6, 7, 8, 14, 15, 100])
def test_chunks_are_the_batch(
    monkeypatch: pytest.MonkeyPatch, kind: CompressionType, count: int
) -> None:
    batch = built(count, kind)
    monkeypatch.setattr(codec, "CHUNK_RECORDS", 7)
    chunks = list(decode_in_chunks(batch))
    assert [record for records, _ in chunks for record in records] == decode_batch(batch)
    assert max(len(records) for records, _ in chunks) <= 7
    assert [last for _, last in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize("kind", [CompressionType.NONE, CompressionType.GZIP])
@pytest.mark.parametrize("wanted", [1, 6, 99, 100, 101])
def test_a_decoder_gives_as_many_as_are_asked_for(kind: CompressionType, wanted: int) -> None:
    batch = built(100, kind)
    header = read_header(batch)
    decoder = BatchDecoder(plain_records(batch, header), header)
    pieces = []
    while not decoder.exhausted:
        pieces.append(decoder.take(wanted))
    assert [record for records in pieces for record in records] == decode_batch(batch)
    assert {len(records) for records in pieces[:-1]} <= {wanted}


def test_large_records_make_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "CHUNK_BYTES", 100)
    batch = build_batch([(NOW_MS, None, b"v" * 70, [])] * 9)
    chunks = list(decode_in_chunks(batch))
    assert [record for records, _ in chunks for record in records] == decode_batch(batch)
    assert max(len(records) for records, _ in chunks) == 2
    assert [last for _, last in chunks][-1]


@pytest.mark.parametrize("count", [0, 3, 6, 7, 8, 20, 22, 100])
def test_a_count_that_is_not_true_is_found(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(codec, "CHUNK_RECORDS", 7)
    batch = built(21)
    pack_header(batch, read_header(batch)._replace(record_count=count))
    with pytest.raises(KafkaError):
        decode_batch(batch)
    with pytest.raises(KafkaError):
        list(decode_in_chunks(batch))


def fetched(batch: bytes, position: int) -> tuple[FetchedPartition, PartitionState]:
    state = PartitionState(TopicPartition("t", 0))
    state.position = position
    reading = Reading(True, False, None, None)
    return FetchedPartition(state, memoryview(batch), [], reading), state


@pytest.mark.parametrize("position", [0, 3, 7, 16, 20])
@pytest.mark.parametrize("at_once", [3, 7, 100])
def test_a_consumer_sees_every_record_once(
    monkeypatch: pytest.MonkeyPatch, position: int, at_once: int
) -> None:
    monkeypatch.setattr(codec, "CHUNK_RECORDS", 7)
    partition, state = fetched(bytes(built(21)), position)
    seen = []
    while (chunk := partition.take(at_once)) is not None:
        seen += [record.offset for record in chunk.records]
        state.position = chunk.end_offset
    assert seen == list(range(position, 21))
    assert state.position == 21
    assert partition.exhausted


def test_a_consumer_gets_what_is_whole_and_then_the_error_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "CHUNK_RECORDS", 7)
    batch = built(21)
    batch[-2] = 0x7F
    pack_header(batch, read_header(batch))
    partition, state = fetched(bytes(batch), 0)
    for _ in range(2):
        chunk = partition.take(100)
        assert chunk is not None
        state.position = chunk.end_offset
    assert state.position == 14
    with pytest.raises(KafkaError):
        partition.take(100)
    for _ in range(5):  # and never what lies before it, or nothing for ever
        with pytest.raises(KafkaError):
            partition.take(100)
    assert state.position == 14


def test_a_poll_gets_a_list_that_is_its_own() -> None:
    partition, _ = fetched(bytes(built(500)), 0)
    seen: list[int] = []
    while (chunk := partition.take(200)) is not None:
        seen += [record.offset for record in chunk.records]
        chunk.records.clear()
    assert seen == list(range(500))

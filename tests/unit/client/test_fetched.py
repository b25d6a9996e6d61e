"""Records out of fetched batches, chunk by chunk, and what is left out of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ottla.client.consumer.consumer import hand_out
from ottla.client.consumer.cursor import Cursor
from ottla.client.consumer.fetched import Chunk, DeserializationFailed, FetchedPartition, Reading
from ottla.client.consumer.positions import PartitionState
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError
from ottla.records.builder import build_batch

PLAIN = Reading(
    check_crcs=True, read_committed=False, key_deserializer=None, value_deserializer=None
)
COMMITTED = PLAIN._replace(read_committed=True)


def batch(base_offset: int, *values: bytes, **fields: Any) -> bytearray:
    return build_batch([(1, None, v, ()) for v in values], base_offset=base_offset, **fields)


def marker(base_offset: int, producer_id: int, *, commit: bool) -> bytearray:
    return build_batch(
        [(1, struct.pack(">hh", 0, int(commit)), b"\0" * 6, ())],
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=0,
        transactional=True,
        control=True,
    )


def state_at(offset: int) -> PartitionState:
    state = PartitionState(TopicPartition("t", 0))
    state.seek(offset)
    return state


def fetched(
    position: int, *batches: bytearray, aborted: Any = (), reading: Reading = PLAIN
) -> FetchedPartition:
    return FetchedPartition(state_at(position), memoryview(b"".join(batches)), aborted, reading)


def take_all(partition: FetchedPartition, size: int = 1000) -> list[Chunk]:
    chunks = []
    while (chunk := partition.take(size)) is not None:
        chunks.append(chunk)
    assert partition.exhausted
    return chunks


def values(chunks: list[Chunk]) -> list[Any]:
    return [record.value for chunk in chunks for record in chunk.records]


def test_each_batch_is_a_chunk_with_the_position_behind_it() -> None:
    partition = fetched(0, batch(0, b"a", b"b", leader_epoch=3), batch(2, b"c", leader_epoch=4))
    assert (partition.end_offset, partition.last_epoch) == (3, 4)
    one, two = take_all(partition)
    assert [(c.end_offset, c.epoch) for c in (one, two)] == [(2, 3), (3, 4)]
    assert values([one, two]) == [b"a", b"b", b"c"]
    record = one.records[1]
    assert (record.topic, record.partition, record.offset, record.timestamp_ms) == ("t", 0, 1, 1)


def test_a_chunk_is_no_larger_than_asked_for() -> None:
    chunks = take_all(fetched(0, batch(0, b"a", b"b", b"c")), 2)
    assert [(values([c]), c.end_offset) for c in chunks] == [([b"a", b"b"], 2), ([b"c"], 3)]


def test_what_lies_before_the_position_is_left_out() -> None:
    chunks = take_all(fetched(3, batch(0, b"a", b"b"), batch(2, b"c", b"d")))
    assert values(chunks) == [b"d"]


def test_the_end_of_a_compacted_batch_is_behind_its_last_offset() -> None:
    holes = batch(0, b"a", b"b")
    struct.pack_into(">i", holes, 23, 9)  # last offset delta: the records behind b are gone
    reading = PLAIN._replace(check_crcs=False)
    (chunk,) = take_all(fetched(0, holes, reading=reading))
    assert chunk.end_offset == 10


def test_control_batches_are_never_handed_out_but_passed() -> None:
    chunks = take_all(fetched(0, batch(0, b"a"), marker(1, 7, commit=True), batch(2, b"b")))
    assert values(chunks) == [b"a", b"b"]
    assert [chunk.end_offset for chunk in chunks] == [1, 2, 3]


def test_read_committed_leaves_out_aborted_transactions_up_to_their_marker() -> None:
    def transactional(offset: int, producer_id: int, value: bytes) -> bytearray:
        return batch(
            offset,
            value,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )

    batches = [
        transactional(0, 7, b"aborted"),
        transactional(1, 8, b"committed"),
        batch(2, b"plain"),
        transactional(3, 7, b"aborted too"),
        marker(4, 7, commit=False),
        marker(5, 8, commit=True),
        transactional(6, 7, b"second try"),
        marker(7, 7, commit=True),
    ]
    found = take_all(fetched(0, *batches, aborted=[(0, 7)], reading=COMMITTED))
    assert values(found) == [b"committed", b"plain", b"second try"]
    found = take_all(fetched(0, *batches, aborted=[(0, 7)]))
    assert len(values(found)) == 5


def test_a_broken_checksum_is_an_error_unless_it_is_not_checked() -> None:
    broken = batch(0, b"hello")
    broken[-3] ^= 1
    with pytest.raises(KafkaError, match="CORRUPT_MESSAGE"):
        fetched(0, broken).take(10)
    assert len(take_all(fetched(0, broken, reading=PLAIN._replace(check_crcs=False)))) == 1


def test_bytes_without_a_whole_batch_are_an_error() -> None:
    with pytest.raises(KafkaError, match="CORRUPT_MESSAGE"):
        fetched(0, batch(0, b"hello")[:-1])


def test_a_partial_last_batch_is_left_to_the_next_fetch() -> None:
    partition = fetched(0, batch(0, b"a"), batch(1, b"b")[:-1])
    assert values(take_all(partition)) == [b"a"]
    assert partition.end_offset == 1


def test_what_cannot_be_deserialized_stops_there_after_what_came_before() -> None:
    reading = PLAIN._replace(value_deserializer=lambda data: int(data))
    partition = fetched(0, batch(0, b"1", b"x", b"3"), reading=reading)
    chunk = partition.take(10)
    assert chunk is not None
    assert (values([chunk]), chunk.end_offset) == ([1], 1)
    for _ in range(2):
        with pytest.raises(DeserializationFailed) as caught:
            partition.take(10)
        assert caught.value.offset == 1


def test_what_was_taken_before_a_position_jumped_is_not_handed_out() -> None:
    """The synchronous consumer takes in its own thread; meanwhile the loop's hears that the log was cut."""
    state, other = state_at(0), state_at(0)
    chunks = [chunk_of(state, 0, 1, 2), chunk_of(other, 0, 1)]
    state.rewind(1, 0)
    assert [record.offset for record in hand_out(chunks)] == [0, 1]
    assert (state.position, other.position) == (0, 2)


# The cursor


def chunk_of(state: PartitionState, *offsets: int) -> Chunk:
    whole = batch(offsets[0], *(b"%d" % offset for offset in offsets))
    found = FetchedPartition(state, memoryview(whole), (), PLAIN).take(100)
    assert found is not None
    return found


def test_a_record_is_passed_when_the_next_is_asked_for() -> None:
    state, cursor = state_at(0), Cursor()
    cursor.load([chunk_of(state, 0, 1)])
    seen = []
    while (record := cursor.next_record()) is not None:
        seen.append((record.offset, state.position, state.passed))
    assert seen == [(0, 1, 0), (1, 2, 1)]
    assert state.passed == 2


def test_what_is_left_of_a_chunk_goes_to_the_next_poll() -> None:
    state, cursor = state_at(0), Cursor()
    cursor.load([chunk_of(state, 0, 1, 2, 3), chunk_of(state, 4, 5)])
    cursor.next_record()
    first = cursor.rest(2)
    assert [(values([c]), c.end_offset) for c in first] == [([b"1", b"2"], 3)]
    assert [values([c]) for c in cursor.rest(100)] == [[b"3"], [b"4", b"5"]]
    assert cursor.rest(100) == []


def test_a_seek_drops_what_the_cursor_holds() -> None:
    state, cursor = state_at(0), Cursor()
    cursor.load([chunk_of(state, 0, 1, 2), chunk_of(state, 3)])
    cursor.next_record()
    state.seek(7)
    assert cursor.next_record() is None
    assert cursor.rest(100) == []
    assert (state.position, state.passed) == (7, 7)

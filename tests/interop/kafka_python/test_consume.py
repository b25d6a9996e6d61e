"""What kafka-python's consumer may expect of the broker."""

from __future__ import annotations

import pytest

from tests.interop.kafka_python.adapter import (
    MARKS,
    consumer,
    create_topic,
    errors,
    kafka,
    producer,
    send,
    take,
)
from tests.interop.samples import BASE_MS, Sample

pytestmark = MARKS

TopicPartition = kafka.TopicPartition
NUMBERED = [Sample(None, b"%d" % n, (), BASE_MS + n * 1_000) for n in range(20)]


@pytest.fixture
def numbered(bootstrap: str, unused: str) -> str:
    """A topic with 20 records, a second apart, in several batches."""
    create_topic(bootstrap, unused)
    with producer(bootstrap, batch_size=300) as writer:
        send(writer, unused, NUMBERED)
    return unused


def test_reading_starts_wherever_it_is_told_to(bootstrap: str, numbered: str) -> None:
    partition = TopicPartition(numbered, 0)
    with consumer(bootstrap) as reader:
        reader.assign([partition])
        assert take(reader, 1)[0].offset == 0
        reader.seek(partition, 13)
        assert [record.offset for record in take(reader, 7)] == list(range(13, 20))
        reader.seek_to_beginning(partition)
        assert [int(record.value) for record in take(reader, 20)] == list(range(20))
        assert reader.highwater(partition) == 20
        reader.seek_to_end(partition)
        assert reader.position(partition) == 20
        with producer(bootstrap) as writer:
            send(writer, numbered, [Sample(None, b"20")])
        assert [record.value for record in take(reader, 1)] == [b"20"]


def test_offsets_are_found_by_time_and_by_end(bootstrap: str, numbered: str) -> None:
    partition = TopicPartition(numbered, 0)
    with consumer(bootstrap) as reader:
        assert reader.beginning_offsets([partition]) == {partition: 0}
        assert reader.end_offsets([partition]) == {partition: 20}
        for timestamp_ms, offset in [(BASE_MS, 0), (BASE_MS + 6_500, 7), (BASE_MS + 19_000, 19)]:
            found = reader.offsets_for_times({partition: timestamp_ms})
            assert found[partition].offset == offset
            assert found[partition].timestamp == BASE_MS + offset * 1_000
        assert reader.offsets_for_times({partition: BASE_MS + 20_000}) == {partition: None}


def test_an_offset_that_is_not_there_is_an_error_where_the_consumer_wants_one(
    bootstrap: str, numbered: str
) -> None:
    partition = TopicPartition(numbered, 0)
    with consumer(bootstrap, auto_offset_reset="none") as reader:
        reader.assign([partition])
        reader.seek(partition, 1_000)
        with pytest.raises(errors.OffsetOutOfRangeError):
            take(reader, 1)


def test_a_paused_partition_is_silent_until_it_is_resumed(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, 2)
    first, second = TopicPartition(unused, 0), TopicPartition(unused, 1)
    with producer(bootstrap) as writer, consumer(bootstrap) as reader:
        reader.assign([first, second])
        reader.pause(first)
        send(writer, unused, NUMBERED[:3], 0)
        send(writer, unused, NUMBERED[3:6], 1)
        assert [int(record.value) for record in take(reader, 3)] == [3, 4, 5]
        reader.resume(first)
        assert [int(record.value) for record in take(reader, 3)] == [0, 1, 2]


def test_records_of_many_partitions_come_in_each_ones_order(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, 5)
    with producer(bootstrap) as writer:
        for partition in range(5):
            send(writer, unused, NUMBERED, partition)
    got: dict[int, list[int]] = {partition: [] for partition in range(5)}
    with consumer(bootstrap, unused, isolation_level="read_committed") as reader:
        for record in take(reader, 100):
            got[record.partition].append(record.offset)
    assert got == {partition: list(range(20)) for partition in range(5)}
